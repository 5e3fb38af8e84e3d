"""math-verify behind its hard limits."""

import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tokensieve.tasks import math_judge
from tokensieve.tasks.math import check_math
from tokensieve.types import Outcome

AS_MODELS_WRITE = [
    ("\\frac{1}{2}", "**Answer: 1/2**"),
    ("90", "\\boxed{90°}"),
    ("90^\\circ", "\\boxed{90°}"),
    ("90^\\circ", "\\boxed{90}"),
    ("90", "\\boxed{90 \\text{ degrees}}"),
    ("90", "\\boxed{90\\degree}"),
    ("90", "The answer is 90°."),
    ("90", "The answer is 90 degrees."),
    ("2\\sqrt{3}", "\\boxed{2√3}"),
    ("2\\sqrt{3}", "The answer is 2√3."),
    ("\\frac{1}{2}", "\\boxed{½}"),
    ("\\frac{1}{2}", "Answer: ½"),
    ("-3", "\\boxed{−3}"),
    ("-3", "\\boxed{–3}"),
    ("-3", "\\boxed{- 3}"),
    ("x^2", "\\boxed{x²}"),
    ("2\\pi", "\\boxed{2π}"),
    ("2\\pi", "The answer is 2π"),
    ("5", "**Answer:** $x = 5$"),
    ("5", "**Final Answer:** 5"),
    ("5", "The answer is **5**"),
    ("5", "Answer: **5**."),
    ("5", "\\boxed{x = 5}"),
    ("5", "\\boxed{5 \\text{ cm}}"),
    ("5", "\\boxed{\\$5}"),
    ("1250", "\\boxed{1,250}"),
    ("1250", "\\boxed{1\\,250}"),
    ("1250", "\\boxed{1 250}"),
    ("1250", "\\boxed{\\$1,250.00}"),
    ("\\text{(B)}", "\\boxed{B}"),
    ("\\text{(B)}", "\\boxed{\\text{B}}"),
    ("\\text{(B)}", "\\boxed{(B)}"),
    ("\\frac{3}{2}", "\\boxed{1\\frac{1}{2}}"),
    ("\\frac{3}{2}", "\\boxed{1 \\frac{1}{2}}"),
    ("\\frac{3}{2}", "\\boxed{1 1/2}"),
    ("\\frac{3}{2}", "\\boxed{1.5}"),
    ("\\frac{1}{2}", "\\boxed{\\dfrac{1}{2}}"),
    ("\\frac{1}{2}", "\\boxed{ \\frac{ 1 }{ 2 } }"),
    ("\\frac{1}{2}", "\\boxed{1/2}"),
    ("50", "\\boxed{50\\%}"),
    ("50\\%", "\\boxed{50%}"),
    ("50", "\\boxed{50%}"),
    ("[0,\\infty)", "\\boxed{[0, ∞)}"),
    ("(-\\infty,2)\\cup(3,\\infty)", "\\boxed{(−∞, 2) ∪ (3, ∞)}"),
    ("x \\le 3", "\\boxed{x ≤ 3}"),
    ("12", "\\boxed{12\\text{ cm}^2}"),
    ("12", "\\boxed{12 cm²}"),
    ("12", "\\boxed{12 \\text{ square units}}"),
    ("12", "\\boxed{12 square units}"),
    ("5", "Therefore, the answer is \\[ 5 \\]"),
    ("5", "The answer is\n\n\\[ 5 \\]"),
    ("5", "The answer is:\n$$\n5\n$$"),
    ("\\frac{1}{2}", "The final answer is \\frac{1}{2}."),
    ("3", "The answer is 3. Note that 4 + 5 = 9."),
    ("5", "$\\boxed{5}$."),
    ("5", "\\boxed {5}"),
    ("5", "boxed{5}"),
    ("10^6", "\\boxed{1,000,000}"),
    ("1000000", "\\boxed{10^6}"),
    ("6 \\times 10^3", "\\boxed{6000}"),
    ("(3,4)", "\\boxed{(3, 4)}"),
    ("5", "\\boxed{5.0}"),
    ("5", "\\boxed{\\textbf{5}}"),
    ("5", "\\boxed{\\mathbf{5}}"),
    ("\\text{Tuesday}", "\\boxed{Tuesday}"),
    ("\\text{Tuesday}", "The answer is Tuesday."),
    ("5", "### Answer\n5"),
    ("5", "The value is 5"),
    ("8", "Thus 5 + 3 = 8"),
    ("5", "１＋４＝\\boxed{５}"),
    ("\\sqrt{2}", "\\boxed{√2}"),
    ("\\sqrt{x+1}", "\\boxed{√(x+1)}"),
    ("1,2,3", "\\boxed{1, 2, 3}"),
    ("1,2,3", "\\boxed{1, 2, \\text{ and } 3}"),
    ("-\\frac{1}{2}", "\\boxed{-½}"),
    ("x=5", "\\boxed{5}"),
    ("5", "\\framebox{5}"),
    ("5", "\\boxed{5}$$\nSo 5 is it"),
    ("13", "Answer: 13 (since 6+7 = 13)"),
    ("\\frac12", "the answer is .5"),
]


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("\\frac{1}{2}", "The answer is \\boxed{0.5}"),
        ("\\frac{\\sqrt{3}}{3}", "\\boxed{\\frac{1}{\\sqrt{3}}}"),
        ("2\\pi", "so we get \\boxed{ 2 \\pi }."),
        ("10", "the final answer is $10$"),
        ("x^2+2x+1", "\\boxed{(x+1)^2}"),
        ("50\\%", "\\boxed{50}"),
        ("(1,2)", "\\boxed{\\left(1, 2\\right)}"),
        ("\\text{Evelyn}", "\\boxed{Evelyn}"),
        ("1,000", "\\boxed{1000}"),
        ("\\{1,2\\}", "\\boxed{\\{2,1\\}}"),
        ("1,-2", "\\boxed{-2} \\quad \\text{and} \\quad \\boxed{1}."),
        ("(1,2),(3,4)", "We get $\\boxed{(3, 4)}$ or $\\boxed{(1, 2)}$."),
        ("10455", "\\boxed{255} in all. The final answer is $10,455$. I hope it is correct."),
        ("255", "\\boxed{255}. The final answer is what stands in the box."),
        ("12 \\text{ cm}^2", "\\boxed{12}"),
        ("25", "so $\\boxed{25\\%}$ of them"),
        ("2\\frac{1}{2}", "\\boxed{\\frac{5}{2}}"),
        *AS_MODELS_WRITE,
    ],
)
def test_equal_values_in_other_words(gold: str, answer: str) -> None:
    verdict = check_math(answer, gold)
    assert verdict.correct, verdict


