"""Paired differences: coverage of the intervals by simulation, tests against known values, power."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from tokensieve.comparison.statistics import benjamini_hochberg, mcnemar, paired_difference
from tokensieve.errors import InputError

Floats = NDArray[np.float64]
REPEATS = 200


def drawn_changes(rng: np.random.Generator, shape: tuple[int, ...], lost: float | Floats, gained: float) -> Floats:
    """Changes of -1, 0 and 1 with these probabilities."""
    u = rng.random(shape)
    return np.where(u < lost, -1.0, np.where(u < lost + gained, 1.0, 0.0))


def coverage(draw: Callable[[np.random.Generator], tuple[Floats, Floats, list[str] | None]], truth: float) -> float:
    """Share of simulated evaluations whose interval holds the true difference in points."""
    rng, hits = np.random.default_rng(0), 0
    for repeat in range(REPEATS):
        before, after, groups = draw(rng)
        low, high = paired_difference(before, after, groups, seed=repeat, draws=600).interval
        hits += low <= truth <= high
    return hits / REPEATS


@pytest.mark.parametrize(
    ("n", "lost", "gained"),
    [(20, 0.1, 0.05), (30, 0.5, 0.0), (50, 0.02, 0.02), (400, 0.3, 0.1), (1000, 0.005, 0.005)],
)
def test_intervals_over_problems_cover_the_truth(n: int, lost: float, gained: float) -> None:
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats, None]:
        change = drawn_changes(rng, (n,), lost, gained)
        before = (change < 0).astype(float)
        return before, (before + change)[:, None], None

    assert coverage(draw, 100 * (gained - lost)) >= 0.92


def clustered(rng: np.random.Generator) -> tuple[Floats, Floats, list[str]]:
    """80 groups of 10 problems; each group has a share of lost problems of its own, 20 % in the mean."""
    lost = rng.beta(0.5, 2, size=(80, 1))
    change = drawn_changes(rng, (80, 10), lost, 0.0).ravel()
    return np.ones(800), (1 + change)[:, None], [str(group) for group in range(80) for _ in range(10)]


def test_intervals_over_groups_cover_where_those_over_problems_do_not() -> None:
    assert coverage(clustered, -20) >= 0.91
    assert coverage(lambda rng: (*clustered(rng)[:2], None), -20) < 0.8


def test_intervals_over_problems_and_seeds_cover_the_truth() -> None:
    def draw(rng: np.random.Generator) -> tuple[Floats, Floats, None]:
        before = rng.random(150) < 0.6
        share = np.where(before, 0.85, 0.15)[:, None] + rng.normal(0, 0.04, size=8)
        return before.astype(float), (rng.random((150, 8)) < share).astype(float), None

    assert 0.92 <= coverage(draw, 100 * (0.6 * 0.85 + 0.4 * 0.15 - 0.6)) <= 1


def test_the_interval_of_few_problems_without_a_change_has_a_width() -> None:
    found = paired_difference(np.ones(20), np.ones((20, 1)))
    assert found.points.value == 0
    assert found.interval[0] < -5
    assert found.interval[1] > 5
    assert found.p_value == 1.0


def test_the_detectable_loss_is_seen_with_a_power_of_four_in_five() -> None:
    change = np.concatenate([-np.ones(40), np.ones(40), np.zeros(320)])
    before = (change < 0).astype(float)
    detectable = paired_difference(before, (before + change)[:, None]).detectable_points
    # (1.96 + 0.84) standard errors of Bonett and Price
    assert detectable == pytest.approx(280 * np.sqrt(82 / 402 / 402), rel=0.05)
    rng, seen = np.random.default_rng(1), 0
    for repeat in range(REPEATS):
        change = drawn_changes(rng, (400,), 0.1 + detectable / 200, 0.1 - detectable / 200)
        before = (change < 0).astype(float)
        seen += paired_difference(before, (before + change)[:, None], seed=repeat, draws=400).interval[1] < 0
    assert 0.7 <= seen / REPEATS <= 0.9


@pytest.mark.parametrize(
    ("lost", "gained", "p"),
    [(0, 0, 1.0), (5, 0, 0.0625), (0, 5, 0.0625), (10, 10, 1.0), (10, 25, 0.016674), (1200, 1000, 2.2085e-05)],
)
def test_mcnemar(lost: int, gained: int, p: float) -> None:
    assert mcnemar(lost, gained) == pytest.approx(p, rel=1e-4)


def test_the_exact_test_and_the_approximation_meet() -> None:
    assert mcnemar(540, 460) == pytest.approx(mcnemar(541, 460), rel=0.15)


def test_false_discovery_rate_adjustment() -> None:
    assert benjamini_hochberg([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.02, 0.04, 0.04, 0.02])
    assert benjamini_hochberg([0.9, 0.8]) == pytest.approx([0.9, 0.9])
    assert benjamini_hochberg([]) == []


def test_one_answer_a_problem_is_tested_by_mcnemar_and_shares_by_the_bootstrap() -> None:
    before, after = np.array([1.0] * 9 + [0.0]), np.array([0.0] * 9 + [1.0])
    assert paired_difference(before, after[:, None]).test == "McNemar, exact"
    assert paired_difference(before, after[:, None]).p_value == mcnemar(9, 1)
    assert paired_difference(before, after[:, None], ["a"] * 5 + ["b"] * 5).test == "bootstrap"
    assert paired_difference(before, np.stack([after, after], axis=1)).test == "bootstrap"
    assert paired_difference(before / 2, after[:, None]).test == "bootstrap"
    assert paired_difference(before, after[:, None], seed=1) == paired_difference(before, after[:, None], seed=1)


def test_arrays_that_do_not_fit_are_refused() -> None:
    for before, after in ((np.ones(3), np.ones((2, 1))), (np.ones(0), np.ones((0, 1))), (np.ones(3), np.ones((3, 0)))):
        with pytest.raises(InputError, match="problems x seeds"):
            paired_difference(before, after)
