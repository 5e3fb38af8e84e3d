"""Settings of what a study compares: its arms, the targets that they learn, the learning rates that are tried."""

from typing import Literal

from pydantic import BaseModel, Field, model_validator

from tokensieve.config.base import STRICT, Rates
from tokensieve.config.data import SelectSettings
from tokensieve.config.training import AnchorSettings
from tokensieve.types import JSON, Origin


class ArmGenerateSettings(BaseModel):
    """Settings of generation that an arm has of its own, as in `generate`; those left out are the study's."""

    model_config = STRICT

    n: int | None = Field(None, gt=0)
    """Answers a prompt."""
    temperature: float | None = Field(None, ge=0)
    """Sampling temperature."""
    choose: Literal["lowest-perplexity", "random", "shortest", "first"] | None = None
    """Choice among the correct answers."""
    perplexity: Literal["conditional", "unconditional"] | None = None
    """Of the answer given the prompt, or of its text alone."""
    none_correct: Literal["drop", "ground-truth"] | None = None
    """Treatment of a prompt without a correct answer."""
    stop_at: int | None = Field(None, gt=0)
    """Stop drawing for a prompt once it has this many correct answers."""
    correct_share: float | None = Field(None, ge=0, le=1)
    """Share of prompts whose kept answer is a correct one, the others' is a wrong one."""

    def given(self) -> dict[str, JSON]:
        """Those that are given, by their names in `generate`."""
        own = self.model_dump(mode="json", exclude_none=True)
        sampling = {name: own.pop(name) for name in ("n", "temperature") if name in own}
        return {**own, **({"sampling": sampling} if sampling else {})}


class ArmSettings(BaseModel):
    """One arm of a study: a training set, the tokens of it that are trained, and how."""

    model_config = STRICT

    name: str
    """Its name in tables."""
    data: Origin = Origin.GROUND_TRUTH
    """Origin of the responses."""
    policy: str = "plain"
    """Policy, as in `select`."""
    scorer: str = "base"
    """Scorer whose scores decide, as in `select`: `base`, or a name in the study's score.models."""
    protect: tuple[Literal["end_of_turn", "tool_calls", "reasoning"], ...] | None = None
    """As in `select`; by default all of them."""
    paper_exact: bool = False
    """As in `select`: no token is protected."""
    protect_cap: float | None = Field(None, gt=0)
    """As in `select`: cap in nats on the loss of a protected token."""
    anchors: AnchorSettings | None = None
    """Rows on which its training is held to the base, found by a pilot on all response tokens; by default none."""
    alpha: float = Field(1.0, ge=0, le=1)
    """Interpolation after training: the model is base + alpha (tuned - base); not for DoRA."""
    mix: str | None = None
    """FOLDER:SHARE of rows to be mixed in whole, as in `select`."""
    targets: tuple[str, ...] = ()
    """Only for these targets of the study; empty is all of them."""
    generate: ArmGenerateSettings = ArmGenerateSettings()
    """Settings of `generate` that differ from the study's, e.g. {correct_share: 0.5}."""
    train: dict[str, JSON] = Field(default_factory=dict)
    """Settings of `train` that differ from the study's, nested as there, e.g. {learning_rate: 1.0e-4, lora: {r: 8}}. An
    arm with a learning rate of its own is trained at that one alone, also in a sweep."""

    def is_for(self, task: str) -> bool:
        """True if it is trained on this target."""
        return not self.targets or task in self.targets

    def select_settings(self, seed: int) -> SelectSettings:
        """The settings of its selection."""
        given = {} if self.protect is None else {"protect": self.protect}
        return SelectSettings(
            policy=self.policy,
            scorer=self.scorer,
            paper_exact=self.paper_exact,
            protect_cap=self.protect_cap,
            seed=seed,
            **given,
        )


class TargetSettings(BaseModel):
    """One target of a study: what is learnt, and the skills that may be forgotten."""

    model_config = STRICT

    task: str
    """The task whose train split is learnt and on which the gain is measured."""
    others: tuple[str, ...]
    """The tasks over which backward transfer is taken."""
    title: str = ""
    """One line for people."""
    after: str = ""
    """Task of an earlier target: every arm goes on from the model that it has trained on that one with the same seed,
    and its gain and backward transfer are relative to that model. Empty starts from the model under study."""

    @model_validator(mode="after")
    def _check_others(self) -> "TargetSettings":
        if self.task in self.others:
            raise ValueError(f"{self.task} is the target, so it cannot be among the others")
        return self


class SweepSettings(BaseModel):
    """Learning rates at which every arm is trained; one of them is chosen for each arm and target on validation."""

    model_config = STRICT

    learning_rates: Rates = ()
    """Peak learning rates; empty trains at `train.learning_rate` alone."""
    arms: dict[str, Rates] = Field(default_factory=dict)
    """Peak learning rates of single arms, by name, in place of these."""
    validation_limit: int | None = Field(None, gt=0)
    """The first N validation problems of the target, on which a rate is chosen; by default `evaluate.limit`."""
