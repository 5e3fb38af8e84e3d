"""The part of a text that states its answer: boxes, statements, formulas, and behind reasoning."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensieve.tasks import TASKS, answer_text, get_task
from tokensieve.tasks.answer_text import behind_reasoning
from tokensieve.types import Outcome, Problem


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("\\boxed{5}", "5"),
        ("\\boxed{\\frac{1}{2}} and then \\boxed{ \\frac{3}{4} }", "\\frac{3}{4}"),
        ("\\fbox{x}", "x"),
        ("\\boxed 7.", "7"),
        ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
        ("\\boxed{1", None),
        ("no box", None),
    ],
)
def test_boxed(text: str, content: str | None) -> None:
    assert answer_text.boxed(text) == content


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("\\boxed{1} and \\boxed{-2}", "1, -2"),
        ("no: \\boxed{9}. Rather $\\boxed{1}$, $\\boxed{\\frac{1}{2}}$ \\text{ or } \\fbox 3.", "1, \\frac{1}{2}, 3"),
        ("\\boxed{1}", None),
        ("\\boxed{1}, so \\boxed{2}", None),
        ("\\boxed{1} and \\boxed{2", None),
        ("nothing", None),
    ],
)
def test_boxes_side_by_side(text: str, content: str | None) -> None:
    assert answer_text.boxed_together(text) == content


def test_plain_math_sets_aside_what_has_no_meaning() -> None:
    assert answer_text.plain_math("\\left( \\dfrac{1}{2}, 3 \\right)") == "(\\frac{1}{2},3)"
    assert answer_text.plain_math("\\text{Evelyn}.") == "Evelyn"
    assert answer_text.plain_math("\\frac12") == answer_text.plain_math("\\tfrac{1}{2}")
    assert answer_text.plain_math("12") != answer_text.plain_math("1/2")


@pytest.mark.parametrize(
    ("text", "latex"),
    [
        ("90\u00b0", "90^\\circ "),
        ("2\u221a3 + \u221a(x+1)", "2\\sqrt{3} + \\sqrt{x+1}"),
        ("x\u00b2\u207b\u00b9", "x^{2-1}"),
        ("\u2212\u00bd", "-\\frac{1}{2}"),
        ("2\u03c0", "2\\pi "),
        ("1 1/2", "1\\frac{1}{2}"),
        ("12 cm\u00b2", "12\\text{ cm}^{2}"),
        ("2 m", "2 m"),
        ("10\\,000 and 1'250", "10000 and 1250"),
        ("(1, 250)", "(1, 250)"),
        ("x^2 + 1/2", "x^2 + 1/2"),
    ],
)
def test_latex_for_signs(text: str, latex: str) -> None:
    assert answer_text.latex_of_signs(text) == latex


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("The answer is 5. The answer is 6.", ["5. The answer is 6.", "6."]),
        ("**Answer: 1/2**", ["1/2"]),
        ("**Answer:** 1/2", ["1/2"]),
        ("Answer:\n\n- 5 apples", ["5 apples"]),
        ("The answer to the question is B", ["B"]),
        ("The answer is found by adding 5 and 3.", []),
        ("Nothing", []),
    ],
)
def test_statements(text: str, stated: list[str]) -> None:
    assert answer_text.statements(text) == stated


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300))
def test_no_text_breaks_any_rule(text: str) -> None:
    answer_text.boxed(text)
    answer_text.boxed_together(text)
    answer_text.said_after_boxes(text)
    answer_text.statements(text)
    answer_text.plain_math(answer_text.latex_of_signs(text))


@pytest.mark.parametrize(
    "text",
    [
        "9" * 50_000,
        "answer" + " " * 50_000,
        " " * 50_000 + "x",
        "\\boxed{" * 20_000,
        "answer to " * 10_000,
        "1 " * 20_000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    started = time.process_time()
    answer_text.plain_math(answer_text.latex_of_signs(text))
    answer_text.boxed(text)
    answer_text.boxed_together(text)
    answer_text.said_after_boxes(text)
    answer_text.statements(text)
    assert time.process_time() - started < 3


WRAPPED = [
    "<think>\n{wrong}\n</think>\n\n{right}",
    "<think>{wrong}</think>{right}",
    "{wrong}\n</think>\n\n{right}",  # the chat template opened it in the prompt
    "<thinking>\n{wrong}\n</thinking>\n{right}",
    "<Reasoning>\n{wrong}\n</Reasoning>\n{right}",
    "<thought>{wrong}</thought>\n{right}",
    "[THINK]{wrong}[/THINK]{right}",
    "<think>\n\n</think>\n\n{right}",
    "<think>{wrong}</think>\n<think>{wrong}</think>\n{right}",
    "<think>I shall close with `</think>`. {wrong}</think>\n{right}",
    "Let me see.\n<think>{wrong}</think>\n{right}",
    "<think>{wrong}</think><answer>{right}</answer>",
    "<think>{wrong}</think>\n\n<answer>\n{right}\n</answer>\n",
    "<|channel|>analysis<|message|>{wrong}<|end|><|start|>assistant<|channel|>final<|message|>{right}<|return|>",
    "<|channel|>analysis<|message|>{wrong}<|end|><|start|>assistant<|channel|>commentary<|message|>{wrong}<|end|>"
    "<|start|>assistant<|channel|>final<|message|>{right}",
    "analysis{wrong}assistantfinal{right}",
    "\u25c1think\u25b7{wrong}\u25c1/think\u25b7{right}",
    "<|begin_of_thought|>{wrong}<|end_of_thought|>\n<|begin_of_solution|>{right}<|end_of_solution|>",
    "<|START_THINKING|>{wrong}<|END_THINKING|><|START_RESPONSE|>{right}<|END_RESPONSE|>",
    "<|channel>thought\n{wrong}<channel|>{right}",
    "<seed:think>{wrong}</seed:think>{right}",
    "<unused94>thought\n{wrong}<unused95>{right}",
    "<|inner_prefix|>{wrong}<|inner_suffix|>{right}",
    "<rationale>{wrong}</rationale>\n{right}",
    "<think>{wrong}</think>\n<|begin_of_box|>{right}<|end_of_box|>",
    "{right}",
]
UNENDED = [
    "<think>\n{right}",
    "<think>\n{wrong}\n\n{right}",
    "Sure! <thinking>{right}",
    "[THINK]{right}",
    "<|channel|>analysis<|message|>{right}",
    "<think>{wrong}</think>\n<think>{right}",
]


def problem_of(name: str, **facts: object) -> Problem:
    return Problem(f"{name}/1", name, ({"role": "user", "content": "?"},), "", facts)  # type: ignore[arg-type]


CODE = {"tests": ["assert f(1) == 2"], "setup": "", "names": ["f"]}
CHOICES = {"answer": "B", "labels": ["A", "B"], "choices": ["sharks", "dogs"]}
CASES = [
    ("gsm8k", problem_of("gsm8k", answer="8"), "The answer is 5.", "It is 8."),
    ("gsm8k_paper", problem_of("gsm8k_paper", answer="8"), "#### 5", "#### 8"),
    ("math", problem_of("math", answer="8"), "\\boxed{5}", "\\boxed{8}"),
    ("math_boxed", problem_of("math_boxed", answer="8"), "\\boxed{5}", "\\boxed{8}"),
    ("arc_challenge", problem_of("arc_challenge", **CHOICES), "Sharks are fish (A).", "B"),
    ("arc_challenge_letter", problem_of("arc_challenge_letter", **CHOICES), "A", "B"),
    ("mbpp", problem_of("mbpp", **CODE), "```python\ndef f(x): return 1\n```", "```python\ndef f(x): return 2\n```"),
]


@pytest.mark.parametrize(("name", "problem", "wrong", "right"), CASES, ids=[case[0] for case in CASES])
def test_every_checker_judges_what_stands_behind_the_reasoning(
    name: str, problem: Problem, wrong: str, right: str, request: pytest.FixtureRequest
) -> None:
    if name == "mbpp":
        request.getfixturevalue("sandbox")
    task = TASKS[name]
    assert task.check(problem, wrong).outcome is Outcome.WRONG
    assert [w for w in WRAPPED if not task.check(problem, w.format(wrong=wrong, right=right)).correct] == []
    found = {w: task.check(problem, w.format(wrong=wrong, right=right)).outcome for w in UNENDED}
    assert set(found.values()) == {Outcome.NO_ANSWER}, found


def test_a_task_of_ones_own_gets_the_answer_without_reasoning(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"q": "Which?", "a": "Paris"}\n')
    (tmp_path / "own.yaml").write_text(
        "name: own\nrows: {test: rows.jsonl}\nprompt: '{{ q }}'\ngold: '{{ a }}'\n"
        "check: {kind: exact, answer: '{{ a }}'}\n"
    )
    task = get_task(str(tmp_path / "own.yaml"))
    problem = next(task.problems("test"))
    assert task.check(problem, "<think>Rome?</think>\n\nParis").correct
    assert task.check(problem, "<think>Paris").outcome is Outcome.NO_ANSWER


@pytest.mark.parametrize(
    "text",
    [
        "Put it in a '<think>' tag.",
        'x = re.sub(r"</think>", "", x)',
        "    return 1\n",
        "analysis of the data shows 5",
        "<answer>5</answer> and more",
        "",
    ],
)
def test_a_text_without_reasoning_stays_as_it_is(text: str) -> None:
    assert behind_reasoning(text) == text


def test_the_first_line_behind_reasoning_keeps_its_indent() -> None:
    assert behind_reasoning("<think>x</think>\n\n    return 1\n") == "    return 1\n"
