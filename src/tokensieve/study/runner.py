"""Run a study: plan it, make what is not there yet, record with what it was made, write the report."""

import os
import subprocess
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from tokensieve.config import StudySettings, as_settings
from tokensieve.data.manifest import digest_of, package_versions, write_atomically
from tokensieve.errors import InputError, in_words
from tokensieve.report import HTML_NAME, JSON_NAME, Report, read_report, write_report
from tokensieve.report.schema import Checkout, RunRecord
from tokensieve.study.build_report import assemble
from tokensieve.study.jobs import jobs_of, threads_of
from tokensieve.study.plan import Plan, Planner
from tokensieve.study.recipes import command_of, read_recipe
from tokensieve.study.reuse import elsewhere, runs_in, take_over
from tokensieve.study.steps import Runner, Silent, Step, Watcher
from tokensieve.study.workers import Prepare, run_jobs

SETTINGS_NAME: Final = "study.json"
RECORD_NAME: Final = "run.json"
_GIT_S: Final = 10.0
"""Seconds after which git is not waited for."""


@dataclass(frozen=True, slots=True)
class StudyRun:
    """A study in its folder.

    Attributes:
        planner: holds the base model once it is loaded.
        plan: every step with its key.
        runner: knows which steps are finished.
        recipe: name of a shipped recipe, or a file; None for settings in memory.
    """

    planner: Planner
    plan: Plan
    runner: Runner
    recipe: str | Path | None = None

    @property
    def missing(self) -> tuple[Step, ...]:
        """The steps that are not finished, in the order in which they will be made."""
        return tuple(step for step in self.plan.steps() if self.runner.record(step) is None)

    def make(
        self, *, report_again: bool = False, workers: int = 1, prepare: Prepare | None = None
    ) -> tuple[Path, Report]:
        """Make every missing step, then the report; returns the page's path and what is on it.

        Args:
            report_again: write the report anew where nothing is missing and it is there already.
            workers: processes among which the steps are shared out; 1 makes them in this one.
            prepare: called in each of several workers first; a function of a module.
        """
        root = self.runner.root
        _check_place(root)
        if not self.missing and not report_again and (finished := self._finished_report()) is not None:
            return root / HTML_NAME, finished
        write_atomically(root / SETTINGS_NAME, self.plan.settings.model_dump_json(indent=2).encode() + b"\n")
        cached = frozenset(step.key for step in self.plan.steps()) - {step.key for step in self.missing}
        workers = max(1, min(workers, len(jobs_of(self.plan, self.missing))))
        if self.missing or (self.taken() and read_record(root) is None):
            record = record_of(self.plan.settings, self.recipe, self.planner.inputs.digests, workers)
            write_record(record, root)
        if workers > 1:
            run_jobs(self.plan, self.runner, workers, prepare)
        else:
            self.runner.run(self.plan.steps())
        if (written := read_record(root)) is not None and written.taken != (taken := self.taken()):
            write_record(written.model_copy(update={"taken": taken}), root)
        last = read_record(root)  # of the last call that made a step, which may have been another recipe's
        report = assemble(self.plan, self.runner, self.planner.inputs.base(), last, self._command(last), cached)
        return write_report(report, root), report

    def _command(self, record: RunRecord | None) -> str:
        """The shell command that asks for this study: this call's, else the recorded one."""
        if self.recipe is not None:
            return command_of(self.plan.settings, self.recipe)
        return (record.command if record else "") or f"tokensieve run {self.plan.settings.name}"

    def elsewhere(self, folders: Iterable[Path]) -> tuple[tuple[Step, Path], ...]:
        """The missing steps that other runs have finished, each with the folder of the first such run.

        Args:
            folders: of runs, or folders that hold such.

        Raises:
            InputError: there is no such folder.
        """
        return tuple(elsewhere(self.runner, self.plan.steps(), runs_in(folders)))

    def take_over(self, found: Iterable[tuple[Step, Path]]) -> None:
        """Take steps over that other runs have finished.

        Raises:
            InputError: the run's folder holds a report which no study wrote.
        """
        _check_place(self.runner.root)
        take_over(self.runner, found)

    def taken(self) -> dict[str, int]:
        """Number of the study's steps whose results were taken from other runs, by the name of the run's folder."""
        records = (self.runner.record(step) for step in self.plan.steps())
        counts = Counter(record.taken_from for record in records if record is not None and record.taken_from)
        return dict(sorted(counts.items()))

    def _finished_report(self) -> Report | None:
        """The report of an earlier start with these very settings; None where there is none that can be read."""
        try:
            report = read_report(self.runner.root)
        except InputError:
            return None
        same = report.settings == self.plan.settings.model_dump(mode="json")
        return report if same and (self.runner.root / HTML_NAME).is_file() else None


