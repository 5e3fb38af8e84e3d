"""Learning rates: which are tried, which one validation chooses, and what the frontier says of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from tokensieve.config import ArmSettings, StudySettings
from tokensieve.errors import InputError
from tokensieve.metrics import Estimate, Flags, Values
from tokensieve.report.results_schema import Outcomes, TaskResult
from tokensieve.study.plan import ArmPlan, ArmRun
from tokensieve.study.runner import prepare
from tokensieve.study.steps import Step
from tokensieve.study.sweep import choose_rate, frontier, swept

TARGET = {"task": "pocket_python_foreign", "others": ["pocket_words"]}
PLAIN = {"name": "plain"}
RATES = {"learning_rates": [2e-4, 5e-5]}


def study(**changes: object) -> StudySettings:
    return StudySettings.model_validate({"name": "n", "targets": [TARGET], "arms": [PLAIN], **changes})


@pytest.mark.parametrize(
    ("accuracies", "problems", "expected"),
    [
        ({5e-5: 0.50, 1e-4: 0.53, 2e-4: 0.54}, 100, 5e-5),  # one standard error of 0.52 on 100 is 0.05
        ({5e-5: 0.40, 1e-4: 0.53, 2e-4: 0.54}, 100, 1e-4),
        ({5e-5: 0.40, 1e-4: 0.45, 2e-4: 0.60}, 100, 2e-4),
        ({5e-5: 0.50, 1e-4: 0.53}, 10_000, 1e-4),
        ({1e-4: 0.0, 2e-4: 0.0}, 100, 1e-4),
    ],
)
def test_the_lowest_rate_among_those_that_cannot_be_told_from_the_best(
    accuracies: dict[float, float], problems: int, expected: float
) -> None:
    flags = {rate: [np.arange(problems) < share * problems] for rate, share in accuracies.items()}
    assert choose_rate(accuracies, flags) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({1e-4: 0.0, 2e-4: 0.02}, 2e-4),  # the same on every problem: told apart, though 0.02 is within 0.05
        ({1e-4: 0.0, 2e-4: 0.0}, 1e-4),
    ],
)
def test_likelihoods_are_compared_problem_by_problem(changes: dict[float, float], expected: float) -> None:
    base_N = np.linspace(0.2, 0.8, 100)
    values = {rate: [base_N + change + 0.01 * np.sin(np.arange(100) + rate * 1e4)] for rate, change in changes.items()}
    assert choose_rate({rate: float(runs[0].mean()) for rate, runs in values.items()}, values) == expected


def test_every_arm_is_trained_at_every_rate_and_shares_what_does_not_depend_on_it(tmp_path: Path) -> None:
    arms = [PLAIN, {"name": "own", "policy": "stm:2.5", "train": {"learning_rate": 1e-3}}]
    plan = prepare(study(arms=arms, seeds=[0, 1], sweep={**RATES, "validation_limit": 3}), tmp_path).plan
    plain, own = plan.targets[0].arms
    assert [(run.learning_rate, run.seed) for run in plain.runs] == [(5e-5, 0), (5e-5, 1), (2e-4, 0), (2e-4, 1)]
    assert [run.learning_rate for run in own.runs] == [1e-3, 1e-3]
    assert len({run.train.key for run in plain.runs}) == 4
    assert len({plain.rows[run.seed].select.key for run in plain.runs}) == 1
    assert all(run.validation is not None for run in plain.runs)
    assert all(run.validation is None for run in own.runs), "one rate leaves nothing to choose"
    assert {run.learning_rate for run in plain.at(2e-4).runs} == {2e-4}
    before = prepare(study(train={"learning_rate": 2e-4}), tmp_path).plan.targets[0].arms[0].runs[0]
    assert before.train.key == plain.by_rate()[2e-4][0].train.key, "a study without a sweep has made it already"


def test_an_arm_may_be_for_some_targets_only(tmp_path: Path) -> None:
    other = {"task": "pocket_sql_house", "others": ["pocket_words"]}
    arms = [PLAIN, {"name": "sql", "targets": ["pocket_sql_house"]}]
    first, second = prepare(study(targets=[TARGET, other], arms=arms), tmp_path).plan.targets
    assert [arm.settings.name for arm in first.arms] == ["plain"]
    assert [arm.settings.name for arm in second.arms] == ["plain", "sql"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": [{"name": "a", "targets": ["gsm8k"]}]}, "arm 'a': no target 'gsm8k' in this study"),
        ({"sweep": {"learning_rates": [0.0]}}, "sweep.learning_rates.0\n.*greater than 0.*input_value=0.0"),
        ({"arms": [{"name": "a"}], "sweep": {"arms": {"a": [-1.0]}}}, "sweep.arms.a.0\n.*greater than 0"),
        (
            {"arms": [{"name": "a"}], "sweep": {"arms": {"b": [1e-4]}}},
            "expected rates of an arm of this study, got 'b'",
        ),
        (
            {"sweep": {"arms": {"a": [1e-3]}}, "arms": [{"name": "a", "train": {"learning_rate": 1e-4}}]},
            "arm 'a' has a train.learning_rate of its own",
        ),
        ({"sweep": RATES, "evaluate": {"split": "validation"}}, "rates are chosen on validation"),
        ({"sweep": RATES, "data": {"split": "validation"}}, "data.split: rates are chosen on validation"),
        (
            {
                "targets": [TARGET, {"task": "pocket_sql_house", "others": []}],
                "arms": [{"name": "a", "targets": ["pocket_sql_house"]}],
            },
            "target 'pocket_python_foreign' has no arm",
        ),
    ],
)
def test_a_sweep_that_cannot_be_meant_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        study(**changes)


def test_a_target_without_validation_problems_is_refused(tmp_path: Path) -> None:
    target = {"task": "humaneval", "others": []}
    with pytest.raises(InputError, match="has none; its splits are"):
        prepare(study(targets=[target], sweep=RATES), tmp_path)


def test_a_scorer_that_an_arm_trains_needs_one_rate(tmp_path: Path) -> None:
    arms = [PLAIN, {"name": "a", "policy": "dpf"}]
    with pytest.raises(InputError, match="trained at several rates"):
        prepare(study(arms=arms, sweep=RATES, score={"models": {"tuned": "arm:plain"}}), tmp_path)


def step(name: str) -> Step:
    return Step("train", name, name, lambda folder, progress: None)


def run(rate: float, seed: int) -> ArmRun:
    return ArmRun(seed, rate, step(f"{rate} {seed}"), None, {}, step("validation"))


def answers(target: int, other: int) -> Flags:
    return {"target": np.arange(100) < target, "other": np.arange(100) < other}


BEFORE = answers(20, 80)
AFTER = {1e-4: answers(40, 78), 2e-4: answers(70, 40)}


def plan(name: str) -> ArmPlan:
    runs = tuple(run(rate, seed) for rate in AFTER for seed in (0, 1))
    return ArmPlan(ArmSettings(name=name), {}, runs)


def test_a_frontier_has_a_point_for_every_rate() -> None:
    validated = {1e-4: Estimate(value=0.4), 2e-4: Estimate(value=0.7)}
    values = {rate: np.arange(100) < 100 * (one.value or 0) for rate, one in validated.items()}

    def validation(runs: Sequence[ArmRun]) -> tuple[Estimate, list[Values]]:
        rate = runs[0].learning_rate
        return validated[rate], [values[rate]] * len(runs)

    plain, other = (swept(plan(name), lambda r: AFTER[r.learning_rate], validation) for name in ("plain", "other"))
    assert plain.chosen == 2e-4
    drifts = {1e-4: None, 2e-4: 0.5}
    result = TaskResult(task="target", accuracy=Estimate(value=0.5), outcomes=Outcomes())
    found = frontier(other, BEFORE, "target", plain, lambda runs: result, lambda r: drifts[r.learning_rate])
    low, high = found.points
    assert (low.learning_rate, high.learning_rate) == (1e-4, 2e-4)
    assert (low.chosen, high.chosen) == (False, True)
    assert (low.at_plain_rate, high.at_plain_rate) == (False, True)
    assert (low.drift, high.drift) == (None, 0.5)
    assert low.backward_transfer.value == pytest.approx(-2.5)
    assert high.backward_transfer.value == pytest.approx(-50.0)
    assert high.target_points.value == pytest.approx(50.0)
    assert high.points_against_plain.value == pytest.approx(0.0)
    assert not low.points_against_plain.defined
    assert [(best.loss, best.learning_rate) for best in found.best_within] == [(2, None), (5, 1e-4), (10, 1e-4)]
    assert all(best.on_validation for best in found.best_within)
    assert found.chosen is high
    assert found.at_plain_rate is high
