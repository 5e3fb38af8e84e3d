"""From a study's settings to its steps: what depends on what, and under which key each result is kept."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from pydantic import BaseModel

from tokensieve.config import (
    ArmSettings,
    DataSettings,
    EvaluateSettings,
    ScoreSettings,
    SelectSettings,
    StudySettings,
    TargetSettings,
    TrainSettings,
)
from tokensieve.data.dataset import Rows
from tokensieve.data.manifest import write_atomically
from tokensieve.selection import code_digest, parse_policy
from tokensieve.study.steps import Step, step_key
from tokensieve.types import JSON, Example, Origin

if TYPE_CHECKING:
    from tokensieve.models import LoadedModel

Progress = Callable[[int, int], None]

NOT_TRAINED: Final = "not_trained"
"""File in place of a result where an arm has no row to train on; it says so in words."""


@dataclass(frozen=True, slots=True)
class ArmRun:
    """One arm of one target with one seed.

    Attributes:
        evaluations: one step a task, by the task's name.
    """

    seed: int
    train: Step
    evaluations: Mapping[str, Step]


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """One arm of one target: its data and its runs. The random policy draws anew for every seed."""

    settings: ArmSettings
    generate: Step | None
    score: Step
    selects: Mapping[int, Step]
    runs: tuple[ArmRun, ...]

    def steps(self) -> Iterator[Step]:
        """Its steps in the order in which they can be made."""
        if self.generate is not None:
            yield self.generate
        yield self.score
        for run in self.runs:
            yield self.selects[run.seed]
            yield run.train
            yield from run.evaluations.values()


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """One target with all its arms."""

    settings: TargetSettings
    arms: tuple[ArmPlan, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole study: the base model's evaluations, then every target."""

    settings: StudySettings
    base: Mapping[str, Step]
    targets: tuple[TargetPlan, ...]

    def steps(self) -> tuple[Step, ...]:
        """All steps, each once, in the order in which they can be made."""
        listed = [*self.base.values(), *(s for target in self.targets for arm in target.arms for s in arm.steps())]
        return tuple({step.key: step for step in listed}.values())


