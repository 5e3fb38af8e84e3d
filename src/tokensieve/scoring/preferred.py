"""A few rows under a model, beside the score store: the token that it prefers at each place, and the nll of theirs."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from tokensieve.models import LoadedModel
from tokensieve.scoring.backend import Measures, request_for
from tokensieve.scoring.response_states import response_states
from tokensieve.types import FloatArray, IntArray, Tokens

_LOGITS_AT_ONCE: Final = 2**24
"""Float32 logits in one chunk of positions: 64 MiB."""


def preferred_ids(rows: Sequence[Tokens], model: LoadedModel) -> list[IntArray]:
    """The likeliest next token at every response token of some rows; of equals the one with the lowest id.

    Args:
        rows: token ids with their responses.
        model: the model.

    Returns:
        One array [T] a row: token ids on the response, -1 elsewhere and where nothing precedes the token.
    """
    requests = [request_for(row, prompts=False) for row in rows]
    starts = np.cumsum([0, *(len(request.positions_N) for request in requests)])
    found_N = np.full(int(starts[-1]), -1, dtype=np.int32)
    for places_M, hidden_MD, head, _ in response_states(model, requests, None):
        chunk = max(1, _LOGITS_AT_ONCE // head.logits(hidden_MD[:1]).shape[1]) if len(places_M) else 1
        for start in range(0, len(places_M), chunk):
            part = slice(start, start + chunk)
            found_N[places_M[part]] = head.logits(hidden_MD[part]).argmax(1).cpu().numpy()
    preferred = []
    for row, request, first, last in zip(rows, requests, starts[:-1], starts[1:], strict=True):
        ids_T = np.full(len(row), -1, dtype=np.int32)
        ids_T[request.positions_N] = found_N[first:last]
        preferred.append(ids_T)
    return preferred


def nll_of_rows(rows: Sequence[Tokens], model: LoadedModel) -> list[FloatArray]:
    """The nll in nats at every response token of some rows, one array [T] a row; NaN where nothing was scored."""
    requests = [request_for(row, prompts=False) for row in rows]
    starts = np.cumsum([0, *(len(request.positions_N) for request in requests)])
    found_N = np.full(int(starts[-1]), np.nan, dtype=np.float32)
    for places_M, hidden_MD, head, targets_M in response_states(model, requests, None):
        found_N[places_M] = head.measure(hidden_MD, targets_M, Measures()).nll_N.cpu().numpy()
    scored = []
    for row, request, first, last in zip(rows, requests, starts[:-1], starts[1:], strict=True):
        nll_T = np.full(len(row), np.nan, dtype=np.float32)
        nll_T[request.positions_N] = found_N[first:last]
        scored.append(nll_T)
    return scored
