"""A few rows under a model, beside the score store: hidden states at their response tokens, and what the LM head says.

The k likeliest tokens with their log-probabilities, the likeliest one, or the nll of the row's own.
"""

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from tokensieve.config import ScoreSettings
from tokensieve.models import LoadedModel
from tokensieve.scoring.backbone import open_backbone
from tokensieve.scoring.backend import Measures, ScoreRequest, request_for
from tokensieve.scoring.batching import batches, find_token_budget
from tokensieve.scoring.lm_head import ModelHead, TiledHead, matmul_precision
from tokensieve.types import FloatArray, IntArray, Tokens

_LOGITS_AT_ONCE: Final = 2**24
"""Float32 logits in one chunk of positions: 64 MiB."""

Number = TypeVar("Number", np.int32, np.float32)

States: TypeAlias = tuple[NDArray[np.int64], torch.Tensor, TiledHead | ModelHead, torch.Tensor]
"""Of one batch: indices [M] among all N positions, hidden states [M, D], the LM head, target token ids [M]."""


def response_states(
    loaded: LoadedModel, requests: Sequence[ScoreRequest], token_budget: int | None = None
) -> Iterator[States]:
    """Run the backbone over all requests; N counts their scored positions, request after request.

    Args:
        loaded: the model.
        requests: rows and the scored positions of each.
        token_budget: tokens in one batch, padding included; None finds it from the free memory.
    """
    backbone = open_backbone(loaded, ScoreSettings(), compiles=False)
    budget = token_budget or find_token_budget(loaded.model, loaded.device)
    starts = np.cumsum([0, *(len(request.positions_N) for request in requests)])
    positions = {id(request): np.arange(starts[i], starts[i + 1]) for i, request in enumerate(requests)}
    asked = [request for request in requests if len(request.positions_N)]
    for batch in batches(asked, budget, backbone.layout) if asked else ():
        with matmul_precision("highest"), torch.inference_mode():
            hidden_MD = backbone.hidden_states(batch)
        targets_M = np.concatenate([request.targets_N for request in batch.requests]).astype(np.int64)
        where_M = np.concatenate([positions[id(request)] for request in batch.requests])
        yield where_M, hidden_MD, backbone.head, torch.from_numpy(targets_M).to(hidden_MD.device)


def top_log_probs(
    rows: Sequence[Tokens], loaded: LoadedModel, k: int, token_budget: int | None = None
) -> list[tuple[IntArray, FloatArray]]:
    """The k most likely next tokens at every response token, given all tokens before it.

    Args:
        rows: token ids with their responses.
        loaded: the model.
        k: entries kept; all of them where the vocabulary has no more.
        token_budget: as in ``response_states``.

    Returns:
        For each row token ids [N, K] int32, most likely first, and their log-probabilities [N, K] in nats, float32.
        N is the number of response tokens that something precedes.
    """
    requests = [request_for(row, prompts=False) for row in rows]
    bounds = np.cumsum([len(request.positions_N) for request in requests])
    kept = min(k, int(loaded.model.config.get_text_config().vocab_size))
    ids_NK = np.zeros((int(bounds[-1]) if len(bounds) else 0, kept), dtype=np.int32)
    log_p_NK = np.zeros(ids_NK.shape, dtype=np.float32)
    for where_M, hidden_MD, head, _ in response_states(loaded, requests, token_budget):
        for part, logits_MV in _logits(loaded, hidden_MD, head):
            top = logits_MV.log_softmax(-1).topk(kept, dim=-1)
            ids_NK[where_M[part]] = top.indices.cpu().numpy()
            log_p_NK[where_M[part]] = top.values.float().cpu().numpy()
    return list(zip(np.split(ids_NK, bounds[:-1]), np.split(log_p_NK, bounds[:-1]), strict=True)) if rows else []


def preferred_ids(rows: Sequence[Tokens], loaded: LoadedModel) -> list[IntArray]:
    """The likeliest next token at every response token of some rows; of equals the one with the lowest id.

    Returns:
        One array [T] a row: token ids on the response, -1 elsewhere and where nothing precedes the token.
    """
    requests = [request_for(row, prompts=False) for row in rows]
    found_N = np.full(sum(len(request.positions_N) for request in requests), -1, dtype=np.int32)
    for where_M, hidden_MD, head, _ in response_states(loaded, requests):
        for part, logits_MV in _logits(loaded, hidden_MD, head):
            found_N[where_M[part]] = logits_MV.argmax(1).cpu().numpy()
    return _over_rows(rows, requests, found_N, -1)


def nll_of_rows(rows: Sequence[Tokens], loaded: LoadedModel) -> list[FloatArray]:
    """The nll in nats at every response token of some rows, one array [T] a row; NaN where nothing was scored."""
    requests = [request_for(row, prompts=False) for row in rows]
    found_N = np.full(sum(len(request.positions_N) for request in requests), np.nan, dtype=np.float32)
    for where_M, hidden_MD, head, targets_M in response_states(loaded, requests):
        found_N[where_M] = head.measure(hidden_MD, targets_M, Measures()).nll_N.cpu().numpy()
    return _over_rows(rows, requests, found_N, np.nan)


def _logits(
    loaded: LoadedModel, hidden_MD: torch.Tensor, head: TiledHead | ModelHead
) -> Iterator[tuple[slice, torch.Tensor]]:
    """Float32 logits of some of the M positions at a time, and which ones they are."""
    size = max(1, _LOGITS_AT_ONCE // int(loaded.model.get_input_embeddings().weight.shape[0]))
    for start in range(0, len(hidden_MD), size):
        part = slice(start, start + size)
        with torch.inference_mode():
            yield part, head.logits(hidden_MD[part])


def _over_rows(
    rows: Sequence[Tokens], requests: Sequence[ScoreRequest], values_N: NDArray[Number], missing: float
) -> list[NDArray[Number]]:
    """One array [T] a row: the values at the scored positions, ``missing`` elsewhere."""
    over_rows = []
    bounds = np.cumsum([len(request.positions_N) for request in requests])[:-1]
    for row, request, own_N in zip(rows, requests, np.split(values_N, bounds), strict=bool(rows)):
        row_T = np.full(len(row), missing, dtype=values_N.dtype)
        row_T[request.positions_N] = own_N
        over_rows.append(row_T)
    return over_rows
