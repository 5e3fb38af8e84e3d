"""Steps of a study: one stage on one input each, kept under a key, and the runner that makes each of them once."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from pydantic import BaseModel, ConfigDict

from tokensieve.data.manifest import digest_of, write_atomically
from tokensieve.models.speed import NOTHING, Work
from tokensieve.types import JSON, Progress

NOT_TRAINED: Final = "not_trained"
"""File in place of a result where an arm has no row to train on; it says so in words."""
_KEY_VERSION: Final = 1
"""Part of every key; raised when a stage's result changes with the same settings and inputs."""


class StepRecord(BaseModel):
    """The file beside a step's folder that says it is finished."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    verb: str
    label: str
    key: str
    wall_s: float
    taken_from: str = ""
    """Name of the other run's folder whose result this is; empty where it was made here."""


class Watcher(Protocol):
    """Whoever is told what a study does; the command line prints it. With several workers steps overlap."""

    def started(self, step: "Step", number: int, total: int) -> None:
        """A step begins."""

    def advanced(self, step: "Step", done: int, total: int) -> None:
        """Work inside a step that has begun, in whatever unit the step counts."""

    def finished(self, step: "Step", wall_s: float, *, cached: bool) -> None:
        """A step's result is there."""


class Silent:
    """A watcher that says nothing."""

    def started(self, step: "Step", number: int, total: int) -> None:
        """Nothing."""

    def advanced(self, step: "Step", done: int, total: int) -> None:
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
        work: what it does with the model, roughly.
    """

    verb: str
    label: str
    key: str
    build: Callable[[Path, Progress], None]
    needs: "tuple[Step, ...]" = ()
    work: Work = NOTHING

    @property
    def folder_name(self) -> str:
        """Name of its folder inside the run's folder."""
        return f"{self.verb}-{self.key[:12]}"


def step_key(verb: str, settings: Mapping[str, JSON], inputs: Iterable[str]) -> str:
    """The key of a step: 64 hex digits."""
    return digest_of({"version": _KEY_VERSION, "verb": verb, "settings": dict(settings), "inputs": list(inputs)})


def settings_json(settings: BaseModel, exclude: set[str] | None = None) -> dict[str, JSON]:
    """Settings as part of a key."""
    return settings.model_dump(mode="json", exclude=exclude)


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
        self._marker(step).unlink(missing_ok=True)  # of a folder that is gone: it would vouch for one left half done
        step.build(self.folder(step), partial(self.watcher.advanced, step))
        wall_s = time.monotonic() - began
        self.write_record(step, StepRecord(verb=step.verb, label=step.label, key=step.key, wall_s=wall_s))
        return wall_s

    def write_record(self, step: Step, record: StepRecord) -> None:
        """Write the record that says that a step is finished."""
        content = record.model_dump_json(indent=2, exclude_defaults=True)
        write_atomically(self._marker(step), content.encode())

    def _marker(self, step: Step) -> Path:
        return self.root / f"{step.folder_name}.json"
