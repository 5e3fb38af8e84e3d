"""Finding answers in text."""

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensieve.tasks import answer_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("18", 18),
        ("$1,234.50", Fraction("1234.5")),
        ("-3", -3),
        ("\u22127", -7),
        ("1/2", Fraction(1, 2)),
        ("2 1/2", Fraction(5, 2)),
        ("-2 1/2", Fraction(-5, 2)),
        ("\\frac{3}{4}", Fraction(3, 4)),
        ("\\dfrac34", Fraction(3, 4)),
        ("25%", 25),
        ("25\\%", 25),
        ("12 apples", 12),
        ("5 km/h", 5),
        ("10,000", 10000),
        ("1{,}000", 1000),
        ("3.0", 3),
        (".5", Fraction(1, 2)),
        ("7.", 7),
        ("2e3", 2000),
        ("\u20ac40", 40),
    ],
)
def test_numbers_are_read_as_they_are_written(text: str, value: Fraction) -> None:
    assert answer_text.parse_number(text) == value


@pytest.mark.parametrize("text", ["", "none", "3 or 4", "x2y", "1/0", "9" * 5000])
def test_what_is_not_one_number(text: str) -> None:
    assert answer_text.parse_number(text) is None


@pytest.mark.parametrize(
    ("text", "written", "rule"),
    [
        ("3 + 4 = 7\n#### 7", "7", "after ####"),
        ("#### 5 apples\nNo, wait.\n#### $6", "6", "after ####"),
        ("so \\boxed{42} of 100", "42", "boxed"),
        ("The answer is 12. I checked 3 times.", "12", "after 'answer is'"),
        ("Answer: $15", "15", "after 'answer is'"),
        ("He has 3, then 4, in all 7 left", "7", "the last number"),
        ("####\nThe answer is 8", "8", "after 'answer is'"),
    ],
)
def test_final_number_and_the_rule_that_found_it(text: str, written: str, rule: str) -> None:
    found = answer_text.final_number(text)
    assert found is not None
    assert (found[0].lstrip("$"), found[2]) == (written, rule)


def test_the_papers_rule_wants_hashes_space_number() -> None:
    assert answer_text.number_after_hashes("#### 1,234") == "1234"
    assert answer_text.number_after_hashes("#### -5.5") == "-5.5"
    assert answer_text.number_after_hashes("####5") is None
    assert answer_text.number_after_hashes("#### $5") is None
    assert answer_text.number_after_hashes("The answer is 5") is None


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


LABELS = ("A", "B", "C", "D")


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("C", "C"),
        (" (b) ", None),
        ("**C**", "C"),
        ("C. Planetary days will become shorter.", "C"),
        ("The answer is B.", "B"),
        ("The correct answer is (D), since A is too hot.", "D"),
        ("Answer: **A**", "A"),
        ("I think A is wrong. The answer is C", "C"),
        ("\\boxed{\\text{B}}", "B"),
        ("D) because of gravity", "D"),
        ("It must be choice B", "B"),
        ("Of all of these only [C] holds water", "C"),
        ("Maybe A, maybe B", None),
        ("A dog is a mammal", None),
        ("", None),
        ("Planets spin.", None),
        ("iron", "B"),
        ("Iron.", "B"),
    ],
)
def test_choice(text: str, label: str | None) -> None:
    assert answer_text.choice(text, LABELS, {"A": "copper", "B": "Iron", "C": "tin", "D": "lead"}) == label


def test_code_in_a_block_that_defines_the_name_is_taken() -> None:
    text = "First:\n```python\ndef g(): pass\n```\nThen:\n```python\ndef f(): return 1\n```\nUse:\n```\nf()\n```"
    assert answer_text.code(text, ["f"]) == "def f(): return 1\n"
    assert answer_text.code(text, ["h"]) == "def g(): pass\n\ndef f(): return 1\n\nf()\n"


