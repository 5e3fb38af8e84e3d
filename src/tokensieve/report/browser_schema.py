"""Schema of what the page's browsers show: training rows token by token, and answers that changed sides."""

from pydantic import BaseModel, ConfigDict, Field, model_validator

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


class SampleRow(BaseModel):
    """A training row for the token browser; one value a token in each list."""

    model_config = _STRICT

    id: str
    """The row's id; the same id in another arm is the same row where the training data is the same."""
    pieces: tuple[str, ...]
    """The tokens as text."""
    nll: tuple[float | None, ...]
    """Nats under the base model; None = not scored."""
    in_response: tuple[bool, ...]
    """True on the response."""
    train: tuple[bool, ...]
    """True where the token contributes to the loss."""
    protected: tuple[bool, ...]
    """True where the token is trained whatever the policy says."""
    not_shown: int = 0
    """Tokens of the row after these."""
    entropy: tuple[float | None, ...] = ()
    """Entropy in nats of the base's next-token distribution; empty where not scored, as are those that follow."""
    rank: tuple[int | None, ...] = ()
    """Number of vocabulary entries that the base holds more likely."""
    weight: tuple[float, ...] = ()
    """Factor of the token's loss; empty where selection is hard."""
    tuned_nll: tuple[float | None, ...] = ()
    """Nats under another scorer, such as the model after training."""
    tuned_name: str = ""
    """Name of that scorer."""
    preferred: tuple[str, ...] = ()
    """The base's likeliest token at each place as text; empty text outside of the response."""

    @model_validator(mode="after")
    def _check_lengths(self) -> "SampleRow":
        lengths = {len(self.pieces), len(self.nll), len(self.in_response), len(self.train), len(self.protected)}
        optional = (self.entropy, self.rank, self.weight, self.tuned_nll, self.preferred)
        lengths |= {len(values) for values in optional if values}
        if len(lengths) > 1:
            raise ValueError(f"row {self.id}: lists of different lengths {sorted(lengths)}, expected one value a token")
        return self


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
