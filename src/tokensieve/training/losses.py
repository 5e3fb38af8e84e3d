"""Losses of a trained token under the model in training: a weight without gradient times its nll, and a KL to the base.

Every entry of ``LOSSES`` is one published rule. ``w_t`` is computed from the current model and carries no gradient
(``sg`` in the papers); the weight of a soft selection comes on top.
"""

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from tokensieve.errors import InputError
from tokensieve.selection import EAFT_TOP_K

if TYPE_CHECKING:
    import torch

_EAFT_SCALE: Final = 3.0
"""Nats; close to the entropy of 20 equally likely entries, ln 20 = 2.996."""
_INFOSFT_P: Final = 0.93
_PROFIT_P: Final = 0.1
_TALR_FLOOR: Final = 0.01

KlDirection = Literal["none", "forward", "reverse"]


@dataclass(frozen=True, slots=True)
class TokenStats:
    """The current model at N trained tokens, without gradient.

    Attributes:
        nll_N: nll of the token in nats.
        top_entropy_N: entropy in nats of the 20 likeliest entries as if there were no others; 0 where not asked for.
        base_nll_N: nll under the base in nats; 0 where not asked for.
    """

    nll_N: "torch.Tensor"
    top_entropy_N: "torch.Tensor"
    base_nll_N: "torch.Tensor"


@dataclass(frozen=True, slots=True)
class Loss:
    """One loss: ``(sum_t w_t nll_t + kl_weight KL_t) / count``.

    Attributes:
        formula: the weight of token t, in a line for people.
        source: where it was published, and where this differs.
        weights: weight of each token [N] from its statistics and the loss's argument; None is 1 everywhere.
        default: the argument where none is given; None where the loss takes none.
        kl: divergence at every trained token: forward is KL(base || model), reverse KL(model || base), over the whole
            vocabulary; the argument is its factor.
        top_entropy: whether ``weights`` needs ``top_entropy_N``.
        base: whether ``weights`` needs ``base_nll_N``.
        counts_weights: the sum is divided by the sum of the weights in place of the number of trained tokens.
        batch_statistic: the weights depend on the whole batch, so that it must be one forward pass.
    """

    formula: str
    source: str
    weights: "Callable[[TokenStats, float], torch.Tensor] | None" = None
    default: float | None = None
    kl: KlDirection = "none"
    top_entropy: bool = False
    base: bool = False
    counts_weights: bool = False
    batch_statistic: bool = False

    @property
    def plain(self) -> bool:
        """True for the mean nll, which TRL's own loss computes."""
        return self.weights is None and self.kl == "none"

    @property
    def needs_base(self) -> bool:
        """True where the base runs over the batch too."""
        return self.base or self.kl != "none"


def _dft(stats: TokenStats, _: float) -> "torch.Tensor":
    return (-stats.nll_N).exp()


def _eaft(stats: TokenStats, alpha: float) -> "torch.Tensor":
    return (stats.top_entropy_N / _EAFT_SCALE) ** alpha


def _infosft(stats: TokenStats, largest: float) -> "torch.Tensor":
    p_N = (-stats.nll_N.double()).exp().clamp(1e-12, 1 - 1e-12)
    logit_N = (p_N / (1 - p_N)).log()
    reference = math.log(largest / (1 - largest))
    return (p_N * (1 - logit_N / reference).clamp_min(0.0)).float()


def _profit(stats: TokenStats, least: float) -> "torch.Tensor":
    return ((-stats.nll_N).exp() >= least).float()


def _talr(stats: TokenStats, floor: float) -> "torch.Tensor":
    tau = stats.nll_N.median().clamp_min(1e-6) if len(stats.nll_N) else stats.nll_N.new_ones(())
    return (-stats.nll_N / tau).exp().clamp_min(floor)


def _stm(stats: TokenStats, ppl: float) -> "torch.Tensor":
    return (stats.nll_N <= math.log(ppl)).float()


def _base_stm(stats: TokenStats, ppl: float) -> "torch.Tensor":
    return (stats.base_nll_N <= math.log(ppl)).float()


LOSSES: Final[Mapping[str, Loss]] = {
    "nll": Loss("1", "cross-entropy, the standard"),
    "dft": Loss("p_t", "DFT, arXiv 2508.05629", _dft),
    "eaft": Loss(
        f"(H_t / 3.0)^alpha, H_t the entropy of the {EAFT_TOP_K} likeliest entries, renormalised",
        "EAFT, arXiv 2601.02151",
        _eaft,
        default=1.0,
        top_entropy=True,
    ),
    "infosft": Loss(
        "p_t relu(1 - logit p_t / logit P)", "InfoSFT, arXiv 2605.14967, P = 0.93", _infosft, default=_INFOSFT_P
    ),
    "profit": Loss(
        "1 where p_t >= P, else 0; divided by the number of ones",
        "ProFit, arXiv 2601.09195, P = 0.1",
        _profit,
        default=_PROFIT_P,
        counts_weights=True,
        batch_statistic=True,
    ),
    "talr": Loss(
        "max(floor, p_t^(1/tau)), tau the median nll of the batch's trained tokens",
        "TALR, arXiv 2509.20758; there tau is the median over sequences",
        _talr,
        default=_TALR_FLOOR,
        batch_statistic=True,
    ),
    "asft": Loss(
        "p_t, plus lambda KL(base || model)",
        "ASFT, arXiv 2509.23753; KL as in its code, its text has the other direction",
        _dft,
        default=0.05,
        kl="forward",
    ),
    "kl": Loss(
        "1, plus lambda KL(base || model)", "our own: forward KL to the base on data tokens", default=0.1, kl="forward"
    ),
    "reverse_kl": Loss(
        "1, plus lambda KL(model || base)", "our own: reverse KL to the base on data tokens", default=0.1, kl="reverse"
    ),
    "online_stm": Loss(
        "1 where the current perplexity is at most PPL, else 0",
        "STM, arXiv 2501.14315, with scores that follow the model in training",
        _stm,
        default=2.5,
    ),
    "base_stm": Loss(
        "1 where the base's perplexity is at most PPL, else 0",
        "STM, arXiv 2501.14315, scored by the base while training; the policy stm:PPL without protected tokens",
        _base_stm,
        default=2.5,
        base=True,
    ),
}
"""The losses that ``train`` takes, by name; ``name:number`` gives the argument."""


@dataclass(frozen=True, slots=True)
class BoundLoss:
    """A loss with its argument."""

    loss: Loss
    argument: float


def parse_loss(text: str) -> BoundLoss:
    """The loss of ``name`` or ``name:number``.

    Raises:
        InputError: there is none of that name, it takes no argument, or the argument is no positive number.
    """
    name, _, argument = text.partition(":")
    if name not in LOSSES:
        near = difflib.get_close_matches(name, LOSSES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"no loss {name!r}", where="train.objective.loss", fix=f"{hint}known: {', '.join(LOSSES)}")
    loss = LOSSES[name]
    if not argument:
        return BoundLoss(loss, loss.default or 0.0)
    try:
        value = float(argument)
    except ValueError:
        value = -1.0
    if loss.default is None or not 0 <= value < float("inf"):
        what = "takes no argument" if loss.default is None else f"takes a number from 0 on, got {argument!r}"
        raise InputError(f"the loss {name} {what}", where="train.objective.loss", fix=f"train.loss {name}")
    return BoundLoss(loss, value)
