"""Boxes, statements of the answer, and formulas as plain text."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensieve.tasks import answer_text


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
