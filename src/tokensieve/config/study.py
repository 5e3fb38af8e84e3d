"""Settings of a study: what it compares, and one setting of everything else."""

from typing import TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from tokensieve.config.arms import ArmSettings, SweepSettings, TargetSettings
from tokensieve.config.base import STRICT, ModelSettings
from tokensieve.config.data import DataSettings, ScoreSettings
from tokensieve.config.evaluation import DriftSettings, EvaluateSettings
from tokensieve.config.sampling import GenerateSettings
from tokensieve.config.training import TrainSettings
from tokensieve.errors import explain
from tokensieve.types import BASE_SCORER, JSON, Origin

Listed = TypeVar("Listed", bound=tuple[object, ...])


ARM_PREFIX = "arm:"
"""Begins the name of an arm where a study's scorer is the model that the arm trains."""


class StudyScoreSettings(ScoreSettings):
    """Scores of a study's training tokens, and the models that compute them."""

    models: dict[str, ModelSettings | str] = Field(default_factory=dict)
    """Models beside the one under study, by scorer name: a model's settings, or arm:NAME for the model that an earlier
    arm trains on the same target (its first seed)."""

    def by(self, scorer: str) -> ScoreSettings:
        """The settings of scoring by one model."""
        return ScoreSettings.model_validate({**self.model_dump(exclude={"models"}), "scorer": scorer})


class StudyEvaluateSettings(EvaluateSettings):
    """Evaluation of a study's models."""

    other_limit: int | None = Field(None, gt=0)
    """The first N problems of each task that is not a target; by default `limit`."""

    drift: DriftSettings | None = None
    """Rows on which the drift of every trained model from the base is measured; by default none."""
    update: bool = False
    """Measure every trained model's weight update: its norm, singular values and effective rank by kind of module."""
    tokens: bool = False
    """Score the training rows that the page shows by every arm's model (first seed), for the change of each token."""

    def of(self, task: str, *, is_target: bool) -> EvaluateSettings:
        """The settings of evaluating one task."""
        limit = self.limit if is_target else self.other_limit or self.limit
        return EvaluateSettings.model_validate(
            {**self.model_dump(exclude={"other_limit", "drift", "update", "tokens"}), "tasks": (task,), "limit": limit}
        )