class Planner:
    """Builds the plan of a study. The base model is loaded once, when the first step asks for it.

    Args:
        settings: the study.
        root: folder of the run.
    """

    def __init__(self, settings: StudySettings, root: Path) -> None:
        self.settings = settings
        self.root = root
        self._base: LoadedModel | None = None
        self._tuned: tuple[str, LoadedModel] | None = None
        self._problems: dict[tuple[str, str, int | None], str] = {}

    def plan(self) -> Plan:
        """All steps of the study with their keys; nothing is run."""
        tasks = dict.fromkeys(task for target in self.settings.targets for task in (target.task, *target.others))
        base = {task: self._evaluate(task, "base", None) for task in tasks}
        return Plan(self.settings, base, tuple(self._target(target) for target in self.settings.targets))

    def base(self) -> "LoadedModel":
        """The model under study."""
        from tokensieve.models import load_model

        if self._base is None:
            self._base = load_model(self.settings.model)
        return self._base

    def _target(self, target: TargetSettings) -> TargetPlan:
        return TargetPlan(target, tuple(self._arm(target, arm) for arm in self.settings.arms))

    def _arm(self, target: TargetSettings, arm: ArmSettings) -> ArmPlan:
        generate = None if arm.data is Origin.GROUND_TRUTH else self._generate(target, arm)
        score = self._score(target, arm, generate)
        seeds = self.settings.seeds
        selects = {seed: self._select(target, arm, score, seed) for seed in seeds}
        runs = tuple(self._run(target, arm, selects[seed], seed) for seed in seeds)
        return ArmPlan(arm, generate, score, selects, runs)

    def _run(self, target: TargetSettings, arm: ArmSettings, select: Step, seed: int) -> ArmRun:
        label = f"{target.task} · {arm.name} · seed {seed}"
        train = self._train(label, select, seed)
        tasks = (target.task, *target.others)
        return ArmRun(seed, train, {task: self._evaluate(task, label, train) for task in tasks})

    def _generate(self, target: TargetSettings, arm: ArmSettings) -> Step:
        from tokensieve.generation import generate
        from tokensieve.generation.arms import name_of_origin

        settings = self.settings.generate.model_copy(update={"arm": name_of_origin(arm.data, arm.name)})
        limit = self.settings.train_limit

        def build(folder: Path, progress: Progress) -> None:
            generate(target.task, self.base(), settings, folder, limit=limit, data=self._data, progress=progress)

        key = step_key("generate", _json(settings), [self._model_key, self._task_key(target.task, "train", limit)])
        return Step("generate", f"{target.task} · {arm.data.value}", key, build)

    def _score(self, target: TargetSettings, arm: ArmSettings, generate: Step | None) -> Step:
        from tokensieve.pipeline import load, open_examples
        from tokensieve.scoring import score

        settings, limit = ScoreSettings(), self.settings.train_limit
        source = generate.key if generate else self._task_key(target.task, "train", limit)

        def build(folder: Path, progress: Progress) -> None:
            data: Rows[Example] | str = f"task:{target.task}/train"
            if generate is not None:
                data = open_examples(self.root / generate.folder_name)
            reading = DataSettings(limit=None if generate else limit, data=self._data)
            score(load(data, self.base(), reading), self.base(), settings, out=folder, progress=progress)

        label = f"{target.task} · {arm.data.value}"
        return Step("score", label, step_key("score", _json(settings), [self._model_key, source]), build)

    def _select(self, target: TargetSettings, arm: ArmSettings, score: Step, seed: int) -> Step:
        from tokensieve.pipeline import open_scored, select

        policy = parse_policy(arm.policy)  # a wrong one is to be known before hours of scoring, not after
        settings = SelectSettings(policy=arm.policy, seed=seed if policy.traits.seeded else 0)

        def build(folder: Path, progress: Progress) -> None:
            rows = open_scored(self.root / score.folder_name)
            progress(0, len(rows))
            select(rows, settings, folder)

        key = step_key("select", _json(settings), [score.key, code_digest(policy)])
        return Step("select", f"{target.task} · {arm.name}", key, build)

    def _train(self, label: str, select: Step, seed: int) -> Step:
        from tokensieve.pipeline import open_selected
        from tokensieve.training import train

        settings: TrainSettings = self.settings.train.model_copy(update={"seed": seed})

        def build(folder: Path, progress: Progress) -> None:
            rows = open_selected(self.root / select.folder_name)
            if len(rows) == 0:
                write_atomically(folder / NOT_TRAINED, b"no row is left to train on\n")
            else:
                train(rows, self.settings.model, settings, folder, progress=progress)

        return Step("train", label, step_key("train", _json(settings), [self._model_key, select.key]), build)

    def _evaluate(self, task: str, label: str, train: Step | None) -> Step:
        from tokensieve.evaluation import evaluate

        is_target = any(task == t.task for t in self.settings.targets)
        limit = self.settings.evaluate.limit if is_target else self.settings.other_limit or self.settings.evaluate.limit
        settings: EvaluateSettings = self.settings.evaluate.model_copy(update={"tasks": (task,), "limit": limit})

        def build(folder: Path, progress: Progress) -> None:
            if train is not None and (self.root / train.folder_name / NOT_TRAINED).is_file():
                write_atomically(folder / NOT_TRAINED, b"there is no trained model\n")
                return
            model = self.base() if train is None else self._after(train)
            evaluate(model, settings, folder, progress=progress)

        problems = self._task_key(task, settings.split, limit)
        inputs = [self._model_key, problems] if train is None else [train.key, problems]
        return Step("evaluate", f"{task} · {label}", step_key("evaluate", _json(settings), inputs), build)

    def _after(self, train: Step) -> "LoadedModel":
        """The trained model; the last one stays loaded, since its evaluations follow each other."""
        from tokensieve.models import load_model
        from tokensieve.training import open_adapter

        if self._tuned is None or self._tuned[0] != train.key:
            self._tuned = None  # frees the one before
            settings = open_adapter(self.root / train.folder_name).on(self.settings.model)
            self._tuned = (train.key, load_model(settings))
        return self._tuned[1]

    @property
    def _data(self) -> Path | None:
        return self.settings.evaluate.data

    @cached_property
    def _model_key(self) -> str:
        from tokensieve.models import fingerprint

        return fingerprint(self.settings.model)

    def _task_key(self, task: str, split: str, limit: int | None) -> str:
        """Digest of the problems themselves, so that a changed benchmark is noticed."""
        from tokensieve.sampling.grading import problems_digest
        from tokensieve.tasks import get_task

        asked = (task, split, limit)
        if asked not in self._problems:
            self._problems[asked] = problems_digest(get_task(task).problems(split, self._data, limit))
        return self._problems[asked]


def _json(settings: BaseModel) -> dict[str, JSON]:
    return cast("dict[str, JSON]", settings.model_dump(mode="json"))
