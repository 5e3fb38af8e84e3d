"""How rows lie in the tensors that a model reads: padded on the right, or end to end in one sequence."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from tokensieve.scoring.request import Request

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_APART_KERNELS: Final = frozenset({"flash_attention_2", "flash_attention_3", "flex_attention"})
"""Attention kernels that skip the products between packed neighbours; others compute them and throw them away."""

_ATTENTION_LAYERS: Final = frozenset({"full_attention", "sliding_attention", "chunked_attention"})


def is_recurrent(causal: "PreTrainedModel") -> bool:
    """Whether layers carry a state along the sequence (linear attention, Mamba, hybrids).

    Such a state runs on into a packed neighbour, and cannot be taken over for a batch as attention's keys can.
    """
    layer_types = getattr(causal.config.get_text_config(), "layer_types", None) or ()
    return bool(getattr(causal, "_is_stateful", False)) or not _ATTENTION_LAYERS.issuperset(layer_types)


def packing_pays(causal: "PreTrainedModel") -> bool:
    """Whether the attention kernel gains from packing."""
    return causal.config._attn_implementation in _APART_KERNELS


def padded(requests: Sequence[Request], shared: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows one below the other, padded on the right, without their shared beginning.

    No attention mask goes with it: in a causal model nothing that comes later reaches a token.

    Returns:
        Ids ``[B, T]``, and for each place its row and its source in it.
    """
    inputs = [request.inputs_T[shared:] for request in requests]
    ids_BT = np.zeros((len(inputs), max(map(len, inputs))), dtype=np.int64)
    for row_T, one_T in zip(ids_BT, inputs, strict=True):
        row_T[: len(one_T)] = one_T
    rows_N = np.repeat(np.arange(len(inputs)), [len(request.places_N) for request in requests])
    sources_N = np.concatenate([request.sources_N - shared for request in requests]).astype(np.int64)
    return torch.from_numpy(ids_BT), torch.from_numpy(rows_N), torch.from_numpy(sources_N)


def packed(requests: Sequence[Request]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows end to end in one sequence; position ids that begin anew tell attention where a row begins.

    Returns:
        Ids ``[1, T]``, positions ``[1, T]``, and for each place its source in the sequence.
    """
    lengths = [len(request.inputs_T) for request in requests]
    starts = np.cumsum([0, *lengths[:-1]])
    ids_T = np.concatenate([request.inputs_T for request in requests]).astype(np.int64)
    positions_T = np.concatenate([np.arange(length) for length in lengths])
    pairs = zip(requests, starts, strict=True)
    sources_N = np.concatenate([request.sources_N + start for request, start in pairs]).astype(np.int64)
    return torch.from_numpy(ids_T)[None], torch.from_numpy(positions_T)[None], torch.from_numpy(sources_N)


def in_sequences(requests: Sequence[Request], tokens: int) -> list[Sequence[Request]]:
    """Consecutive rows, as many together as hold about so many tokens: equal shares, so that none is small."""
    total = sum(len(request.inputs_T) for request in requests)
    share = total / max(1, round(total / tokens))
    sequences: list[list[Request]] = []
    before = 0
    for request in requests:
        if not sequences or before >= share * len(sequences):
            sequences.append([])
        sequences[-1].append(request)
        before += len(request.inputs_T)
    return list(sequences)
