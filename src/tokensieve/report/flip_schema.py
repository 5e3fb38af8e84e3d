"""Schema of a report's flips: answers that are right before training or after it, not both."""

from pydantic import BaseModel, ConfigDict, Field

from tokensieve.types import Outcome

_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

WORDS: dict[Outcome, str] = {
    Outcome.CORRECT: "right",
    Outcome.WRONG: "wrong",
    Outcome.NO_ANSWER: "wrong form",
    Outcome.CUT_OFF: "cut off",
    Outcome.NOT_JUDGED: "not judged",
}
"""Findings in the words of a flip's kind."""


def kind_of(before: Outcome, after: Outcome) -> str:
    """Kind of a flip, e.g. ``right → wrong form``."""
    return f"{WORDS[before]} → {WORDS[after]}"


class NearRow(BaseModel):
    """A training row that is near to a problem; its texts may be shortened."""

    model_config = _STRICT

    id: str
    """The row's id."""
    prompt: str
    """The question, as the model was asked it."""
    response: str
    """The response that it was taught, token by token as far as the arm trains it."""


class Nearness(BaseModel):
    """A near row's place, and how near it is."""

    model_config = _STRICT

    row: int
    """Place of the row among the target's near rows."""
    cosine: float
    """Cosine of the TF-IDF weights of the two prompts."""


class FlipProblem(BaseModel):
    """A problem whose answer flipped in some run, with the base's answer to it; texts may be shortened."""

    model_config = _STRICT

    id: str
    """The problem's id."""
    task: str
    """Its task."""
    question: str
    """The prompt's turns."""
    gold: str
    """The reference answer."""
    before: str
    """The base's answer."""
    outcome: Outcome
    """The finding on it."""
    extracted: str = ""
    """The part of it that was judged."""
    nearest: tuple[Nearness, ...] = ()
    """Training rows with the nearest prompts, the nearest first."""


class Flip(BaseModel):
    """A trained model's answer to a problem whose verdict changed sides."""

    model_config = _STRICT

    problem: int
    """Place of the problem among the target's flipped ones."""
    seed: int
    """The training seed."""
    after: str
    """The answer; it may be shortened."""
    outcome: Outcome
    """The finding on it."""
    extracted: str = ""
    """The part of it that was judged."""


class ArmFlips(BaseModel):
    """The flips of one arm on one task: how many there are of each kind, and those that are shown."""

    model_config = _STRICT

    task: str
    """The task's name."""
    counts: dict[str, int] = Field(default_factory=dict)
    """Flips by kind, over all seeds."""
    shown: tuple[Flip, ...] = ()
    """Those that the page holds, a stable draw."""
