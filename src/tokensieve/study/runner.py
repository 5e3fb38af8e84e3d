"""Run a study: plan it, make what is not there yet, write the report."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from tokensieve.config import StudySettings, as_settings
from tokensieve.data.manifest import write_atomically
from tokensieve.errors import InputError, in_words
from tokensieve.generation.arms import ARMS, name_of_origin
from tokensieve.models.device import SAMPLE, SCORE, TRAIN, matmul_rate
from tokensieve.report import HTML_NAME, JSON_NAME, Report, read_report, write_report
from tokensieve.study.build_report import assemble
from tokensieve.study.plan import Planner
from tokensieve.study.recipes import read_recipe
from tokensieve.study.record import record_of, write_record
from tokensieve.study.steps import Plan, Runner, Silent, Step, Watcher
from tokensieve.study.workers import Prepare, cores, jobs_of, makespan, run_jobs
from tokensieve.types import Origin

SETTINGS_NAME: Final = "study.json"
_ROW_TOKENS = 200
"""Tokens of a training row where nothing is known of the data yet."""
_ANSWER_TOKENS = 80
"""Tokens of an answer, likewise."""


@dataclass(frozen=True, slots=True)
class StudyRun:
    """A study in its folder.

    Attributes:
        planner: holds the base model once it is loaded.
        plan: every step with its key.
        runner: knows which steps are finished.
        recipe: file of the recipe; None where the settings came from elsewhere.
    """

    planner: Planner
    plan: Plan
    runner: Runner
    recipe: Path | None = None

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
        if self.missing:
            write_record(record_of(self.plan.settings, self.recipe, self.planner.inputs, workers), root)
        if workers > 1:
            run_jobs(self.plan, self.runner, workers, prepare)
        else:
            self.runner.run(self.plan.steps())
        report = assemble(self.plan, self.runner, self.planner.base(), cached)
        return write_report(report, root), report

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
        by_name: for a dry run: plan without a model that is not on this machine; see ``Planner``.
    """
    planner = Planner(settings, root, by_name=by_name)
    file = None if recipe is None or not Path(recipe).is_file() else Path(recipe)
    return StudyRun(planner, planner.plan(), Runner(root, watcher or Silent()), file)


def run(
    recipe: str | Path | StudySettings | Mapping[str, object],
    out: str | Path | None = None,
    watcher: Watcher | None = None,
    workers: int = 1,
) -> tuple[Path, Report]:
    """Run a study from its recipe, or go on with it where it stopped.

    Args:
        recipe: a shipped recipe's name, a YAML file, or settings, also as a dict.
        out: folder of the run; ``runs/NAME`` for None.
        watcher: told of every step.
        workers: processes among which the steps are shared out. More than one are spawned, so a script that calls this
            must do so under ``if __name__ == "__main__"``.

    Returns:
        Path of the report's page, and the report.

    Raises:
        InputError: the recipe or what it names is wrong.
    """
    settings = read_recipe(recipe) if isinstance(recipe, str | Path) else as_settings(StudySettings, recipe, "recipe")
    given = recipe if isinstance(recipe, str | Path) else None
    return prepare(settings, Path(out or Path("runs") / settings.name), watcher, given).make(workers=workers)


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


def estimate_seconds(study: StudyRun, steps: Iterable[Step], workers: int = 1) -> float:
    """Seconds that the steps will take, roughly.

    Args:
        study: gives the model and the numbers of rows.
        steps: those that are to be made.
        workers: processes among which they are shared out.
    """
    settings = study.plan.settings
    model = study.planner.base()
    per_operation = model.model.num_parameters() / matmul_rate(str(model.device))
    if model.device.type == "cpu":
        per_operation *= min(workers, cores())  # each has its share of the cores
    rows = settings.data.limit or 400
    problems = settings.evaluate.limit or 200
    work = {
        "score": rows * _ROW_TOKENS * SCORE,
        "train": rows * _ROW_TOKENS * settings.train.epochs * TRAIN,
        "generate": rows * _samples(settings) * _ANSWER_TOKENS * SAMPLE,
        "evaluate": min(problems, settings.evaluate.other_limit or problems) * _ANSWER_TOKENS * SAMPLE,
    }
    jobs = jobs_of(study.plan, steps)
    return makespan(jobs, lambda step: work.get(step.verb, 0.0) * per_operation, workers)


def _samples(settings: StudySettings) -> float:
    """Answers a prompt, the mean over the study's arms that a model writes; 0 where there is none."""
    if settings.generate.sampling.n is not None:
        return settings.generate.sampling.n
    names = {arm.data: name_of_origin(arm.data) for arm in settings.arms if arm.data is not Origin.GROUND_TRUTH}
    return sum(ARMS[name].samples for name in names.values()) / max(1, len(names))
