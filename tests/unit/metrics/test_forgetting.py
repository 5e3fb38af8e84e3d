"""Accuracy, TI and BWT against the paper's own numbers, and intervals against what they must do."""

import math
from collections import Counter

import numpy as np
import pytest
from tests.estimates import ends, holds

from tokensieve.errors import InputError
from tokensieve.metrics import (
    Flags,
    Values,
    backward_transfer,
    best_within,
    difference,
    forgetting,
    target_improvement,
    undefined_tasks,
)
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


def test_a_base_that_is_not_scored_is_left_out_and_named_as_a_base_of_zero_is() -> None:
    before: Flags = {"new": flags(5, 10), "a": flags(5, 10), "b": np.array([0.5, math.nan])}
    after: Flags = {"new": flags(9, 10), "a": flags(4, 10), "b": np.array([0.5, 0.5])}
    found = forgetting(before, [after], "new", draws=200)
    assert found.dropped_tasks == ("b",)
    assert found.bwt == forgetting({t: before[t] for t in ("new", "a")}, [after], "new", draws=200).bwt


def test_a_setting_that_is_not_scored_is_never_the_best() -> None:
    before: Flags = {"target": flags(20, 100), "a": flags(80, 100)}
    sound: Flags = {"target": flags(50, 100), "a": flags(80, 100)}
    broken: Flags = {"target": np.full(100, math.nan), "a": flags(80, 100)}
    for settings, place in (([broken, sound], 1), ([sound, broken], 0), ([broken], None)):
        ((found, value),) = best_within(before, [[one] for one in settings], "target", (5.0,), draws=50)
        assert found == place
        assert value.value == (0.2 if place is None else 0.5)
        assert value.interval is not None
    validation: list[list[Values]] = [[np.full(60, math.nan)], [flags(30, 60)]]
    ((found, value),) = best_within(before, [[sound], [sound]], "target", (5.0,), validation, draws=50)
    assert found == 1


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
    low, high = ends(reverse.bwt)
    assert low < -5
    assert high > 5


def draw(rng: np.random.Generator, share: float, n: int) -> BoolArray:
    return rng.random(n) < share


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    """300 studies with known truths: TI, points, and BWT over two tasks of unlike size."""
    rng = np.random.default_rng(11)
    covered = Counter[str]()
    for trial in range(300):
        before = {"t": draw(rng, 0.5, 100), "o": draw(rng, 0.8, 150), "p": draw(rng, 0.9, 60)}
        after = {
            "t": np.where(before["t"], draw(rng, 0.9, 100), draw(rng, 0.4, 100)),
            "o": before["o"] & draw(rng, 0.75, 150),
            "p": before["p"] & draw(rng, 0.5, 60),
        }
        found = forgetting(before, [after], "t", seed=trial, draws=400)
        truths = {"ti": (found.ti, 30.0), "points": (found.ti_points, 15.0), "bwt": (found.bwt, -37.5)}
        covered.update(name for name, (estimate, truth) in truths.items() if holds(estimate, truth))
    # 95 % of 300 is 285; the binomial's own spread (sd 3.8) times three to either side, and a point for small samples.
    assert all(270 <= covered[name] <= 297 for name in ("ti", "points", "bwt")), covered


def test_intervals_over_seeds_cover_the_truth_where_seeds_are_what_varies() -> None:
    rng = np.random.default_rng(12)
    covered = 0
    for trial in range(200):
        before = {"t": draw(rng, 0.5, 50), "o": draw(rng, 0.8, 200)}
        kept = np.clip(rng.normal(0.6, 0.1, size=8), 0, 1)  # share of its skill that each seed's run keeps
        runs = [{"t": before["t"], "o": before["o"] & draw(rng, share, 200)} for share in kept]
        found = forgetting(before, runs, "t", seed=trial, draws=400).bwt
        covered += holds(found, -40)
    assert 178 <= covered <= 199


