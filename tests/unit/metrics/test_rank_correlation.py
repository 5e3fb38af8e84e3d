"""Spearman's rank correlation against values worked out by hand and by its formula, and its interval."""

import math

import numpy as np
import pytest

from tokensieve.errors import InputError
from tokensieve.metrics.rank_correlation import rank_correlation, ranks, spearman

# Heights of 10 students in two subjects, a worked example with 6 sum d^2 = 1164: rho = 1 - 1164 / 990.
_IQ = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
_HOURS = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        (_IQ, _HOURS, 1 - 6 * 194 / 990),
        ([1, 2, 3, 4, 5, 6], [1, 4, 9, 16, 25, 36], 1.0),
        ([1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1], -1.0),
        # Ties: ranks 1, 2.5, 2.5, 4, 5, 6 and 1 to 6; Pearson of these by hand: 17 / sqrt(17 * 17.5).
        ([1, 2, 2, 3, 4, 5], [1, 2, 3, 4, 5, 6], 17 / np.sqrt(17 * 17.5)),
    ],
)
def test_the_correlation_is_that_of_the_formula(x: list[float], y: list[float], expected: float) -> None:
    assert rank_correlation(x, y).value == pytest.approx(expected)
    assert rank_correlation(np.exp(np.array(x) / 10).tolist(), y).value == pytest.approx(expected)


def test_ties_share_the_mean_of_their_ranks() -> None:
    assert ranks(np.array([3.0, 1.0, 3.0, 2.0, 3.0])).tolist() == [4, 1, 4, 2, 4]


def test_few_runs_have_no_correlation_and_few_groups_no_interval() -> None:
    x, y = list(range(12)), [value + (-1) ** value for value in range(12)]
    assert rank_correlation(x[:5], y[:5]).value is None
    few = rank_correlation(x, y, [str(run // 3) for run in range(12)])
    assert few.value is not None
    assert few.interval is None
    many = rank_correlation(x, y, [str(run // 2) for run in range(12)])
    assert many.low is not None
    assert many.value is not None
    assert many.high is not None
    assert many.low <= many.value <= many.high


def test_a_constant_measure_has_no_correlation() -> None:
    assert rank_correlation([1.0] * 8, list(range(8))).value is None


def test_runs_without_a_value_are_left_out() -> None:
    x, y = [float(run) for run in range(9)], [float(run * run) for run in range(9)]
    missing = [math.nan, *x], [5.0, *y]
    assert rank_correlation(*missing) == rank_correlation(x, y)
    assert rank_correlation(missing[1], missing[0]) == rank_correlation(y, x)
    groups = [str(run) for run in range(9)]
    assert rank_correlation(*missing, ["0", *groups]) == rank_correlation(x, y, groups)
    assert rank_correlation([math.nan] * 5 + x[:5], [1.0] * 5 + y[:5]).value is None, "five runs are too few"
    assert math.isnan(spearman(np.array(missing[0]), np.array(missing[1])))


def test_seeds_of_one_arm_widen_the_interval_where_they_are_drawn_together() -> None:
    rng = np.random.default_rng(3)
    arms_x, arms_y = rng.random(8), rng.random(8)
    x, y = np.repeat(arms_x, 5) + rng.normal(0, 0.001, 40), np.repeat(arms_y, 5) + rng.normal(0, 0.001, 40)
    names = [str(arm) for arm in range(8) for _ in range(5)]
    alone, together = rank_correlation(x.tolist(), y.tolist()), rank_correlation(x.tolist(), y.tolist(), names)
    assert alone.interval is not None
    assert together.interval is not None
    assert np.ptp(together.interval) > 1.5 * np.ptp(alone.interval)


def test_the_interval_of_unrelated_measures_holds_zero_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    held = 0
    for _ in range(60):
        found = rank_correlation(rng.random(20).tolist(), rng.random(20).tolist(), draws=300)
        assert found.interval is not None
        held += found.interval[0] <= 0 <= found.interval[1]
    assert held >= 51


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="6 and 5 values"):
        rank_correlation([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5])
