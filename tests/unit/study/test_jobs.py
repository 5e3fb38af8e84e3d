"""Jobs: every step in one of them, runs whole, and none before what it needs."""

from pathlib import Path

import pytest

from tokensieve.config import StudySettings
from tokensieve.models import load_model
from tokensieve.models.speed import Speed
from tokensieve.study import jobs as jobs_module
from tokensieve.study.jobs import Job, estimate_seconds, jobs_of, makespan
from tokensieve.study.plan import Plan
from tokensieve.study.runner import prepare

STUDY: dict[str, object] = {
    "name": "n",
    "targets": [{"task": "pocket_python_foreign", "others": ["pocket_words"]}],
    "arms": [
        {"name": "plain"},
        {"name": "held", "anchors": {"count": 4}},
        {"name": "held more", "anchors": {"count": 8}},
        {"name": "for scores", "train": {"learning_rate": 1e-5}},
        {"name": "dpf", "policy": "dpf"},
    ],
    "sweep": {"learning_rates": [1e-4, 2e-4]},
    "score": {"models": {"tuned": "arm:for scores"}},
    "evaluate": {"drift": {"dialogues": 4}},
}


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return prepare(StudySettings.model_validate(STUDY), tmp_path_factory.mktemp("root")).plan


def test_each_step_is_in_one_job_behind_what_it_needs(plan: Plan) -> None:
    jobs = jobs_of(plan, plan.steps())
    keys = [step.key for job in jobs for step in job.steps]
    assert sorted(keys) == sorted({step.key for step in plan.steps()})
    owner = {step.key: number for number, job in enumerate(jobs) for step in job.steps}
    for number, job in enumerate(jobs):
        made: set[str] = set()
        for step in job.steps:
            for need in step.needs:
                assert need.key in made or owner[need.key] in job.needs
            made.add(step.key)
        assert number not in job.needs


def test_a_run_is_one_job(plan: Plan) -> None:
    jobs = jobs_of(plan, plan.steps())
    runs = [run for arm in plan.targets[0].arms for run in arm.runs]
    verbs = [tuple(step.verb for step in job.steps) for job in jobs if job.steps[0].verb == "train"]
    assert len(verbs) == len(runs) == 9
    assert set(verbs) == {
        ("train", "evaluate", "evaluate", "evaluate", "drift"),
        ("train", "evaluate", "evaluate", "drift"),
    }
    assert all(len(job.steps) == 1 for job in jobs if job.steps[0].verb != "train")


def test_arms_that_share_a_training_run_share_its_job(tmp_path: Path) -> None:
    arms = [{"name": "plain"}, {"name": "half", "alpha": 0.5}]
    plan = prepare(StudySettings.model_validate({**STUDY, "arms": arms, "sweep": {}, "score": {}}), tmp_path).plan
    (job,) = (job for job in jobs_of(plan, plan.steps()) if job.steps[0].verb == "train")
    verbs = [step.verb for step in job.steps]
    assert verbs == ["train", "evaluate", "evaluate", "drift", "repair", "evaluate", "evaluate", "drift"]


def test_what_several_runs_share_comes_first(plan: Plan) -> None:
    runs = [job.steps[0].verb == "train" for job in jobs_of(plan, plan.steps())]
    assert runs == sorted(runs)


def test_anchors_are_made_one_after_the_other(plan: Plan) -> None:
    jobs = jobs_of(plan, plan.steps())
    first, second = (number for number, job in enumerate(jobs) if job.steps[0].verb == "anchors")
    assert first in jobs[second].needs


def test_what_is_made_already_is_no_need(plan: Plan) -> None:
    run = plan.targets[0].arms[0].runs[0]
    (job,) = jobs_of(plan, list(run.steps())[2:])
    assert [step.key for step in job.steps] == [step.key for step in list(run.steps())[2:]]
    assert job.needs == frozenset()


@pytest.mark.parametrize(("workers", "expected"), [(1, 8.0), (2, 5.0), (3, 4.0), (9, 4.0)])
def test_the_time_of_several_workers(plan: Plan, workers: int, expected: float) -> None:
    first, *others = plan.steps()
    seconds = {first.key: 1.0, others[0].key: 3.0, others[1].key: 2.0, others[2].key: 2.0}
    jobs = [Job((first,), frozenset()), *(Job((step,), frozenset({0})) for step in others[:3])]
    assert makespan(jobs, lambda step: seconds[step.key], workers) == expected


def test_nothing_to_make_takes_no_time(tmp_path: Path, plan: Plan) -> None:
    assert makespan(jobs_of(plan, []), lambda step: 1.0, 2) == 0.0


@pytest.mark.parametrize(("workers", "threads", "turns"), [(1, None, 1), (2, 1, 1), (4, 1, 2)])
def test_the_estimate_is_each_steps_work_and_what_it_takes_beside(
    plan: Plan, monkeypatch: pytest.MonkeyPatch, workers: int, threads: int | None, turns: int
) -> None:
    speed = Speed(read_s=1.0, drawn_s=2.0, spectrum_s=0.0)
    asked: list[int | None] = []

    def measured(_: object, threads: int | None) -> Speed:
        asked.append(threads)
        return speed

    monkeypatch.setattr(jobs_module, "measure_speed", measured)
    monkeypatch.setattr(jobs_module, "cores", lambda: 2)
    steps = plan.steps()[:2]
    lengths = [speed.seconds(step.work) for step in steps]
    assert {step.verb for step in steps} == {"evaluate"}
    expected = sum(lengths) + 2 * 0.5 if workers == 1 else turns * max(lengths) + 0.5
    assert estimate_seconds(plan, steps, load_model("pocket"), workers) == pytest.approx(expected)
    assert threads is None or asked == [threads]
