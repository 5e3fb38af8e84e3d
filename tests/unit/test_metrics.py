"""Accuracy, TI and BWT against the paper's own numbers, and intervals against what they must do."""

import math

import numpy as np
import pytest

from tokensieve.errors import InputError
from tokensieve.metrics import accuracy, backward_transfer, difference, forgetting, target_improvement, undefined_tasks
from tokensieve.types import BoolArray

# Gemma-2-2B with MBPP as target, accuracies as printed in the paper.
BASE = {"MBPP": 0.5106, "MATH": 0.281, "ARC": 0.7474, "GSM8K": 0.5845, "BIRD": 0.1389}
PLAIN = {"MBPP": 0.3995, "MATH": 0.2290, "ARC": 0.7159, "GSM8K": 0.1926, "BIRD": 0.0514}
STM = {"MBPP": 0.5106, "MATH": 0.2980, "ARC": 0.7483, "GSM8K": 0.5641, "BIRD": 0.1375}


def flags(correct: int, n: int) -> BoolArray:
    return np.arange(n) < correct


def test_the_papers_check_values() -> None:
    assert backward_transfer(BASE, PLAIN, "MBPP") == pytest.approx(-38.19, abs=0.01)
    assert target_improvement(BASE, PLAIN, "MBPP") == pytest.approx(-21.76, abs=0.01)
    assert backward_transfer(BASE, STM, "MBPP") == pytest.approx(0.42, abs=0.01)
    assert target_improvement(BASE["MBPP"], STM["MBPP"]) == 0.0


def test_a_base_of_zero_has_no_relative_change_and_is_named() -> None:
    before = {"new": 0.0, "a": 0.5, "b": 0.0}
    after = {"new": 0.9, "a": 0.25, "b": 0.1}
    assert math.isnan(target_improvement(before, after, "new"))
    assert backward_transfer(before, after, "new") == -50.0
    assert undefined_tasks(before, "new") == ("b",)
    assert math.isnan(backward_transfer({"new": 0.0, "b": 0.0}, after, "new"))


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


def test_missing_tasks_are_named() -> None:
    with pytest.raises(InputError, match="MATH"):
        backward_transfer({"MBPP": 0.5, "MATH": 0.5}, {"MBPP": 0.5}, "MBPP")
    with pytest.raises(InputError, match="do not pair up"):
        forgetting({"a": flags(1, 4)}, [{"a": flags(1, 3)}], "a")


def test_pairing_makes_the_interval_narrower_than_independent_problems_would() -> None:
    before = {"t": flags(50, 100), "o": flags(80, 100)}
    same = forgetting(before, [before], "t")
    assert same.bwt.low == same.bwt.high == same.bwt.value == 0.0
    reverse = forgetting(before, [{task: f[::-1].copy() for task, f in before.items()}], "t")
    assert reverse.bwt.value == 0.0
    assert reverse.bwt.low < -5
    assert reverse.bwt.high > 5


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(11)
    covered = 0
    for trial in range(200):
        base = rng.random(150) < 0.8
        tuned = base & (rng.random(150) < 0.75)  # true relative change: -25 %
        found = forgetting({"t": base, "o": base}, [{"t": base, "o": tuned}], "t", seed=trial, draws=400)
        covered += found.bwt.low <= -25 <= found.bwt.high
    assert 180 <= covered <= 198


def test_seeds_widen_the_interval() -> None:
    before = {"t": flags(50, 100), "o": flags(80, 100)}
    good, bad = {"t": flags(60, 100), "o": flags(80, 100)}, {"t": flags(60, 100), "o": flags(20, 100)}
    one, two = forgetting(before, [good], "t"), forgetting(before, [good, bad], "t")
    assert two.bwt.value == pytest.approx(-37.5)
    assert two.bwt.high - two.bwt.low > one.bwt.high - one.bwt.low + 50


def test_a_new_task_is_counted_in_points() -> None:
    before = {"new": flags(0, 100), "o": flags(80, 100)}
    found = forgetting(before, [{"new": flags(89, 100), "o": flags(40, 100)}], "new")
    assert not found.ti.defined
    assert found.ti_points.value == pytest.approx(89.0)
    assert found.bwt.value == pytest.approx(-50.0)


def test_the_difference_of_two_arms_cancels_what_they_share() -> None:
    rng = np.random.default_rng(2)
    before = {"t": rng.random(200) < 0.5, "o": rng.random(200) < 0.8}
    shared = {"t": rng.random(200) < 0.6, "o": before["o"] & (rng.random(200) < 0.6)}
    points, bwt = difference(before, [shared], [shared], "t")
    assert (points.low, points.high, bwt.low, bwt.high) == (0.0, 0.0, 0.0, 0.0)
    better = {**shared, "o": before["o"]}
    _, gain = difference(before, [better], [shared], "t")
    lost = forgetting(before, [shared], "t").bwt
    assert gain.value == pytest.approx(-lost.value)
    assert gain.low > 0
