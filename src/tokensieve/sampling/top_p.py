"""The next token of each row: greedy, or by one uniform number a token, so that a draw can be repeated anywhere."""

from typing import Final

import torch

_CANDIDATES: Final = 64
"""Tokens looked at before all are sorted; they nearly always hold the nucleus, and sorting a vocabulary is slow."""


def pick(
    logits_BV: torch.Tensor, uniform_B: torch.Tensor | None, temperature: float, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The next token of each row and its nll under the model itself.

    Args:
        logits_BV: the model's logits.
        uniform_B: numbers in [0, 1), one a row; None for greedy.
        temperature: divides the logits; 0 is greedy.
        top_p: the most likely tokens that hold this share of the probability are kept, at least one.

    Returns:
        Token ids, and nll in nats at temperature 1 with all tokens allowed.
    """
    logits_BV = logits_BV.float()
    if uniform_B is None or temperature == 0:
        token_B = logits_BV.argmax(-1)
    else:
        token_B = _inverse_cdf(torch.softmax(logits_BV / temperature, -1), uniform_B, top_p)
    chosen_B = logits_BV.gather(-1, token_B[:, None])[:, 0]
    return token_B, logits_BV.logsumexp(-1) - chosen_B


def _inverse_cdf(probability_BV: torch.Tensor, uniform_B: torch.Tensor, top_p: float) -> torch.Tensor:
    if top_p >= 1:
        # double: the sum over a vocabulary of 100,000 must not lose its tail
        return _first_beyond(probability_BV.double().cumsum(-1), uniform_B)
    width = min(_CANDIDATES, probability_BV.shape[-1])
    value_BK, token_BK = probability_BV.topk(width, sorted=True)
    token_B = token_BK.gather(-1, _in_nucleus(value_BK, uniform_B, top_p)[:, None])[:, 0]
    open_B = value_BK.sum(-1) < top_p
    if width < probability_BV.shape[-1] and bool(open_B.any()):
        value_BV, order_BV = probability_BV[open_B].sort(-1, descending=True)
        place_B = _in_nucleus(value_BV, uniform_B[open_B], top_p)
        token_B[open_B] = order_BV.gather(-1, place_B[:, None])[:, 0]
    return token_B


def _in_nucleus(value_BK: torch.Tensor, uniform_B: torch.Tensor, top_p: float) -> torch.Tensor:
    """The drawn place among values in descending order; a value belongs while what is before it is below ``top_p``."""
    value_BK = value_BK.double()
    before_BK = value_BK.cumsum(-1) - value_BK
    return _first_beyond(value_BK.masked_fill(before_BK >= top_p, 0).cumsum(-1), uniform_B)


def _first_beyond(cumulated_BV: torch.Tensor, uniform_B: torch.Tensor) -> torch.Tensor:
    """First place whose cumulated probability exceeds the uniform share of the whole."""
    target_B1 = uniform_B.double()[:, None] * cumulated_BV[:, -1:]
    return torch.searchsorted(cumulated_BV, target_B1, right=True)[:, 0].clamp(max=cumulated_BV.shape[-1] - 1)