def test_the_interval_depends_on_nothing_but_the_answers_and_the_seed() -> None:
    rng = np.random.default_rng(4)
    before = {task: draw(rng, 0.6, 120) for task in ("t", "o", "p")}
    after = {task: draw(rng, 0.5, 120) for task in before}
    found = forgetting(before, [after], "t")
    assert forgetting(before, [after], "t") == found
    order = rng.permutation(120)
    shuffled = [{task: flags_[order] for task, flags_ in reversed(one.items())} for one in (before, after)]
    again = forgetting(shuffled[0], [shuffled[1]], "t")
    assert again.ti == found.ti
    assert (again.bwt.low, again.bwt.high) == pytest.approx((found.bwt.low, found.bwt.high))
    assert forgetting({"t": before["t"]}, [after], "t").ti == found.ti
    assert forgetting(before, [after], "t", seed=1).ti != found.ti


def test_seeds_widen_the_interval() -> None:
    before = {"t": flags(50, 100), "o": flags(80, 100)}
    good, bad = {"t": flags(60, 100), "o": flags(80, 100)}, {"t": flags(60, 100), "o": flags(20, 100)}
    one, two = forgetting(before, [good], "t"), forgetting(before, [good, bad], "t")
    assert two.bwt.value == pytest.approx(-37.5)
    assert np.ptp(ends(two.bwt)) > np.ptp(ends(one.bwt)) + 50


def test_more_seeds_narrow_the_interval_of_their_mean() -> None:
    before = {"t": flags(50, 100), "o": flags(80, 100)}
    runs = [{"t": flags(50, 100), "o": flags(kept, 100)} for kept in (20, 40, 60)]
    few, many = (forgetting(before, runs * times, "t").bwt for times in (1, 5))
    assert few.value == pytest.approx(many.value)
    assert np.ptp(ends(many)) < 0.6 * np.ptp(ends(few))


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
    assert lost.value is not None
    assert gain.value == pytest.approx(-lost.value)
    assert ends(gain)[0] > 0


def test_arms_with_unlike_numbers_of_seeds_are_still_paired_by_problem() -> None:
    rng = np.random.default_rng(3)
    before = {"t": draw(rng, 0.5, 80), "o": draw(rng, 0.8, 80)}
    run = {"t": draw(rng, 0.6, 80), "o": draw(rng, 0.5, 80)}
    points, bwt = difference(before, [run], [run, run, run], "t")
    assert (points.low, points.high) == pytest.approx((0.0, 0.0))
    assert (bwt.low, bwt.high) == pytest.approx((0.0, 0.0))


def test_a_base_that_hardly_solves_anything_gives_a_number_without_an_interval() -> None:
    before = {"t": flags(1, 100), "o": flags(80, 100)}  # 37 % of the replicates hold no problem that the base solves
    found = forgetting(before, [{"t": flags(50, 100), "o": flags(1, 100)}], "t")
    assert found.ti.value == pytest.approx(4900.0)
    assert found.ti.interval is None
    assert ends(found.ti_points)[0] > 0
    assert found.bwt.interval is not None
    _, bwt = difference({"o": before["t"], "t": before["o"]}, [{"o": flags(3, 100), "t": before["o"]}],
                        [{"o": flags(5, 100), "t": before["o"]}], "t")  # fmt: skip
    assert bwt.value == pytest.approx(-200.0)
    assert bwt.interval is None


def test_what_cannot_be_compared_is_refused() -> None:
    some = {"t": flags(1, 4)}
    with pytest.raises(InputError, match="target 'typo' was not evaluated; there are: t"):
        forgetting(some, [some], "typo")
    with pytest.raises(InputError, match="no run"):
        forgetting(some, [], "t")
    with pytest.raises(InputError, match="'t' has no problems"):
        forgetting({"t": flags(0, 0)}, [{"t": flags(0, 0)}], "t")
    with pytest.raises(InputError, match="do not pair up"):
        difference(some, [some], [{"o": flags(1, 4)}], "t")


