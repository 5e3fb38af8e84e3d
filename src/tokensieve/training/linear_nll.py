"""Weighted nll of tokens through a linear LM head, summed; the gradient is made in the forward pass."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from torch.autograd.function import FunctionCtx

_LOGITS_AT_ONCE: Final = {"cuda": 2**26}
"""Float32 logits in one chunk by device: 256 MiB; for fewer positions the head's weights would be read in vain."""
_LOGITS_AT_ONCE_ELSEWHERE: Final = 2**23
"""32 MiB."""


@dataclass(frozen=True, slots=True, eq=False)
class LinearHead:
    """LM head as a weight matrix with bias, factor and soft cap, applied in this order.

    Attributes:
        weight_VD: weights.
        bias_V: bias; None where there is none.
        scale: factor on the logits.
        softcap: ``softcap * tanh(logits / softcap)`` after the factor; None where there is none.
    """

    weight_VD: torch.Tensor
    bias_V: torch.Tensor | None
    scale: float = 1.0
    softcap: float | None = None


def linear_nll(
    hidden_ND: torch.Tensor, targets_N: torch.Tensor, weights_N: torch.Tensor, head: LinearHead
) -> torch.Tensor:
    """``sum(weight * nll)`` in nats over N tokens, a float32 scalar, differentiable in hidden states and head.

    The logits of a chunk of positions are computed once: while they are there, so is the gradient, which is linear in
    what comes from above. Autograd would keep the logits [N, V] or compute them again. Without any token it is 0, with
    zeros as its gradient. Can be differentiated once.

    Args:
        hidden_ND: hidden states that predict the tokens; under autocast the products are in its dtype.
        targets_N: the tokens' ids.
        weights_N: weight of each token, without gradient.
        head: the LM head.
    """
    total: torch.Tensor = _LinearNll.apply(  # type: ignore[no-untyped-call]
        hidden_ND, head.weight_VD, head.bias_V, targets_N, weights_N, head.scale, head.softcap, torch.is_grad_enabled()
    )
    return total


class _LinearNll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: "FunctionCtx",
        hidden_ND: torch.Tensor,
        weight_VD: torch.Tensor,
        bias_V: torch.Tensor | None,
        targets_N: torch.Tensor,
        weights_N: torch.Tensor,
        scale: float,
        softcap: float | None,
        differentiable: bool,
    ) -> torch.Tensor:
        kind = hidden_ND.device.type
        autocast = torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if autocast else weight_VD.dtype
        parts = _Parts(weight_VD.to(dtype), bias_V, scale, softcap)
        wanted = ctx.needs_input_grad[:3] if differentiable else (False, False, False)  # type: ignore[attr-defined]
        gradients = [
            torch.zeros_like(tensor, dtype=tensor.dtype if place == 0 else torch.float32)
            if asked and tensor is not None
            else None
            for place, (tensor, asked) in enumerate(zip((hidden_ND, weight_VD, bias_V), wanted, strict=True))
        ]
        total = hidden_ND.new_zeros((), dtype=torch.float32)
        size = max(1, _LOGITS_AT_ONCE.get(kind, _LOGITS_AT_ONCE_ELSEWHERE) // len(weight_VD))
        with torch.autocast(kind, enabled=False):
            for start in range(0, len(targets_N), size):
                here = slice(start, start + size)
                part = None if gradients[0] is None else gradients[0][here]
                total += parts.add(
                    hidden_ND[here].to(dtype), targets_N[here], weights_N[here].float(), part, *gradients[1:]
                )
        ctx.gradients = gradients  # type: ignore[attr-defined]
        ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in (hidden_ND, weight_VD, bias_V)]  # type: ignore[attr-defined]
        return total

    @staticmethod
    def backward(ctx: "FunctionCtx", *above: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None  # type: ignore[attr-defined]
        if gradients is None:
            raise RuntimeError("the gradient of linear_nll was taken already")
        made = [
            None if gradient is None else gradient.mul_(above[0].to(gradient.dtype)).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)  # type: ignore[attr-defined]
        ]
        return (*made, None, None, None, None, None)


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """The head in the dtype of its products."""

    weight_VD: torch.Tensor
    bias_V: torch.Tensor | None
    scale: float
    softcap: float | None

    def add(
        self,
        hidden_ND: torch.Tensor,
        targets_N: torch.Tensor,
        weights_N: torch.Tensor,
        hidden_gradient_ND: torch.Tensor | None,
        weight_gradient_VD: torch.Tensor | None,
        bias_gradient_V: torch.Tensor | None,
    ) -> torch.Tensor:
        """The sum over one chunk; gradients are written to (hidden states) or added to (head) what is given."""
        logits_NV = torch.mm(hidden_ND, self.weight_VD.T).float()
        if self.bias_V is not None:
            logits_NV += self.bias_V.float()
        if self.scale != 1.0:
            logits_NV *= self.scale
        if self.softcap is not None:
            logits_NV = logits_NV.div_(self.softcap).tanh_().mul_(self.softcap)
        log_p_NV = logits_NV.log_softmax(-1)
        nll_N = -log_p_NV.gather(1, targets_N[:, None])[:, 0]
        if hidden_gradient_ND is not None or weight_gradient_VD is not None or bias_gradient_V is not None:
            slope_NV = log_p_NV.exp_()
            slope_NV[torch.arange(len(targets_N), device=targets_N.device), targets_N] -= 1.0
            if self.softcap is not None:
                slope_NV *= 1.0 - (logits_NV / self.softcap).square_()
            # A token's weight goes onto its row of the small factor, not onto its row of the vocabulary.
            factor_N = weights_N * self.scale
            if bias_gradient_V is not None:
                bias_gradient_V += torch.mv(slope_NV.T, factor_N)
            slope_NV = slope_NV.to(self.weight_VD.dtype)
            factor_N1 = factor_N.to(slope_NV.dtype)[:, None]
            if hidden_gradient_ND is not None:
                hidden_gradient_ND.copy_(torch.mm(slope_NV, self.weight_VD).mul_(factor_N1))
            if weight_gradient_VD is not None:
                _add_product(weight_gradient_VD, slope_NV.T, hidden_ND * factor_N1)
        return (weights_N * nll_N).sum()


def _add_product(sum_VD: torch.Tensor, left_VN: torch.Tensor, right_ND: torch.Tensor) -> None:
    """Add a product in place; one in half precision is rounded, its sum over the chunks is not."""
    if left_VN.dtype is torch.float32:
        sum_VD.addmm_(left_VN, right_ND)
    else:
        sum_VD += torch.mm(left_VN, right_ND)