def test_code_without_a_block() -> None:
    assert answer_text.code("def f():\r\n\treturn 1") == "def f():\r\n\treturn 1"
    assert answer_text.code("Here it is:\n\ndef f():\n    return 1\n\nHope it helps!") == "def f():\n    return 1\n\n"
    assert answer_text.code("Sorry, I cannot do that.") is None
    assert answer_text.code("") is None
    assert answer_text.code("Here it is:\ndef f(:\n") == "def f(:\n"


def test_code_between_the_marks_of_published_prompts() -> None:
    assert answer_text.code("[BEGIN]\r\ndef f(): return 1\n[DONE]\nThat is it.") == "def f(): return 1\n"
    assert answer_text.code("Sure.\n[PYTHON]\ndef f():\n    return 1\n[/PYTHON]") == "def f():\n    return 1\n"
    assert answer_text.code("[BEGIN]\ndef f():\n    return 1") == "def f():\n    return 1"
    assert answer_text.code("[BEGIN]\nnothing to see\n[DONE]") is None
    assert answer_text.code("def f(BEGIN, x):\n    return x[BEGIN]") == "def f(BEGIN, x):\n    return x[BEGIN]"


def test_code_in_other_languages_is_not_python() -> None:
    assert answer_text.code("```bash\nls\n```") is None


def test_unclosed_block() -> None:
    assert answer_text.unclosed_block("```python\ndef f(:")
    assert not answer_text.unclosed_block("```python\nx\n```")
    assert answer_text.code("```python\ndef f():\n    return") == "def f():\n    return"


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("SELECT 1", "SELECT 1"),
        ("```sql\nSELECT a FROM t;\n```", "SELECT a FROM t;"),
        ("Sure:\nselect a\nfrom t;\nThis lists a.", "select a\nfrom t;"),
        ("WITH c AS (SELECT 1) SELECT * FROM c", "WITH c AS (SELECT 1) SELECT * FROM c"),
        ("I do not know", None),
    ],
)
def test_query(text: str, query: str | None) -> None:
    assert answer_text.query(text) == query


def test_plain_math_sets_aside_what_has_no_meaning() -> None:
    assert answer_text.plain_math("\\left( \\dfrac{1}{2}, 3 \\right)") == "(\\frac{1}{2},3)"
    assert answer_text.plain_math("\\text{Evelyn}.") == "Evelyn"
    assert answer_text.plain_math("\\frac12") == answer_text.plain_math("\\tfrac{1}{2}")
    assert answer_text.plain_math("12") != answer_text.plain_math("1/2")


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300))
def test_no_text_breaks_any_rule(text: str) -> None:
    answer_text.final_number(text)
    answer_text.number_after_hashes(text)
    answer_text.boxed(text)
    answer_text.boxed_together(text)
    answer_text.said_after_boxes(text)
    answer_text.choice(text, LABELS)
    answer_text.code(text, ["f"])
    answer_text.query(text)
    answer_text.plain_math(text)


@settings(max_examples=50, deadline=None)
@given(st.integers(-(10**12), 10**12))
def test_a_number_survives_being_written_with_commas(value: int) -> None:
    assert answer_text.parse_number(f"{value:,}") == value


@pytest.mark.parametrize(
    "text",
    ["9" * 50_000, "1," * 20_000, "1 2/" * 20_000, "answer" + " " * 50_000, " " * 50_000 + "x", "\\boxed{" * 20_000],
)
def test_no_text_takes_long(text: str) -> None:
    started = time.process_time()
    answer_text.final_number(text)
    answer_text.choice(text, LABELS)
    answer_text.plain_math(text)
    answer_text.boxed(text)
    answer_text.boxed_together(text)
    answer_text.said_after_boxes(text)
    answer_text.code(text)
    answer_text.query(text)
    assert time.process_time() - started < 3


@pytest.mark.parametrize("text", ["(" * 100_000, "-" * 100_000 + "1", "[" * 5000, "x = " + "f(" * 3000, "a." * 50_000])
def test_deep_nesting_does_not_take_the_process_down(text: str) -> None:
    assert not answer_text.parses(text)
