"""Formulas as small instruct models write them, judged as a person would."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tokensieve.tasks.math import check_math

FORMULAS = [
    (
        "\\frac{3}{4}",
        [
            "\\boxed{\\frac{3}{4}}",
            "The answer is 3/4.",
            "$\\frac34$",
            "\\boxed{0.75}",
            "\\boxed{3/4}",
            "\\boxed{\\tfrac{3}{4}}",
            "The probability is \\boxed{\\dfrac{3}{4}}.",
            "So the final answer is $\\frac{3}{4}$.",
            "**Final answer:** $\\dfrac{3}{4}$",
            "Answer: 3/4",
            "\\[\\boxed{\\frac{3}{4}}\\]",
            "Thus $x = \\boxed{\\frac{3}{4}}$",
            "\\boxed{x = \\frac{3}{4}}",
            "¾",
            "\\boxed{¾}",
            "\\boxed{\\frac {3} {4}}",
            "\\boxed{\\frac{6}{8}}",
            "\\boxed{75\\%}",
            "$$\\boxed{\\displaystyle\\frac{3}{4}}$$",
            "The final answer is \\(\\frac{3}{4}\\)",
            "\\boxed{\\frac{3}{4}}$ inches",
            "\\boxed{\\frac{3}{4} \\text{ inches}}",
            "Therefore, P = 3/4",
            "# Answer\n\n\\(\\frac{3}{4}\\)",
        ],
    ),
    (
        "\\frac{\\pi}{4}",
        [
            "\\boxed{\\frac{\\pi}{4}}",
            "\\boxed{π/4}",
            "The answer is π/4",
            "\\boxed{\\pi/4}",
            "\\boxed{\\frac{1}{4}\\pi}",
            "\\boxed{\\dfrac{\\pi}{4} \\text{ radians}}",
        ],
    ),
    (
        "120",
        [
            "\\boxed{120^\\circ}",
            "\\boxed{120°}",
            "\\boxed{120 °}",
            "\\boxed{120\\degrees}",
            "The angle is 120 degrees.",
            "\\boxed{120 \\text{ degrees}}",
            "\\boxed{120^{\\circ}}",
            "m∠A = \\boxed{120°}",
        ],
    ),
    (
        "(2,-3)",
        [
            "\\boxed{(2,-3)}",
            "\\boxed{(2, −3)}",
            "The answer is (2, -3).",
            "\\boxed{\\left(2,-3\\right)}",
            "\\boxed{(2,\\,-3)}",
            "$(2,-3)$",
        ],
    ),
    (
        "x^2-4",
        [
            "\\boxed{x^2 - 4}",
            "\\boxed{(x-2)(x+2)}",
            "\\boxed{x² − 4}",
            "\\boxed{-4+x^2}",
            "The answer is $x^2-4$.",
            "\\boxed{f(x) = x^2 - 4}",
        ],
    ),
    (
        "10,000",
        [
            "\\boxed{10000}",
            "\\boxed{10,000}",
            "\\boxed{10{,}000}",
            "\\boxed{10\\,000}",
            "The answer is 10,000.",
            "\\boxed{\\$10,000}",
            "\\boxed{10^4}",
            "\\boxed{10 000}",
        ],
    ),
    (
        "\\text{even}",
        [
            "\\boxed{\\text{even}}",
            "\\boxed{even}",
            "\\boxed{\\textbf{even}}",
            "\\boxed{\\text{Even}}",
            "The answer is even.",
        ],
    ),
    ("[1,5)", ["\\boxed{[1,5)}", "\\boxed{[1, 5)}"]),
    (
        "3\\sqrt{2}",
        [
            "\\boxed{3\\sqrt{2}}",
            "\\boxed{3√2}",
            "\\boxed{3 \\sqrt 2}",
            "\\boxed{\\sqrt{18}}",
            "The answer is 3√2.",
            "The answer is 3\\sqrt{2}.",
        ],
    ),
    ("-7", ["\\boxed{-7}", "\\boxed{−7}", "\\boxed{–7}", "The answer is −7.", "Answer: -7", "\\boxed{x=-7}"]),
]


@pytest.mark.parametrize(("gold", "answers"), FORMULAS)
def test_every_formula_is_judged_as_a_person_would(gold: str, answers: list[str]) -> None:
    with ThreadPoolExecutor(2) as pool:
        verdicts = list(pool.map(lambda answer: check_math(answer, gold), answers))
    assert [pair for pair in zip(answers, verdicts, strict=True) if not pair[1].correct] == []
