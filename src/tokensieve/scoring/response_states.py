"""Final hidden states at the tokens that requests ask for, batch by batch, and what an LM head says of them."""

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from tokensieve.config import ScoreSettings
from tokensieve.models import LoadedModel
from tokensieve.scoring.backbone import open_backbone
from tokensieve.scoring.backend import ScoreRequest, request_for
from tokensieve.scoring.batching import batches, find_token_budget
from tokensieve.scoring.lm_head import ModelHead, TiledHead, matmul_precision
from tokensieve.types import FloatArray, IntArray, Tokens

_LOGITS_AT_ONCE: Final = 2**24
"""Float32 logits in one chunk of positions: 64 MiB."""

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
        size = max(1, _LOGITS_AT_ONCE // int(loaded.model.get_input_embeddings().weight.shape[0]))
        with torch.inference_mode():
            for start in range(0, len(where_M), size):
                here = slice(start, start + size)
                top = head.logits(hidden_MD[here]).log_softmax(-1).topk(kept, dim=-1)
                ids_NK[where_M[here]] = top.indices.cpu().numpy()
                log_p_NK[where_M[here]] = top.values.float().cpu().numpy()
    return list(zip(np.split(ids_NK, bounds[:-1]), np.split(log_p_NK, bounds[:-1]), strict=True)) if rows else []
