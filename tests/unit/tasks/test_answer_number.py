"""Numbers in answers: their values, and the one that is the answer."""

import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensieve.tasks.answer_number import final_number, numbers, parse_number
from tokensieve.tasks.gsm8k import number_after_hashes

VALUES: list[tuple[str, Fraction | int]] = [
    ("18", 18),
    ("$1,234.50", Fraction("1234.5")),
    ("-3", -3),
    ("−7", -7),
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
    ("€40", 40),
    ("- 3", -3),
    ("–3", -3),
    ("1 250", 1250),
    ("1'250", 1250),
    ("1’250", 1250),
    ("1\xa0250", 1250),
    ("1\u202f250", 1250),
    ("1\\,250", 1250),
    ("\\frac{ 1 }{ 2 }", Fraction(1, 2)),
    ("½", Fraction(1, 2)),
    ("2½", Fraction(5, 2)),
    ("-½", Fraction(-1, 2)),
    ("1,2500", Fraction("1.25")),
    ("１２５０", 1250),
    ("１，２５０", 1250),
    ("１２.５", Fraction("12.5")),
    ("$1,250.00", 1250),
    ("50%", 50),
    ("1.250,00", 1250),
    ("1.250.000", 1250000),
    ("1,25,000", 125000),
    ("2.5e-3", Fraction("0.0025")),
    ("2 x 10^3", 2000),
    ("2 \\times 10^{3}", 2000),
    ("1.5 × 10⁶", 1500000),
    ("10^6", 10**6),
    ("1 1/2", Fraction(3, 2)),
    ("1\\frac{1}{2}", Fraction(3, 2)),
    ("-1\\frac{1}{2}", Fraction(-3, 2)),
    ("-\\frac{1}{2}", Fraction(-1, 2)),
    ("\\frac{-1}{2}", Fraction(-1, 2)),
    ("-$5", -5),
    ("$-5", -5),
    ("-\\$5", -5),
    ("$-5$", -5),
    ("$ - 5$", -5),
    ("\\(-5\\)", -5),
    ("12 cm^2", 12),
    ("12 m²", 12),
    ("12 \\text{ cm}^2", 12),
    ("12 cm^{2}", 12),
    ("1.5 million", 1500000),
    ("$2k", 2000),
    ("5 km", 5),
    ("Rs.500", 500),
    ("USD 500", 500),
    ("**8**", 8),
    ("__8__", 8),
    ("_8_", 8),
    ("0,5", Fraction(1, 2)),
    ("3,14", Fraction("3.14")),
    ("\\text{8 apples}", 8),
    ("٥", 5),
    ("⅔", Fraction(2, 3)),
    ("1⁄2", Fraction(1, 2)),
    ("50 percent", 50),
    ("negative 4", -4),
    ("&frac12;", Fraction(1, 2)),
    ("1 250,50", Fraction("1250.5")),
    ("1'250.50", Fraction("1250.5")),
    ("12 345 678", 12345678),
    ("+5", 5),
    ("0.50", Fraction(1, 2)),
    ("€ 40", 40),
    ("40 €", 40),
    ("1,250.5", Fraction("1250.5")),
    ("2^3", 8),
    ("2^{10}", 1024),
    ("5²", 25),
    ("3 \\cdot 10^{-2}", Fraction("0.03")),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_numbers_are_read_as_they_are_written(text: str, value: Fraction | int) -> None:
    found = parse_number(text)
    assert found is not None, numbers(text)
    assert found.value == value


@pytest.mark.parametrize("text", ["", "none", "3 or 4", "3, 4", "1,2,3", "x2y", "1/0", "9" * 5000])
def test_what_is_not_one_number(text: str) -> None:
    assert parse_number(text) is None


@pytest.mark.parametrize(
    ("one", "two", "equal"),
    [
        ("25%", "25", True),
        ("25%", "0.25", True),
        ("25%", "1/4", True),
        ("0.25%", "25%", False),
        ("2 million", "2,000,000", True),
        ("2 million", "2", True),
        ("1/3", "0.33", False),
        ("1,2500", "1250", False),
        ("1.250", "1250", False),
    ],
)
def test_values_that_are_the_same(one: str, two: str, equal: bool) -> None:
    first, second = parse_number(one), parse_number(two)
    assert first is not None
    assert second is not None
    assert first.equals(second) is equal
    assert second.equals(first) is equal


FINAL: list[tuple[str, Fraction | int | None]] = [
    ("#### 5 plus 3 equals 8", 8),
    ("The answer is 6 times 4, which is 24.", 24),
    ("#### 5 + 3 \u2192 8", 8),
    ("#### 5 + 3 => 8", 8),
    ("#### 5 to 10", None),
    ("The answer is 50 rounded to 2 digits", 50),
    ("#### 1_250", 1250),
    ("#### 0,250", Fraction(1, 4)),
    ("3 + 4 = 7\n#### 7", 7),
    ("#### 5 apples\nNo, wait.\n#### $6", 6),
    ("so \\boxed{42} of 100", 42),
    ("The answer is 12. I checked 3 times.", 12),
    ("Answer: $15", 15),
    ("He has 3, then 4, in all 7 left", 7),
    ("####\nThe answer is 8", 8),
    ("#### 5 + 3 = 8", 8),
    ("The answer is 5 + 3 = 8.", 8),
    ("#### - 3", -3),
    ("#### –3", -3),
    ("#### 1 250", 1250),
    ("#### 1'250", 1250),
    ("The answer is ½.", Fraction(1, 2)),
    ("#### 1,2500", Fraction("1.25")),
    ("#### 8 = 5 + 3", 8),
    ("#### 5 + 3", None),
    ("\\boxed{5+3=8}", 8),
    ("\\boxed{x = 8}", 8),
    ("\\boxed{12 \\text{ cm}^2}", 12),
    ("\\boxed{5 + 3}", None),
    ("#### Step 1: add 2\n2+3=5\n#### Step 2: done\nThe answer is 9.", 9),
    ("#### 1. Compute\n5*2=10\n#### 2. Add\n10+2 = 12\n**Answer: 12**", 12),
    ("#### Total: 18", 18),
    ("#### Answer: 18", 18),
    ("#### The answer is 18", 18),
    ("#### $18.00", 18),
    ("#### **18**", 18),
    ("#### x = 18", 18),
    ("####18", 18),
    ("###18#### 18", 18),
    ("The answer is 20 because 2 + 3 = 5 and 5 * 4 = 20", 20),
    ("The answer is 20, where x = 5", 20),
    ("The answer is 20 where x = 5", 20),
    ("The answer is 5 apples + 3 apples = 8 apples", 8),
    ("The answer is T = 5 + 3 = 8", 8),
    ("The final answer is 18. The answer is found by adding 12 and 6.", 18),
    ("**Answer:** 18 eggs and 2 hens", 18),
    ("**Answer**: 18", 18),
    ("Answer:\n\n18", 18),
    ("The answer is not 5 but 8.", 8),
    ("The answer is 3 or 4.", None),
    ("The answer is 18 or 18.0", 18),
    ("The answer is\n\\[ 18 \\]", 18),
    ("So she makes 9 * 2 = $<<9*2=18>>18 every day.\n#### 18", 18),
    ("The total is 1 250", 1250),
    ("Therefore, 5 + 3 = 8", 8),
    ("The answer is - 3.", -3),
    ("The answer is -3.", -3),
    ("Total = - 3", -3),
    ("- 3 apples\n- 4 apples", 4),
    ("The answer is 5-3 = 2", 2),
    ("The answer is 5 -3 = 2", 2),
    ("The answer is 3 x 4 = 12", 12),
    ("The answer is 3 \\times 4 = 12", 12),
    ("answer: $3 × 4 = 12", 12),
    ("The answer is 50%.", 50),
    ("#### 50 %", 50),
    ("The answer is 100 - 60 = 40 dollars", 40),
    ("The answer is about 3.5 hours", Fraction("3.5")),
    ("The answer would be 18", 18),
    ("the answer should be 18", 18),
    ("#### (18)", 18),
    ("#### 18 (since 9*2 = 18)", 18),
    ("#### 18 dollars per day for 7 days", 18),
    ("#### 2/3", Fraction(2, 3)),
    ("#### 3/4 = 0.75", Fraction("0.75")),
    ("Answer = 18", 18),
    ("I got \\boxed{ 1{,}250 } dollars", 1250),
    ("$$\\boxed{18}$$", 18),
    ("The answer is 10\\%", 10),
    ("The answer to the question is 18", 18),
    ("So the answer is 6 hours and 30 minutes", 6),
    ("The answer is: **$18**", 18),
    ("#### 5 × 3 = 15", 15),
    ("#### 5 ÷ 3 ≈ 1.67", Fraction("1.67")),
    ("The answer is 2^3 = 8", 8),
    ("\\boxed{\\$18}", 18),
    ("\\boxed{18\\text{ dollars}}", 18),
    ("\\boxed{18 \\, \\text{dollars}}", 18),
    ("\\boxed{-3}", -3),
    ("\\boxed{–3}", -3),
    ("\\boxed{\\frac{ 1 }{ 2 }}", Fraction(1, 2)),
    ("18 is the answer", 18),
    ("#### A: 18", 18),
    ("#### 18.", 18),
    ("#### 1,250.00", 1250),
    ("The answer is 1,250.", 1250),
    ("The answer is 1.250,00 euros", 1250),
]


@pytest.mark.parametrize(("text", "value"), FINAL)
def test_the_number_that_is_the_answer(text: str, value: Fraction | int | None) -> None:
    found = final_number(text)
    assert (None if found is None else found[0].value) == value, found


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("3 + 4 = 7\n#### 7", "after ####"),
        ("so \\boxed{42} of 100", "boxed"),
        ("The answer is 12. I checked 3 times.", "after 'answer is'"),
        ("He has 3, then 4, in all 7 left", "the last number"),
    ],
)
def test_the_rule_that_found_it_is_named(text: str, rule: str) -> None:
    found = final_number(text)
    assert found is not None
    assert found[1] == rule


