"""Numbers as text: signs, undefined values, and digits that mean something."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.report import Estimate, number_format


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (number_format.percent(0.1234, 1), "12.3\u202f%"),
        (number_format.percent(None), "–"),
        (number_format.number(-0.04, 1), "0.0"),
        (number_format.number(12345.6), "12\u202f346"),
        (number_format.signed(3.14), "+3.1"),
        (number_format.signed(-3.14), "−3.1"),
        (number_format.signed(0.04), "0.0"),
        (number_format.signed(-0.04), "0.0"),
        (number_format.perplexity(1.0), "1.00"),
        (number_format.perplexity(12.34), "12.3"),
        (number_format.perplexity(1234.5), "1\u202f234"),
        (number_format.perplexity(3.2e9), "3.2e9"),
        (number_format.duration(4.23), "4.2\u202fs"),
        (number_format.duration(59.97), "1\u202fmin 00\u202fs"),
        (number_format.duration(185), "3\u202fmin 05\u202fs"),
        (number_format.duration(7800), "2\u202fh 10\u202fmin"),
        (number_format.tick(20.0), "+20"),
        (number_format.tick(-0.2), "−0.2"),
        (number_format.tick(0.15000000000000002), "+0.15"),
        (number_format.count(1, "row"), "1 row"),
        (number_format.count(2, "row"), "2 rows"),
    ],
)
def test_text(text: str, expected: str) -> None:
    assert text == expected


def test_a_change_carries_its_interval_and_loses_decimals_where_they_are_noise() -> None:
    assert number_format.change(Estimate(value=-1.23, low=-4.0, high=2.04), "%") == "−1.2\u202f% (−4.0 to +2.0)"
    assert (
        number_format.change(Estimate(value=2125.4, low=10.0, high=9000.0), "%")
        == "+2\u202f125\u202f% (+10 to +9\u202f000)"
    )
    assert number_format.change(Estimate(value=1.0), "%") == "+1.0\u202f%"
    assert number_format.change(Estimate(), "%") == "undefined"


@given(st.floats(-1e4, 1e4), st.floats(0.1, 1e4), st.integers(3, 8))
def test_ticks_are_round_within_and_few(low: float, span: float, about: int) -> None:
    found = number_format.ticks(low, low + span, about)
    assert all(low - 1e-6 * span <= value <= low + span + 1e-6 * span for value in found)
    assert 1 <= len(found) <= 2 * about + 1
