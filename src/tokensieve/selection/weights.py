"""Policies that weight the loss of tokens or rows: soft, flow, and published losses on the base's stored scores."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from tokensieve.errors import InputError
from tokensieve.selection.policy import (
    EAFT_TOP_K,
    Candidates,
    Decision,
    Factors,
    TrainingSplit,
    Traits,
    no_argument,
    number,
)
from tokensieve.selection.thresholds import median, not_above, perplexity
from tokensieve.types import FloatArray

_WEIGHTED = Traits(weighted=True)


@dataclass(frozen=True, slots=True)
class Soft:
    """Weight each token by min(1, PPL / its perplexity).

    Formula: ``w = exp(min(0, ln(PPL) - nll))``. Source: our own, the soft form of STM: no gradient of a token's loss
    exceeds that of a token at the threshold by more than their logits do.
    """

    perplexity: float
    usage: ClassVar[str] = "soft:PPL"
    traits: ClassVar[Traits] = _WEIGHTED

    @property
    def threshold_nats(self) -> float:
        """See ``Policy``: the nll above which a weight is below 1."""
        return math.log(self.perplexity)

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        return cls(perplexity(argument, cls.usage))

    def fit(self, split: TrainingSplit) -> Self:  # noqa: ARG002 - takes nothing from the split
        """See ``Policy``."""
        return self

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        return Decision(np.exp(np.minimum(0.0, self.threshold_nats - row.nll_P())))


@dataclass(frozen=True, slots=True)
class Flow:
    """Weight each row by exp(-its loss / the median loss), so that easy rows count more.

    Formula: ``w = exp(-l / m)`` for all tokens of a row, protected ones included; ``l`` is the mean nll of its
    response tokens, ``m`` the median of ``l`` over the training split. Source: FLOW (arXiv 2502.02797), with its
    default temperature. Differs: our training divides by the sum of the weights.
    """

    median_nats: float = math.nan
    usage: ClassVar[str] = "flow"
    traits: ClassVar[Traits] = Traits(weighted=True, whole_rows=True)
    threshold_nats: ClassVar[float] = math.inf

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        no_argument(argument, cls.usage)
        return cls()

    def fit(self, split: TrainingSplit) -> Self:
        """See ``Policy``."""
        return replace(self, median_nats=_median_row_loss(split))

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        row.nll_P()  # raises where a token of the row has no score
        loss = row.row_loss()
        weight = 1.0 if math.isnan(loss) else float(_decay(np.array([loss]), self.median_nats)[0])
        return Decision(np.full(len(row), weight), protected=weight)


@dataclass(frozen=True, slots=True)
class FrozenDft:
    """Weight each token by its probability under the base, as DFT does under the current model.

    Formula: ``w = p = exp(-nll)``. Source: DFT (arXiv 2508.05629). Differs: ``p`` is the base's and stays, where DFT's
    rises while the model learns; our training divides by the sum of the weights, DFT by the number of tokens.
    """

    usage: ClassVar[str] = "frozen:dft"
    traits: ClassVar[Traits] = _WEIGHTED
    threshold_nats: ClassVar[float] = math.inf

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        no_argument(argument, cls.usage)
        return cls()

    def fit(self, split: TrainingSplit) -> Self:  # noqa: ARG002 - takes nothing from the split
        """See ``Policy``."""
        return self

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        return Decision(np.exp(-row.nll_P()))


@dataclass(frozen=True, slots=True)
class FrozenEaft:
    """Weight each token by the base's top-20 entropy over 3.0, to the power ALPHA (by default 1), as EAFT does.

    Formula: ``w = min(1, H20 / 3.0) ** ALPHA``; H20 in nats is the entropy of the 20 likeliest entries as if there
    were no others. Needs ``score --entropy-top-k 20``. Source: EAFT (arXiv 2601.02151; the divisor 3.0, about ln 20, as
    in LLaMA-Factory). Differs: H20 is the base's; our training divides by the sum of the weights.
    """

    alpha: float = 1.0
    usage: ClassVar[str] = "frozen:eaft[:ALPHA]"
    traits: ClassVar[Traits] = Traits(weighted=True, needs=("top_entropy",))
    threshold_nats: ClassVar[float] = math.inf

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        return cls(number(argument, cls.usage, low=0.0)) if argument else cls()

    def fit(self, split: TrainingSplit) -> Self:
        """See ``Policy``."""
        scored = split.top_k.get(split.scorer)
        if scored is not None and scored != EAFT_TOP_K:
            raise InputError(
                f"EAFT takes the entropy of the {EAFT_TOP_K} likeliest entries, the scores by {split.scorer!r} hold"
                f" that of {scored}",
                where="frozen:eaft",
                fix=f"tokensieve score … --entropy-top-k {EAFT_TOP_K}",
            )
        return self

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        return Decision(np.clip(row.top_entropy_P() / 3.0, 0.0, 1.0) ** self.alpha)


@dataclass(frozen=True, slots=True)
class FrozenProfit:
    """Leave out tokens of a probability below MINIMUM (by default 0.1) under the base, as ProFit does.

    Formula: a candidate is trained where ``p >= MINIMUM``; the same as ``stm`` at ``1 / MINIMUM``. Source: ProFit
    (arXiv 2601.09195), which divides by the number of trained tokens as our training does. Differs: ``p`` is the
    base's and not the current model's.
    """

    minimum: float = 0.1
    usage: ClassVar[str] = "frozen:profit[:MINIMUM]"
    traits: ClassVar[Traits] = Traits()

    @property
    def threshold_nats(self) -> float:
        """See ``Policy``."""
        return -math.log(self.minimum)

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        return cls(_probability(argument, cls.usage)) if argument else cls()

    def fit(self, split: TrainingSplit) -> Self:  # noqa: ARG002 - takes nothing from the split
        """See ``Policy``."""
        return self

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        return Decision(not_above(row.nll_P(), self.threshold_nats))


@dataclass(frozen=True, slots=True)
class FrozenInfoSft:
    """Weight tokens of medium probability most: p * relu(1 - logit(p) / logit(P)), P by default 0.93, as InfoSFT does.

    Formula: as above, with ``logit(p) = ln(p / (1 - p))``; 0 from ``p = P`` on. Source: InfoSFT (arXiv 2605.14967).
    Differs: ``p`` is the base's; our training divides by the sum of the weights.
    """

    ceiling: float = 0.93
    usage: ClassVar[str] = "frozen:infosft[:P]"
    traits: ClassVar[Traits] = _WEIGHTED
    threshold_nats: ClassVar[float] = math.inf

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        return (
            cls(number(argument, cls.usage, low=0.501, high=0.999, what="a probability between 0.5 and 1"))
            if argument
            else cls()
        )

    def fit(self, split: TrainingSplit) -> Self:  # noqa: ARG002 - takes nothing from the split
        """See ``Policy``."""
        return self

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        nll_P = np.maximum(row.nll_P(), 0.0)
        with np.errstate(divide="ignore"):  # a probability of 1 has an infinite logit, and so a weight of 0
            logit_P = -nll_P - np.log(-np.expm1(-nll_P))
        ceiling = math.log(self.ceiling) - math.log1p(-self.ceiling)
        return Decision(np.exp(-nll_P) * np.maximum(0.0, 1.0 - logit_P / ceiling))


@dataclass(frozen=True, slots=True)
class FrozenTalr:
    """Weight each token by max(FLOOR, p ** (1 / tau)), FLOOR by default 0.01, as TALR does.

    Formula: ``w = max(FLOOR, exp(-nll / tau))``; ``tau`` in nats is the median over the rows of a row's mean nll.
    Source: TALR (arXiv 2509.20758). Differs: ``p`` is the base's; ``tau`` is of the training split, TALR's of each
    batch; our training divides by the sum of the weights.
    """

    floor: float = 0.01
    tau_nats: float = math.nan
    usage: ClassVar[str] = "frozen:talr[:FLOOR]"
    traits: ClassVar[Traits] = _WEIGHTED
    threshold_nats: ClassVar[float] = math.inf

    @classmethod
    def parse(cls, argument: str) -> Self:
        """See ``Policy``."""
        return cls(number(argument, cls.usage, low=0.0, high=1.0)) if argument else cls()

    def fit(self, split: TrainingSplit) -> Self:
        """See ``Policy``."""
        return replace(self, tau_nats=_median_row_loss(split))

    def select(self, row: Candidates) -> Decision:
        """See ``Policy``."""
        return Decision(np.maximum(self.floor, _decay(row.nll_P(), self.tau_nats)))


def _probability(text: str, usage: str) -> float:
    """A probability above 0.

    Raises:
        InputError: it is none.
    """
    return number(text, usage, low=5e-324, high=1.0, what="a probability above 0 and up to 1")


def _median_row_loss(split: TrainingSplit) -> float:
    """The median over the rows of a row's mean nll, in nats; NaN where no row has a scored response."""

    def losses() -> Iterator[FloatArray]:
        for row in split.rows():
            if not math.isnan(loss := row.row_loss()):
                yield np.array([loss], dtype=np.float32)

    return median(losses)


def _decay(nats: Factors, scale: float) -> Factors:
    """``exp(-nats / scale)``; with a scale of 0 its limit: 1 at 0 nats and 0 above."""
    return np.exp(-np.maximum(nats, 0.0) / scale) if scale > 0 else (nats <= 0).astype(np.float64)