@pytest.mark.parametrize(
    ("gold", "answer", "outcome"),
    [
        ("\\frac{1}{2}", "\\boxed{\\frac{1}{3}}", Outcome.WRONG),
        ("5", "First \\boxed{5}, no: \\boxed{6}", Outcome.WRONG),
        ("5", "I am not sure about this.", Outcome.NO_ANSWER),
        ("5", "So it is \\boxed{\\frac{1", Outcome.CUT_OFF),
        ("(1,2)", "\\boxed{(2,1)}", Outcome.WRONG),
        ("90", "\\boxed{91\u00b0}", Outcome.WRONG),
        ("\\frac{1}{2}", "**Answer: 1/3**", Outcome.WRONG),
        ("1250", "\\boxed{1,2500}", Outcome.WRONG),
        ("5", "\\boxed{5} and not \\boxed{6}", Outcome.WRONG),
        ("255", "\\boxed{255} in all. The final answer is $10,455$.", Outcome.WRONG),
    ],
)
def test_other_findings(gold: str, answer: str, outcome: Outcome) -> None:
    assert check_math(answer, gold).outcome is outcome


def test_a_formula_without_end_is_given_up_and_the_next_is_judged() -> None:
    math_judge.equivalent("1", "\\boxed{1}")
    judged = math_judge.equivalent("1", "\\boxed{9^{9^{9^{9}}}-1}", limit_s=1)
    assert not judged.equal
    assert math_judge.equivalent("1", "\\boxed{1}").equal


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere processor time cannot be read, and the clock decides")
def test_a_worker_that_is_kept_waiting_is_not_given_up() -> None:
    math_judge.close()
    math_judge.equivalent("1", "\\boxed{1}")
    (worker,) = math_judge._pool.idle
    os.kill(worker.process.pid, signal.SIGSTOP)
    going_on = threading.Timer(1.5, os.kill, (worker.process.pid, signal.SIGCONT))
    going_on.start()
    judged = math_judge.equivalent("2", "\\boxed{2}", limit_s=0.5)
    going_on.join()
    assert judged.equal, judged.problem


def test_a_worker_that_sleeps_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(math_judge, "_PATIENCE", 2)
    math_judge.close()
    math_judge.equivalent("1", "\\boxed{1}")
    (worker,) = math_judge._pool.idle
    os.kill(worker.process.pid, signal.SIGSTOP)
    assert "did not answer" in math_judge.equivalent("2", "\\boxed{2}", limit_s=0.5).problem
    assert math_judge.equivalent("2", "\\boxed{2}").equal


def test_workers_answer_their_own_questions() -> None:
    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(lambda n: math_judge.equivalent(str(n), f"\\boxed{{{n % 7}}}").equal, range(60)))
    assert found == [n == n % 7 for n in range(60)]
