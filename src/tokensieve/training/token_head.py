"""The LM head on trained positions only, in chunks that are computed again in the backward pass."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

from tokensieve.selection import EAFT_TOP_K
from tokensieve.training.linear_nll import LinearHead, linear_nll
from tokensieve.training.losses import BoundLoss, TokenStats
from tokensieve.types import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FACTORS: Final = ("logit_scale", "output_multiplier", "lm_head_multiplier")
"""Factors of the logits, by their names in configurations."""

_LOGITS_AT_ONCE: Final = 2**24
"""Float32 logits in one chunk: 64 MiB; backward holds one chunk's logits and their gradient."""


class TokenLosses(NamedTuple):
    """Sums over the trained tokens of one forward pass; a tuple, in which FSDP finds the tensors of an output.

    Attributes:
        loss: ``sum(weight * w * nll + weight * kl_weight * KL)``, with gradient.
        divisor: what it is divided by where the whole batch is one pass: the sum of weights, times ``w`` where the loss
            counts its own weights.
    """

    loss: torch.Tensor
    divisor: torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class LmHead:
    """A model's LM head with its soft cap and factors.

    Attributes:
        model: the model; its head is looked up on each call, since PEFT and FSDP replace it.
        scale: factor on the logits.
        softcap: ``softcap * tanh(logits / softcap)`` after the factor; None where there is none.
    """

    model: "PreTrainedModel"
    scale: float
    softcap: float | None

    def __call__(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        """Float32 logits [N, V] of hidden states."""
        head, linear = self.model.get_output_embeddings(), self.linear()
        if linear is None:
            logits_NV: torch.Tensor = head(hidden_ND.to(head.weight.dtype))
        else:  # past the module, whose hooks of FSDP expect one call a pass, where a chunk is computed again
            weight_VD = linear.weight_VD
            logits_NV = torch.nn.functional.linear(hidden_ND.to(weight_VD.dtype), weight_VD, linear.bias_V)
        logits_NV = logits_NV.float() * self.scale
        return logits_NV if self.softcap is None else self.softcap * torch.tanh(logits_NV / self.softcap)

    def linear(self) -> LinearHead | None:
        """The head as a matrix, gathered where FSDP holds a part of it; None where it is adapted or quantised."""
        head = self.model.get_output_embeddings()
        # FSDP derives a class of its own, which has the forward pass of its parent.
        if not isinstance(head, torch.nn.Linear) or type(head).forward is not torch.nn.Linear.forward:
            return None
        whole = [getattr(one, "full_tensor", lambda one=one: one)() for one in (head.weight, head.bias)]
        return LinearHead(whole[0], whole[1], self.scale, self.softcap)


def head_of(model: "PreTrainedModel") -> LmHead:
    """A model's LM head, with the factors and the soft cap that its configuration names."""
    config = model.config.get_text_config()
    scale = 1.0
    for name in _FACTORS:  # Cohere and others, Muse Glimmer, Falcon H1
        value = getattr(config, name, None)
        scale *= float(value) if isinstance(value, int | float) else 1.0
    scaling = getattr(config, "logits_scaling", None)
    if scaling is not None:  # Granite divides by it, HyperCLOVA X multiplies
        scale = scale * scaling if config.model_type == "hyperclovax" else scale / scaling
    return LmHead(model, scale, getattr(config, "final_logit_softcapping", None))


def add_token_head(model: "PreTrainedModel") -> None:
    """Let ``model(..., token_head=f)`` return ``f(hidden, logits)`` in place of the model's output.

    ``hidden`` are the backbone's final hidden states [B, T, D]; ``logits`` is the ``LmHead``. Added before PEFT and any
    wrapper, so that they work as for every forward pass. Without ``token_head`` the model is as it was.
    """
    original = model.forward
    logits = head_of(model)

    @functools.wraps(type(model).forward)
    def forward(*args: object, token_head: Callable[..., object] | None = None, **kwargs: object) -> object:
        if token_head is None:
            return original(*args, **kwargs)
        kwargs["use_cache"] = False
        return token_head(model.base_model(*args, **kwargs).last_hidden_state, logits)

    model.forward = forward


def states_at(labels_BT: torch.Tensor) -> Callable[..., tuple[torch.Tensor, Callable[..., torch.Tensor]]]:
    """A token head that returns the hidden states [N, D] which predict the trained tokens, and the LM head."""

    def head(
        hidden_BTD: torch.Tensor, logits: Callable[..., torch.Tensor]
    ) -> tuple[torch.Tensor, Callable[..., torch.Tensor]]:
        return hidden_BTD[:, :-1][labels_BT[:, 1:] != IGNORE_INDEX], logits

    return head


def token_losses(
    labels_BT: torch.Tensor,
    weights_BT: torch.Tensor,
    bound: BoundLoss,
    base: tuple[torch.Tensor, Callable[..., torch.Tensor]] | None,
) -> Callable[..., TokenLosses]:
    """A token head that sums a loss over the trained tokens.

    Args:
        labels_BT: token ids, -100 where a token is not trained; unshifted.
        weights_BT: the selection's weights.
        bound: the loss.
        base: hidden states of the base at the trained tokens and its LM head; None where the loss needs no base.
    """
    trained_BT = labels_BT[:, 1:] != IGNORE_INDEX
    targets_N = labels_BT[:, 1:][trained_BT]
    weights_N = weights_BT[:, 1:][trained_BT]

    def head(hidden_BTD: torch.Tensor, logits: Callable[..., torch.Tensor]) -> TokenLosses:
        hidden_ND = hidden_BTD[:, :-1][trained_BT]
        linear = logits.linear() if bound.loss.plain and isinstance(logits, LmHead) else None
        if linear is not None:
            return TokenLosses(linear_nll(hidden_ND, targets_N, weights_N, linear), weights_N.sum())
        if not len(targets_N):  # keep the graph: every process takes part in the backward pass
            return TokenLosses(hidden_BTD.sum() * 0.0, weights_N.sum())
        with torch.no_grad():
            size = max(1, _LOGITS_AT_ONCE // logits(hidden_ND[:1]).shape[1])
        parts = []
        for start in range(0, len(targets_N), size):
            here = slice(start, start + size)
            base_part = None if base is None else (base[0][here], base[1])
            parts.append(
                checkpoint(_chunk, hidden_ND[here], targets_N[here], logits, bound, base_part, use_reentrant=False)
            )
        nll_N, top_entropy_N, kl_N, base_nll_N = (torch.cat(part) for part in zip(*parts, strict=True))
        stats = TokenStats(nll_N.detach(), top_entropy_N, base_nll_N)
        own_N = torch.ones_like(weights_N)
        if bound.loss.weights is not None:
            own_N = bound.loss.weights(stats, bound.argument).to(weights_N)
        total = (weights_N * own_N * nll_N).sum()
        if bound.loss.kl != "none":
            total = total + bound.argument * (weights_N * kl_N).sum()
        return TokenLosses(total, (weights_N * own_N if bound.loss.counts_weights else weights_N).sum())

    return head


def _chunk(
    hidden_ND: torch.Tensor,
    targets_N: torch.Tensor,
    logits: Callable[..., torch.Tensor],
    bound: BoundLoss,
    base: tuple[torch.Tensor, Callable[..., torch.Tensor]] | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Nll with gradient, top entropy, KL with gradient, the base's nll, each [N]; zeros for what is not asked for."""
    logits_NV = logits(hidden_ND)
    log_q_NV = logits_NV.log_softmax(-1)
    nll_N = -log_q_NV.gather(1, targets_N[:, None])[:, 0]
    zeros_N = torch.zeros_like(nll_N)
    top_entropy_N = zeros_N
    if bound.loss.top_entropy:
        log_p_NK = logits_NV.detach().topk(min(EAFT_TOP_K, logits_NV.shape[1]), dim=-1).values.log_softmax(-1)
        top_entropy_N = -(log_p_NK.exp() * log_p_NK).sum(-1)
    if base is None:
        return nll_N, top_entropy_N, zeros_N, zeros_N
    with torch.no_grad():
        log_p_NV = base[1](base[0]).log_softmax(-1)
        base_nll_N = -log_p_NV.gather(1, targets_N[:, None])[:, 0]
    kl_N = zeros_N
    if bound.loss.kl == "forward":
        kl_N = (log_p_NV.exp() * (log_p_NV - log_q_NV)).sum(-1)
    elif bound.loss.kl == "reverse":
        kl_N = (log_q_NV.exp() * (log_q_NV - log_p_NV)).sum(-1)
    return nll_N, top_entropy_N, kl_N, base_nll_N
