"""A swept study in one and in two processes: the same results, errors in words, and what a killed worker leaves."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tokensieve.config import StudySettings
from tokensieve.data.hashing import file_digest
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.report import Report, read_report
from tokensieve.study import prepare, run
from tokensieve.study.runner import read_record
from tokensieve.study.steps import Step
from tokensieve.study.workers import run_jobs

ROWS = 4
STUDY: dict[str, Any] = {
    "name": "swept",
    "targets": [{"task": "pocket_words", "others": ["pocket_choice"]}],
    "arms": [{"name": "plain"}, {"name": "STM 2.5", "policy": "stm:2.5", "train": {"learning_rate": 2e-4}}],
    "sweep": {"learning_rates": [1e-4, 2e-4], "validation_limit": 3},
    "data": {"limit": ROWS},
    "train": {"method": "lora", "epochs": 1, "batch_size": 2, "warmup_steps": 1},
    "evaluate": {
        "limit": ROWS,
        "sampling": {"max_new_tokens": 16},
        "drift": {"dialogues": 0, "text": __file__, "limit": 1},
    },
}

RULE = """
import os, signal
from pathlib import Path

def rule(row):
    marker = Path({marker!r})
    if not marker.exists():
        marker.touch()
        {deed}
    return row.tokens.in_response_T
"""


def numbers(report: Report) -> object:
    """A report without times and the run's own settings."""
    content = report.model_dump(mode="json", exclude={"created_at", "timing", "settings", "run"})
    for target in content["targets"]:
        for arm in target["arms"]:
            arm["wall_s"] = None
            for one in arm["runs"]:
                one["wall_s"] = None
    return content


def weights(root: Path) -> dict[str, str]:
    """Digest of the trained weights by training step."""
    return {path.parent.name: file_digest(path) for path in root.glob("train-*/adapter_model.safetensors")}


def by_rule(path: Path, deed: str) -> dict[str, Any]:
    """A study of one arm whose selection does something else the first time."""
    path.with_suffix(".py").write_text(RULE.format(marker=str(path), deed=deed))
    arms = [{"name": "own", "policy": f"{path.with_suffix('.py')}:rule"}]
    return {**STUDY, "arms": arms, "sweep": {}}


class Log:
    """Events of each step, in their order."""

    def __init__(self) -> None:
        self.events: dict[str, list[str]] = {}

    def started(self, step: Step, number: int, total: int) -> None:
        self.events.setdefault(step.key, []).append("started")

    def advanced(self, step: Step, done: int, total: int) -> None:
        self.events[step.key].append("advanced")

    def finished(self, step: Step, wall_s: float, *, cached: bool) -> None:
        self.events[step.key].append("finished")


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Log]:
    root, log = tmp_path_factory.mktemp("workers") / "two", Log()
    run(STUDY, root, log, workers=2)
    return root, log


@pytest.fixture(scope="module")
def in_two(watched: tuple[Path, Log]) -> Path:
    return watched[0]


def test_the_watcher_hears_of_work_inside_the_steps(watched: tuple[Path, Log]) -> None:
    events = watched[1].events
    for heard in events.values():
        assert (heard[0], heard[-1]) == ("started", "finished")
        assert set(heard[1:-1]) <= {"advanced"}
    assert sum("advanced" in heard for heard in events.values()) > len(events) / 2


def test_two_workers_find_what_one_finds(in_two: Path, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _, alone = run(STUDY, tmp_path / "one")
    finally:
        torch.set_num_threads(threads)
    assert weights(in_two) == weights(tmp_path / "one")
    assert len(weights(in_two)) == 3
    assert numbers(read_report(in_two)) == numbers(alone)


def test_the_report_has_the_frontier(in_two: Path) -> None:
    (target,) = read_report(in_two).targets
    plain, stm = target.frontier
    assert [point.learning_rate for point in plain.points] == [1e-4, 2e-4]
    assert [point.learning_rate for point in stm.points] == [2e-4]
    assert sum(point.chosen for point in plain.points) == 1
    assert all(point.validation_accuracy is not None for point in plain.points)
    assert all(point.drift is not None and point.drift > 0 for point in (*plain.points, *stm.points))
    assert plain.chosen is not None
    assert target.arms[0].learning_rate == plain.chosen.learning_rate
    assert [run.seed for run in target.arms[0].runs] == [0]


def test_the_run_is_recorded(in_two: Path) -> None:
    recorded = read_report(in_two).run
    assert recorded is not None
    assert recorded == read_record(in_two)
    assert (recorded.recipe, recorded.workers, recorded.checkout) == ("swept", 2, None)
    first = f"the first {ROWS}"
    assert set(recorded.inputs) == {
        "model",
        f"pocket_words/train, {first}",
        f"pocket_words/test, {first}",
        "pocket_words/validation, the first 3",
        f"pocket_choice/test, {first}",
    }


def in_one_worker(study: dict[str, Any], root: Path) -> None:
    """Make a study's steps in a single process that is not this one."""
    prepared = prepare(StudySettings.model_validate(study), root)
    run_jobs(prepared.plan, prepared.runner, 1)


def test_an_error_in_a_worker_names_its_step(in_two: Path, tmp_path: Path) -> None:
    root = shutil.copytree(in_two, tmp_path / "run")  # its base evaluations and scores are of use
    with pytest.raises(InputError, match=r"\(in select pocket_words · own\)"):
        in_one_worker(by_rule(tmp_path / "once", "return [True]"), root)


def test_a_killed_worker_is_told_and_the_second_call_finishes(in_two: Path, tmp_path: Path) -> None:
    root = shutil.copytree(in_two, tmp_path / "run")
    study = by_rule(tmp_path / "once", "os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(EnvironmentProblem, match=r"killed from outside; in work: select pocket_words · own"):
        in_one_worker(study, root)
    page, report = run(study, root)
    assert page.is_file()
    assert report.targets[0].arms[0].rows_out == ROWS
