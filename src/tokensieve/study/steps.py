"""Steps of a study, the plan that they make up, and the runner that makes each of them once."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict

from tokensieve.config import ArmSettings, StudySettings, TargetSettings
from tokensieve.data.manifest import digest_of, write_atomically
from tokensieve.types import JSON, Progress

_KEY_VERSION = 1
"""Part of every key; raised when a stage's result changes with the same settings and inputs."""


class StepRecord(BaseModel):
    """The file beside a step's folder that says it is finished."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verb: str
    label: str
    key: str
    wall_s: float


class Watcher(Protocol):
    """Whoever is told what a study does; the command line prints it."""

    def started(self, step: "Step", number: int, total: int) -> None:
        """A step begins."""

    def advanced(self, done: int, total: int) -> None:
        """Work inside the step, in whatever unit the step counts."""

    def finished(self, step: "Step", wall_s: float, *, cached: bool) -> None:
        """A step's result is there."""


class Silent:
    """A watcher that says nothing."""

    def started(self, step: "Step", number: int, total: int) -> None:
        """Nothing."""

    def advanced(self, done: int, total: int) -> None:
        """Nothing."""

    def finished(self, step: "Step", wall_s: float, *, cached: bool) -> None:
        """Nothing."""


@dataclass(frozen=True, slots=True)
class Step:
    """One stage on one input.

    Attributes:
        verb: the stage, as on the command line.
        label: which one of its kind, for people.
        key: digest of the verb, its settings and the keys of its inputs: equal keys mean equal results, so a
            result is found again before anything has run.
        build: makes the result in the folder given; may be called again on a folder that a kill left half done.
        needs: the steps whose results it reads.
    """

    verb: str
    label: str
    key: str
    build: Callable[[Path, Progress], None]
    needs: "tuple[Step, ...]" = ()

    @property
    def folder_name(self) -> str:
        """Name of its folder inside the run's folder."""
        return f"{self.verb}-{self.key[:12]}"


def step_key(verb: str, settings: Mapping[str, JSON], inputs: Iterable[str]) -> str:
    """The key of a step: 64 hex digits."""
    return digest_of({"version": _KEY_VERSION, "verb": verb, "settings": dict(settings), "inputs": list(inputs)})


@dataclass(frozen=True, slots=True)
class ArmRun:
    """One arm of one target at one learning rate with one seed.

    Attributes:
        learning_rate: the peak.
        train: makes the trained model.
        repair: interpolates it with the base; None where the arm does not.
        evaluations: one step a task, by the task's name.
        validation: answers the target's validation problems; None where the arm has one rate, so none is chosen.
        drift: measures the model's drift from the base; None where the study does not.
        update: measures its weight update, likewise.
        tokens: scores the training rows that the page shows by the trained model, likewise.
    """

    seed: int
    learning_rate: float
    train: Step
    repair: Step | None
    evaluations: Mapping[str, Step]
    validation: Step | None = None
    drift: Step | None = None
    update: Step | None = None
    tokens: Step | None = None

    def steps(self) -> Iterator[Step]:
        """Training and what is done with the trained model, in the order in which they can be made."""
        yield self.train
        if self.repair is not None:
            yield self.repair
        yield from self.evaluations.values()
        measured = (self.validation, self.drift, self.update, self.tokens)
        yield from (step for step in measured if step is not None)


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """One arm of one target: its data and its runs. What is drawn at random is drawn anew for every seed.

    Attributes:
        generate: makes its data; None where that is the task's own.
        scores: score its rows, the base first; the last one's folder holds the scores of all.
        selects: one step a seed.
        anchors: select the pilot's rows and make the anchors; empty where training has none.
    """

    settings: ArmSettings
    generate: Step | None
    scores: tuple[Step, ...]
    selects: Mapping[int, Step]
    runs: tuple[ArmRun, ...]
    anchors: tuple[Step, ...] = ()

    def steps(self) -> Iterator[Step]:
        """Its steps in the order in which they can be made."""
        if self.generate is not None:
            yield self.generate
        yield from self.scores
        yield from self.anchors
        for run in self.runs:
            yield self.selects[run.seed]
            yield from run.steps()

    def by_rate(self) -> dict[float, tuple[ArmRun, ...]]:
        """Learning rate, ascending, to its runs in the order of the seeds."""
        rates = sorted({run.learning_rate for run in self.runs})
        return {rate: tuple(run for run in self.runs if run.learning_rate == rate) for rate in rates}

    def at(self, rate: float) -> "ArmPlan":
        """The arm with the runs at one learning rate only."""
        return replace(self, runs=self.by_rate()[rate])


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """One target with all its arms."""

    settings: TargetSettings
    arms: tuple[ArmPlan, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole study: the base model's evaluations, then every target.

    Attributes:
        base: one evaluation a task, by the task's name.
        draws: draw the rows on which drift is measured; empty where it is not.
    """

    settings: StudySettings
    base: Mapping[str, Step]
    targets: tuple[TargetPlan, ...]
    draws: tuple[Step, ...] = ()

    def steps(self) -> tuple[Step, ...]:
        """All steps, each once, in the order in which they can be made."""
        arms = (step for target in self.targets for arm in target.arms for step in arm.steps())
        listed = [*self.base.values(), *self.draws, *arms]
        return tuple({step.key: step for step in listed}.values())


@dataclass(frozen=True, slots=True)
class Runner:
    """Makes each step once, in a folder of its own under ``root``."""

    root: Path
    watcher: Watcher

    def folder(self, step: Step) -> Path:
        """Folder of the step's result, made or not."""
        return self.root / step.folder_name

    def record(self, step: Step) -> StepRecord | None:
        """Record of the finished step; None where it is not finished."""
        path = self._marker(step)
        if not path.is_file() or not self.folder(step).is_dir():
            return None
        record = StepRecord.model_validate_json(path.read_text(encoding="utf-8"))
        return record if record.key == step.key else None

    def run(self, steps: Iterable[Step]) -> None:
        """Make every step that is not there yet, in the order given; a step listed twice is made once."""
        unique = list({step.key: step for step in steps}.values())
        for number, step in enumerate(unique, start=1):
            if (record := self.record(step)) is not None:
                self.watcher.finished(step, record.wall_s, cached=True)
                continue
            self.watcher.started(step, number, len(unique))
            self.watcher.finished(step, self.make(step), cached=False)

    def make(self, step: Step) -> float:
        """Make one step whose needs are made, and return the seconds that it took."""
        began = time.monotonic()
        step.build(self.folder(step), self.watcher.advanced)
        wall_s = time.monotonic() - began
        done = StepRecord(verb=step.verb, label=step.label, key=step.key, wall_s=wall_s)
        write_atomically(self._marker(step), done.model_dump_json(indent=2).encode())
        return wall_s

    def _marker(self, step: Step) -> Path:
        return self.root / f"{step.folder_name}.json"
