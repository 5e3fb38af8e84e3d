"""Steps: each is made once, a kill leaves it unmade, a changed setting makes another."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tokensieve.study.steps import Runner, Step, step_key


class Log:
    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def started(self, step: Step, number: int, total: int) -> None:
        self.events.append(("started", f"{step.label} {number}/{total}"))

    def advanced(self, step: Step, done: int, total: int) -> None:
        self.events.append(("advanced", f"{done}/{total}"))

    def finished(self, step: Step, wall_s: float, *, cached: bool) -> None:
        self.events.append(("cached" if cached else "made", step.label))


def step(label: str, *, fails: bool = False, settings: int = 0) -> Step:
    def build(folder: Path, progress: Callable[[int, int], None]) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "half").touch()
        progress(1, 2)
        if fails:
            raise KeyboardInterrupt
        (folder / "whole").write_text(label)

    return Step("score", label, step_key("score", {"x": settings, "label": label}, ["input"]), build)


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    steps = [step("a"), step("b"), step("a")]
    first, second = Log(), Log()
    Runner(tmp_path, first).run(steps)
    Runner(tmp_path, second).run(steps)
    assert [e for e in first.events if e[0] != "advanced"] == [
        ("started", "a 1/2"),
        ("made", "a"),
        ("started", "b 2/2"),
        ("made", "b"),
    ]
    assert second.events == [("cached", "a"), ("cached", "b")]


def test_an_interrupted_step_is_not_taken_for_a_finished_one(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        Runner(tmp_path, Log()).run([step("a"), step("b", fails=True)])
    log = Log()
    runner = Runner(tmp_path, log)
    assert runner.record(step("b")) is None
    runner.run([step("a"), step("b")])
    assert ("cached", "a") in log.events
    assert ("made", "b") in log.events


def test_other_settings_are_another_step(tmp_path: Path) -> None:
    log = Log()
    runner = Runner(tmp_path, log)
    runner.run([step("a")])
    runner.run([step("a", settings=1)])
    assert [kind for kind, _ in log.events if kind in ("made", "cached")] == ["made", "made"]


def test_a_deleted_folder_is_made_again(tmp_path: Path) -> None:
    runner = Runner(tmp_path, Log())
    runner.run([step("a")])
    (folder,) = [p for p in tmp_path.iterdir() if p.is_dir()]
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert runner.record(step("a")) is None


def test_the_record_of_a_deleted_folder_does_not_vouch_for_one_left_half_done(tmp_path: Path) -> None:
    runner = Runner(tmp_path, Log())
    runner.run([step("a")])
    shutil.rmtree(runner.folder(step("a")))
    with pytest.raises(KeyboardInterrupt):
        runner.run([step("a", fails=True)])
    assert runner.folder(step("a")).is_dir()
    assert runner.record(step("a")) is None