class StudySettings(BaseModel):
    """Arms x targets x seeds with one setting of everything else."""

    model_config = STRICT

    name: str
    """Name of the recipe; the run's folder carries it."""
    title: str = ""
    """One line for people."""
    model: ModelSettings = ModelSettings()
    """The model under study."""
    targets: tuple[TargetSettings, ...] = Field(min_length=1)
    """Tasks to learn."""
    arms: tuple[ArmSettings, ...] = Field(min_length=1)
    """Runs to compare; an arm named `plain` is the reference."""
    seeds: tuple[int, ...] = Field((0,), min_length=1)
    """One run of every arm for each, at every rate."""
    sweep: SweepSettings = SweepSettings()
    """Learning rates to try."""
    data: DataSettings = DataSettings()
    """Reading and tokenisation of the training rows; `limit` takes the first N of each target."""
    score: StudyScoreSettings = StudyScoreSettings()
    """Scores of every training token, and the models beside the one under study that compute them."""
    train: TrainSettings = TrainSettings()
    """Settings of all arms, but for those that an arm has of its own."""
    generate: GenerateSettings = GenerateSettings()
    """Generation of Self-Output and its like."""
    evaluate: StudyEvaluateSettings = StudyEvaluateSettings()
    """Evaluation of skills; `tasks` is filled from the targets."""
    notes: tuple[str, ...] = ()
    """Sentences that the report's readers must know, such as how the learning rate was chosen."""

    @field_validator("targets", "arms", "seeds")
    @classmethod
    def _check_unique(cls, listed: Listed) -> Listed:
        """Results are kept and shown by these names, so that a second one would hide the first."""
        names = [getattr(entry, "name", getattr(entry, "task", entry)) for entry in listed]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{name!r} is listed twice")
        return listed

    @model_validator(mode="after")
    def _check_used(self) -> "StudySettings":
        """Refuse settings that a study does not use."""
        unused = {
            "data.format": self.data.format != "auto",
            "data.columns": bool(self.data.columns),
            "score.scorer": self.score.scorer != BASE_SCORER,
            f"score.models.{BASE_SCORER}": BASE_SCORER in self.score.models,
            "evaluate.tasks": bool(self.evaluate.tasks),
            "train.seed": self.train.seed != 0 or any("seed" in arm.train for arm in self.arms),
        }
        instead = {
            "score.scorer": "name other models in score.models",
            "evaluate.tasks": "name them in the targets",
            "train.seed": "give seeds",
        }
        for name in (name for name, given in unused.items() if given):
            raise ValueError(f"{name} has no effect in a study; {instead.get(name, 'leave it out')}")
        for held in self.arms:
            if held.anchors is not None and self.train_of(held).objective.kl.anchors is not None:
                raise ValueError(f"arm {held.name!r} names a folder of anchors and settings that make one")
            if held.anchors is not None and self.train_of(held).objective.kl.refresh and not held.anchors.refreshable:
                raise ValueError(f"arm {held.name!r} chooses anchors again; its anchors need refreshable: true")
        self._check_sweep()
        self._check_rows_made()
        self._check_in_a_row()
        names = [arm.name for arm in self.arms]
        for scorer, model in self.score.models.items():
            arm = model.removeprefix(ARM_PREFIX) if isinstance(model, str) else ""
            if isinstance(model, str) and (not model.startswith(ARM_PREFIX) or arm not in names):
                expected = f"a model's settings, or arm:NAME with an arm of the study ({', '.join(names)})"
                raise ValueError(f"score.models.{scorer}: expected {expected}, got {model!r}")
        for one in self.arms:
            training = self.train_of(one)
            if one.alpha != 1.0 and training.method == "lora" and training.lora.dora:
                raise ValueError(f"arm {one.name!r}: a DoRA update cannot be interpolated; leave alpha out")
            one.select_settings(0)
        return self

    def _check_rows_made(self) -> None:
        """Refuse an arm's own settings of generation that have no effect."""
        for arm in self.arms:
            if arm.generate.given() and arm.data is Origin.GROUND_TRUTH:
                raise ValueError(f"arm {arm.name!r}: generate has no effect on {arm.data.value} data; leave it out")

    def _check_in_a_row(self) -> None:
        """Refuse a target after another one that some arm cannot go on from."""
        for place, target in enumerate(self.targets):
            if not target.after:
                continue
            earlier = [one.task for one in self.targets[:place]]
            if target.after not in earlier:
                known = ", ".join(earlier) or "none"
                raise ValueError(
                    f"target {target.task!r}: after names an earlier target ({known}), not {target.after!r}"
                )
            for arm in (arm for arm in self.arms if arm.is_for(target.task)):
                reason = (
                    f"is not trained on {target.after!r}" if not arm.is_for(target.after)
                    else "has several learning rates" if len(self.rates_of(arm)) > 1
                    else "is interpolated with the base (alpha)" if arm.alpha != 1.0
                    else ""
                )  # fmt: skip
                if reason:
                    raise ValueError(
                        f"arm {arm.name!r} {reason}, so it has no one model from which {target.task!r} could go on;"
                        " name the arm's targets"
                    )

    def _check_sweep(self) -> None:
        """Refuse rates that have no effect, and arms of targets that are not there."""
        tasks = [target.task for target in self.targets]
        for arm in self.arms:
            for task in arm.targets:
                if task not in tasks:
                    raise ValueError(f"arm {arm.name!r}: no target {task!r} in this study ({', '.join(tasks)})")
            if "learning_rate" in arm.train and arm.name in self.sweep.arms:
                raise ValueError(f"sweep.arms: arm {arm.name!r} has a train.learning_rate of its own; keep one of them")
        for name, rates in self.sweep.arms.items():
            if name not in [arm.name for arm in self.arms] or not rates:
                raise ValueError(f"sweep.arms: expected rates of an arm of this study, got {name!r} with {rates}")
        for task in tasks:
            if not any(arm.is_for(task) for arm in self.arms):
                raise ValueError(f"target {task!r} has no arm")
        if any(len(self.rates_of(arm)) > 1 for arm in self.arms):
            if self.evaluate.split == "validation":
                raise ValueError("evaluate.split: rates are chosen on validation, so arms are compared on another one")
            if self.data.split == "validation":
                raise ValueError("data.split: rates are chosen on validation, so another split is learnt")

    def rates_of(self, arm: ArmSettings) -> tuple[float, ...]:
        """The peak learning rates at which an arm is trained, ascending."""
        own = (self.train_of(arm).learning_rate,)
        if "learning_rate" in arm.train:
            return own
        return tuple(sorted(self.sweep.arms.get(arm.name) or self.sweep.learning_rates or own))

    def train_of(self, arm: ArmSettings) -> TrainSettings:
        """An arm's training settings: the study's, with its own in their place.

        Raises:
            ValueError: an unknown key (the nearest valid one is named), or a value of the wrong form.
        """
        merged = _merged(self.train.model_dump(), arm.train)
        try:
            return TrainSettings.model_validate(merged)
        except ValidationError as error:
            raise ValueError(f"arm {arm.name!r}: {explain(error, TrainSettings, 'train')}") from None

    def generate_of(self, arm: ArmSettings) -> GenerateSettings:
        """An arm's settings of generation: the study's, with its own in their place."""
        return GenerateSettings.model_validate(_merged(self.generate.model_dump(), arm.generate.given()))


def _merged(old: dict[str, JSON], new: dict[str, JSON]) -> dict[str, JSON]:
    """Nested settings with some of them replaced."""
    result = dict(old)
    for key, value in new.items():
        held = result.get(key)
        result[key] = _merged(held, value) if isinstance(held, dict) and isinstance(value, dict) else value
    return result