def test_the_papers_rule_wants_hashes_space_number() -> None:
    assert number_after_hashes("#### 1,234") == "1234"
    assert number_after_hashes("#### -5.5") == "-5.5"
    assert number_after_hashes("####5") is None
    assert number_after_hashes("#### $5") is None
    assert number_after_hashes("The answer is 5") is None


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=300))
def test_no_text_breaks_it(text: str) -> None:
    final_number(text)
    number_after_hashes(text)


@settings(max_examples=50, deadline=None)
@given(st.integers(-(10**12), 10**12), st.sampled_from([",", " ", "'", "\u00a0", "\u202f", "\\,"]))
def test_a_number_survives_being_written_with_groups(value: int, mark: str) -> None:
    found = parse_number(f"{value:,}".replace(",", mark))
    assert found is not None
    assert found.value == value


@pytest.mark.parametrize(
    "text",
    [
        "9" * 50000,
        "1," * 20000,
        "1 2/" * 20000,
        "answer" + " " * 50000,
        "1 + " * 20000,
        "#### a\n" * 10000,
        "1 250 " * 10000,
        "answer is " * 10000,
        "5 a b c " * 10000,
        "\\frac{" * 20000,
    ],
)
def test_no_text_takes_long(text: str) -> None:
    started = time.process_time()
    final_number(text)
    assert time.process_time() - started < 3