def test_the_best_within_a_loss_is_the_base_where_no_setting_keeps_enough() -> None:
    before = {"target": flags(20, 100), "a": flags(80, 100), "b": flags(50, 100)}
    gentle = {"target": flags(40, 100), "a": flags(78, 100), "b": flags(49, 100)}  # BWT -2.25 %
    rough = {"target": flags(70, 100), "a": flags(40, 100), "b": flags(25, 100)}  # BWT -50 %
    found = best_within(before, [[gentle], [rough]], "target", (2.0, 5.0, 60.0), draws=200)
    assert [place for place, _ in found] == [None, 0, 1]
    assert [estimate.value for _, estimate in found] == pytest.approx([0.2, 0.4, 0.7])
    for _, estimate in found:
        low, high = ends(estimate)
        assert low < high
    _, free = found[2]
    assert holds(free, 0.7)


def test_a_loss_of_exactly_the_bound_is_allowed() -> None:
    before = {"target": flags(20, 100), "a": flags(80, 100)}
    after = {"target": flags(40, 100), "a": flags(76, 100)}
    ((place, _),) = best_within(before, [[after]], "target", (5.0,), draws=20)
    assert place == 0


def test_validation_problems_choose_the_setting_and_test_problems_measure_it() -> None:
    before = {"target": flags(20, 100), "a": flags(80, 100)}
    lucky = {"target": flags(60, 100), "a": flags(80, 100)}
    sound = {"target": flags(50, 100), "a": flags(80, 100)}
    validation = [[flags(30, 60)], [flags(40, 60)]]
    ((place, value),) = best_within(before, [[lucky], [sound]], "target", (5.0,), validation, draws=200)
    assert (place, value.value) == (1, 0.5)
    ((on_test, _),) = best_within(before, [[lucky], [sound]], "target", (5.0,), draws=200)
    assert on_test == 0
    # Rates that validation cannot tell apart change places in the replicates, so the interval reaches to both.
    ((_, open_),) = best_within(before, [[lucky], [sound]], "target", (5.0,), [[flags(39, 60)], [flags(40, 60)]])
    ((_, clear),) = best_within(before, [[lucky], [sound]], "target", (5.0,), [[flags(2, 60)], [flags(58, 60)]])
    assert ends(open_)[1] > ends(clear)[1] + 0.02


def test_the_interval_of_the_chosen_setting_covers_its_truth() -> None:
    """Three settings, one of which is better; chosen on 60 validation problems, measured on 100 test problems."""
    rng = np.random.default_rng(7)
    truths = (0.40, 0.45, 0.50)
    held = 0
    for run in range(200):
        before = {"target": rng.random(100) < 0.2, "a": flags(80, 100)}
        settings = [[{"target": rng.random(100) < truth, "a": flags(80, 100)}] for truth in truths]
        validation = [[rng.random(60) < truth] for truth in truths]
        ((place, value),) = best_within(before, settings, "target", (5.0,), validation, seed=run, draws=400)
        assert place is not None
        held += holds(value, truths[place])
    assert 0.92 <= held / 200 <= 1.0


def test_two_arms_that_started_from_other_models_are_each_relative_to_their_own() -> None:
    before, reference_before = {"t": flags(10, 100), "o": flags(80, 100)}, {"t": flags(10, 100), "o": flags(40, 100)}
    arm, reference = {"t": flags(30, 100), "o": flags(60, 100)}, {"t": flags(20, 100), "o": flags(36, 100)}
    points, bwt = difference(before, [arm], [reference], "t", reference_before=reference_before)
    assert points.value == pytest.approx(10.0)
    assert bwt.value == pytest.approx(-25.0 - -10.0)
    assert holds(bwt, -15.0)
    _, same = difference(before, [arm], [reference], "t", reference_before=before)
    _, plain = difference(before, [arm], [reference], "t")
    assert same.value == plain.value
    mean = {task: np.mean([before[task], reference_before[task]], axis=0) for task in before}
    assert forgetting(mean, [arm], "t").bwt.value == pytest.approx(100 * (60 / 60 - 1)), "means of several starts"
