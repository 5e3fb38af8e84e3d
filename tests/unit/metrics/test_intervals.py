"""Intervals of shares against published values and by their coverage; one standard error."""

import math

import numpy as np
import pytest
from tests.estimates import ends, holds

from tokensieve.errors import InputError
from tokensieve.metrics import (
    Estimate,
    accuracy,
    mean_change_per_token,
    mean_per_token,
    standard_error,
    within_standard_error,
)


def test_wilson_interval_against_published_values() -> None:
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
    estimate = accuracy(81, 263)
    assert estimate.low == pytest.approx(0.2553, abs=5e-5)
    assert estimate.high == pytest.approx(0.3662, abs=5e-5)
    assert accuracy(0, 20).low == 0.0
    assert accuracy(0, 20).high == pytest.approx(0.1611, abs=5e-5)
    assert not accuracy(0, 0).defined
    with pytest.raises(InputError):
        accuracy(3, 2)


def test_the_wilson_interval_covers_on_average_what_it_says() -> None:
    """Exact, without chance: the coverage of all outcomes of 50 answers, averaged over true shares."""
    n = 50
    intervals = [accuracy(k, n) for k in range(n + 1)]
    truths = np.linspace(0.02, 0.98, 97)
    coverage = [
        sum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k, end in enumerate(intervals) if holds(end, p))
        for p in truths
    ]
    assert np.mean(coverage) == pytest.approx(0.95, abs=0.01)
    assert min(coverage) > 0.83


def test_answers_to_the_same_problems_do_not_count_as_more_problems() -> None:
    once, pooled = accuracy(60, 100), accuracy(180, 300, problems=100)
    assert pooled == once
    assert ends(accuracy(180, 300))[1] < ends(once)[1]
    with pytest.raises(InputError, match="2 answers to 3 problems"):
        accuracy(1, 2, problems=3)
    with pytest.raises(InputError, match="2 answers to 0 problems"):
        accuracy(1, 2, problems=0)


@pytest.mark.parametrize(
    ("one", "other", "problems", "expected"),
    [
        (0.5, 0.54, 100, True),
        (0.5, 0.56, 100, False),
        (0.5, 0.56, 50, True),
        (0.0, 0.0, 10, True),
        (1.0, 0.9, 1000, False),
    ],
)
def test_accuracies_within_one_standard_error(one: float, other: float, problems: int, expected: bool) -> None:
    assert within_standard_error(one, other, problems) is expected
    assert within_standard_error(other, one, problems) is expected


def test_the_standard_error_of_a_share() -> None:
    assert standard_error(0.5, 100) == pytest.approx(0.05)
    assert 0 < standard_error(0.0, 100) < 1e-5


def test_a_paired_change_per_token_is_the_difference_of_the_means_with_a_narrower_interval() -> None:
    rng = np.random.default_rng(3)
    tokens_R = rng.integers(5, 40, 80).astype(np.float64)
    before_R = rng.gamma(2.0, 1.0, 80) * tokens_R
    after_RS = before_R[:, None] - tokens_R[:, None] * rng.normal(0.3, 0.05, (80, 2))
    change = mean_change_per_token(before_R, after_RS, tokens_R)
    means = [mean_per_token(sums_R, tokens_R).value for sums_R in (before_R, after_RS.mean(axis=1))]
    assert change.value == pytest.approx((means[1] or 0.0) - (means[0] or 0.0))
    low, high = ends(change)
    wide = ends(mean_per_token(before_R, tokens_R))
    assert high - low < 0.3 * (wide[1] - wide[0])
    assert holds(change, -0.3)


def test_a_paired_change_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    held = 0
    for run in range(200):
        tokens_R = rng.integers(5, 40, 60).astype(np.float64)
        before_R = rng.gamma(2.0, 1.0, 60) * tokens_R
        after_RS = before_R[:, None] + tokens_R[:, None] * rng.normal(-0.3, 0.4, (60, 1))
        held += holds(mean_change_per_token(before_R, after_RS, tokens_R, seed=run, draws=400), -0.3)
    assert 0.90 <= held / 200 <= 0.985


def test_no_rows_no_tokens_and_one_row() -> None:
    none, one = np.zeros(0), np.ones(1)
    assert not mean_change_per_token(none, np.zeros((0, 1)), none).defined
    assert mean_change_per_token(one, 3 * np.ones((1, 2)), one) == Estimate(value=2.0)


def test_a_negated_estimate_has_its_ends_changed() -> None:
    assert Estimate(value=1.0, low=-2.0, high=3.0).negated() == Estimate(value=-1.0, low=-3.0, high=2.0)
    assert Estimate().negated() == Estimate()