def _check_place(root: Path) -> None:
    """Refuse a folder that holds a report which no study wrote."""
    foreign = [name for name in (HTML_NAME, JSON_NAME) if os.path.lexists(root / name)]
    if foreign and not (root / SETTINGS_NAME).is_file():
        raise InputError(
            f"{', '.join(foreign)} would be overwritten, and no study wrote it here",
            where=str(root),
            fix="choose another --out",
        )


def prepare(
    settings: StudySettings,
    root: Path,
    watcher: Watcher | None = None,
    recipe: str | Path | None = None,
    *,
    by_name: bool = False,
) -> StudyRun:
    """Plan a study in a folder; nothing is run yet.

    Args:
        settings: the study.
        root: folder of the run.
        watcher: told of every step.
        recipe: what the settings were read from; of a file in a git checkout the commit is recorded.
        by_name: for a dry run: plan without a model that is not on this machine; see ``StudyInputs``.
    """
    planner = Planner(settings, root, by_name=by_name)
    return StudyRun(planner, planner.plan(), Runner(root, watcher or Silent()), recipe)


def run(
    recipe: str | Path | StudySettings | Mapping[str, object],
    out: str | Path | None = None,
    watcher: Watcher | None = None,
    workers: int = 1,
    reuse: Sequence[str | Path] = (),
) -> tuple[Path, Report]:
    """Run a study from its recipe, or go on with it where it stopped.

    Args:
        recipe: a shipped recipe's name, a YAML file, or settings, also as a dict.
        out: folder of the run; ``runs/NAME`` for None.
        watcher: told of every step.
        workers: processes among which the steps are shared out. More than one are spawned, so a script that calls this
            must do so under ``if __name__ == "__main__"``.
        reuse: folders of other runs, or folders that hold such, whose finished steps are taken over where their keys
            are this study's.

    Returns:
        Path of the report's page, and the report.

    Raises:
        InputError: the recipe or what it names is wrong.
    """
    settings = read_recipe(recipe) if isinstance(recipe, str | Path) else as_settings(StudySettings, recipe, "recipe")
    given = recipe if isinstance(recipe, str | Path) else None
    study = prepare(settings, Path(out or Path("runs") / settings.name), watcher, given)
    study.take_over(study.elsewhere(map(Path, reuse)))
    return study.make(workers=workers)


def settings_of_run(root: Path) -> StudySettings:
    """The settings that a run's folder was made with.

    Raises:
        InputError: not the folder of a run, or settings that are damaged or of another version.
    """
    path = root / SETTINGS_NAME
    if not path.is_file():
        raise InputError(f"no {SETTINGS_NAME}, so this is not the folder of a run", where=str(root))
    try:
        return StudySettings.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise InputError(
            f"the settings are damaged or of another version: {in_words(error.errors()[0])}",
            where=str(path),
            fix="tokensieve run RECIPE --out FOLDER writes them again; finished steps are kept",
        ) from None


def record_of(settings: StudySettings, recipe: str | Path | None, inputs: dict[str, str], workers: int) -> RunRecord:
    """The record of a run that starts now.

    Args:
        settings: of the study.
        recipe: name of a shipped recipe, or a file; None for settings in memory.
        inputs: digest of the base model and of each set of problems.
        workers: number of processes.
    """
    file = None if recipe is None or not Path(recipe).is_file() else Path(recipe)
    return RunRecord(
        recipe=str(recipe or settings.name) if file is None else file.name,
        command="" if recipe is None else command_of(settings, recipe),
        settings_digest=digest_of(settings.model_dump(mode="json")),
        inputs=inputs,
        checkout=None if file is None else checkout_of(file),
        versions=dict(package_versions()),
        workers=workers,
        threads=threads_of(workers),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def checkout_of(recipe: Path) -> Checkout | None:
    """The git checkout that a file belongs to; None where it lies in none, or git is not there."""
    folder = recipe.resolve().parent
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None or _git(folder, "ls-files", "--error-unmatch", recipe.name) is None:
        return None
    return Checkout(commit=commit, changed=bool(_git(folder, "status", "--porcelain", "--untracked-files=no")))


def write_record(record: RunRecord, root: Path) -> None:
    """Write the record into the run's folder.

    Raises:
        EnvironmentProblem: the disk is full or refuses.
    """
    write_atomically(root / RECORD_NAME, record.model_dump_json(indent=2).encode() + b"\n")


def read_record(root: Path) -> RunRecord | None:
    """The record of a run; None where there is none that can be read, as in a folder of an earlier version."""
    try:
        return RunRecord.model_validate_json((root / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command; None where it fails or is not installed."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(  # noqa: S603 -- fixed arguments, no shell
            command, capture_output=True, text=True, timeout=_GIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
