"""Losses of a token given the model's output at its place; training takes their weighted mean over the batch."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Protocol

from tokensieve.errors import InputError

if TYPE_CHECKING:
    import torch


class Loss(Protocol):
    """One loss; a new one is a class like this and a line in ``LOSSES``.

    Attributes:
        formula: loss of token t, in a line for people: p_t is the model's present probability of it, w_t its weight.
        plain: True where it is TRL's own loss as long as the rows carry no weights.
    """

    formula: str
    plain: bool

    def of_tokens(self, log_p_BT: "torch.Tensor", entropy_BT: "torch.Tensor | None") -> "torch.Tensor":
        """Loss of each token [B, T-1] before its weight; entry t is that of token t + 1.

        Args:
            log_p_BT: log-probability in nats of each token given those before it; carries the gradient.
            entropy_BT: entropy in nats of the distribution that it comes from; None where TRL's head does not give it.
        """
        ...


class Nll:
    """Negative log-likelihood: cross-entropy on the token that stands there."""

    formula = "sum(w_t * -log p_t) / sum(w_t)"
    plain = True

    def of_tokens(self, log_p_BT: "torch.Tensor", entropy_BT: "torch.Tensor | None") -> "torch.Tensor":
        """``-log p`` in nats, [B, T-1]."""
        del entropy_BT
        return -log_p_BT


LOSSES: Final[Mapping[str, Loss]] = {"nll": Nll()}
"""The losses that ``train`` takes, by name."""


def loss_of(name: str) -> Loss:
    """The loss of a name.

    Raises:
        InputError: there is none; names those that there are.
    """
    if name not in LOSSES:
        known = "; ".join(f"{key}: {loss.formula}" for key, loss in LOSSES.items())
        raise InputError(f"no loss {name!r}; there are {known}", where="train.loss", fix="choose one of them")
    return LOSSES[name]
