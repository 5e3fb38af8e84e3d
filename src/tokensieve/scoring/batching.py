"""Batches of requests: their size, which rows go together, and how the rows lie in the tensors of a forward pass.

Batches depend on the rows and the token budget, on nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import psutil
import torch

from tokensieve.scoring.backend import ScoreRequest
from tokensieve.types import IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LEAST_SHARED: Final = 16
_LEAST_SAVED: Final = 0.25
"""A shared prompt is run once for its responses where it is this long and that saves this share of their tokens;
reading from a KV cache has costs of its own."""

_SMALLEST_BUDGET: Final = 256
_CPU_LARGEST_BUDGET: Final = 4096
"""On a CPU larger matrix products are no faster, and larger batches only hold more padding."""

_GPU_LARGEST_BUDGET: Final = 65_536
_GPU_ACTIVATIONS: Final = 2**30
"""Bytes of activations by our estimate, which is above what they take: so many tokens fill a card, and the model scores
beside whatever else is in its memory."""
_MEMORY_SHARE: Final = 0.4
"""Of the free memory; the rest is for attention, the LM head's tiles, and what was not foreseen."""

_PACKING_KERNELS: Final = frozenset({"flash_attention_2", "flash_attention_3", "flex_attention"})
"""Attention kernels that skip the products between packed neighbours; others compute them and throw them away."""

_ATTENTION_LAYERS: Final = frozenset({"full_attention", "sliding_attention", "chunked_attention"})


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests of one forward pass.

    Attributes:
        requests: one a row.
        shared: length of each row's prompt; rows of one prompt are neighbours, and each prompt is run only once.
        packed: True for rows end to end in one sequence, False for padded rows.
    """

    requests: tuple[ScoreRequest, ...]
    shared: int = 0
    packed: bool = False

    def prompts(self) -> tuple[list[IntArray], list[int]]:
        """The distinct prompts of ``shared`` tokens, and for each row the index of its own."""
        index: dict[bytes, int] = {}
        prompts: list[IntArray] = []
        prompt_of_row = []
        for request in self.requests:
            prompt_T = request.ids_T[: self.shared]
            number = index.setdefault(prompt_T.tobytes(), len(index))
            if number == len(prompts):
                prompts.append(prompt_T)
            prompt_of_row.append(number)
        return prompts, prompt_of_row

    def halves(self) -> tuple["Batch", "Batch"]:
        """Split a batch that did not fit into memory."""
        middle = len(self.requests) // 2
        return replace(self, requests=self.requests[:middle]), replace(self, requests=self.requests[middle:])


@dataclass(frozen=True, slots=True)
class BatchLayout:
    """Batch layouts that a model allows.

    Attributes:
        shares: rows with a common prompt may share its KV cache.
        packs: rows may be packed.
        longest_packed: only rows shorter than this, in tokens; None where length does not matter.
    """

    shares: bool = False
    packs: bool = False
    longest_packed: int | None = None

    def may_pack(self, request: ScoreRequest) -> bool:
        """True where a row may be packed."""
        return self.packs and (self.longest_packed is None or len(request.inputs_T) < self.longest_packed)


def batches(requests: Sequence[ScoreRequest], token_budget: int, layout: BatchLayout = BatchLayout()) -> list[Batch]:
    """Batches of rows of similar length, so that little of a batch is padding; the longest batch comes first.

    Args:
        requests: with at least one position each.
        token_budget: most tokens in a batch, padding included; a longer row is a batch of its own.
        layout: what the model allows.

    Returns:
        Batches that hold every request once. Equal requests in equal order give equal batches.
    """
    groups, singles = _by_shared_prompt(requests) if layout.shares else ({}, list(requests))
    planned = _fill([one for one in singles if layout.may_pack(one)], token_budget, packed=True)
    planned += _fill([one for one in singles if not layout.may_pack(one)], token_budget)
    by_length: dict[int, list[list[ScoreRequest]]] = {}
    for (shared, _), members in groups.items():
        by_length.setdefault(shared, []).append(members)
    for shared, same_length in by_length.items():
        planned += _fill_prompts(same_length, token_budget, shared)
    return planned


def _fill_prompts(groups: Sequence[Sequence[ScoreRequest]], token_budget: int, shared: int) -> list[Batch]:
    """Batches of whole groups whose prompts have one length, so that prompts need no padding and no attention mask."""

    def longest(rows: Sequence[ScoreRequest]) -> int:
        return max(len(one.inputs_T) for one in rows) - shared

    planned: list[Batch] = []
    together: list[Sequence[ScoreRequest]] = []
    for group in [*sorted(groups, key=longest, reverse=True), ()]:
        rows = [one for part in (*together, group) for one in part]
        if together and (not group or (len(together) + 1) * shared + len(rows) * longest(rows) > token_budget):
            alone = len(together) == 1
            batch = Batch(tuple(one for part in together for one in part), shared)
            planned += _fill(batch.requests, token_budget, shared=shared) if alone else [batch]
            together = []
        together.append(group)
    return planned


def _by_shared_prompt(
    requests: Sequence[ScoreRequest],
) -> tuple[dict[tuple[int, bytes], list[ScoreRequest]], list[ScoreRequest]]:
    """Rows by their common prompt, where running it once pays; and all other rows."""
    by_prompt: dict[tuple[int, bytes], list[ScoreRequest]] = {}
    for request in requests:
        shared = int(request.sources_N[0])  # the first source itself has to be run for each
        by_prompt.setdefault((shared, request.ids_T[:shared].tobytes()), []).append(request)
    groups: dict[tuple[int, bytes], list[ScoreRequest]] = {}
    singles: set[int] = set()
    for key, members in by_prompt.items():
        saved = key[0] * (len(members) - 1)
        if key[0] >= _LEAST_SHARED and saved >= _LEAST_SAVED * sum(len(one.inputs_T) for one in members):
            groups[key] = members
        else:
            singles.update(id(one) for one in members)
    return groups, [request for request in requests if id(request) in singles]


def _fill(requests: Sequence[ScoreRequest], token_budget: int, *, shared: int = 0, packed: bool = False) -> list[Batch]:
    lengths = [len(request.inputs_T) - shared for request in requests]
    order = sorted(range(len(requests)), key=lambda index: (-lengths[index], index))
    planned: list[list[ScoreRequest]] = []
    longest, tokens = 0, 0
    for index in order:
        size = tokens + lengths[index] if packed else (len(planned[-1]) + 1) * longest if planned else 0
        if planned and size <= token_budget:
            planned[-1].append(requests[index])
            tokens += lengths[index]
        else:
            planned.append([requests[index]])
            longest = tokens = lengths[index]
    return [Batch(tuple(batch), shared, packed) for batch in planned]


def is_recurrent(causal: "PreTrainedModel") -> bool:
    """True where layers carry a recurrent state along the sequence (linear attention, Mamba, hybrids).

    Such a state runs on into a packed neighbour, and cannot be taken over for a batch as attention's keys can.
    """
    layer_types = getattr(causal.config.get_text_config(), "layer_types", None) or ()
    return bool(getattr(causal, "_is_stateful", False)) or not _ATTENTION_LAYERS.issuperset(layer_types)


def packing_pays(causal: "PreTrainedModel") -> bool:
    """True where the attention kernel skips products between packed rows."""
    return causal.config._attn_implementation in _PACKING_KERNELS


def padded(requests: Sequence[ScoreRequest], shared: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows padded on the right, without their shared prefix.

    No attention mask goes with it: in a causal model nothing that comes later reaches a token.

    Returns:
        Ids ``[B, T]``, and for each scored position the row and the column whose logits predict it, ``[N]`` each.
    """
    inputs = [request.inputs_T[shared:] for request in requests]
    ids_BT = np.zeros((len(inputs), max(map(len, inputs))), dtype=np.int64)
    for row_T, one_T in zip(ids_BT, inputs, strict=True):
        row_T[: len(one_T)] = one_T
    rows_N = np.repeat(np.arange(len(inputs)), [len(request.positions_N) for request in requests])
    sources_N = np.concatenate([request.sources_N - shared for request in requests]).astype(np.int64)
    return torch.from_numpy(ids_BT), torch.from_numpy(rows_N), torch.from_numpy(sources_N)


def packed(requests: Sequence[ScoreRequest]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Rows end to end in one sequence; position ids that restart at 0 tell attention where a row begins.

    Returns:
        Ids ``[1, T]``, position ids ``[1, T]``, and for each scored position the predicting column, ``[N]``.
    """
    lengths = [len(request.inputs_T) for request in requests]
    starts = np.cumsum([0, *lengths[:-1]])
    ids_T = np.concatenate([request.inputs_T for request in requests]).astype(np.int64)
    positions_T = np.concatenate([np.arange(length) for length in lengths])
    pairs = zip(requests, starts, strict=True)
    sources_N = np.concatenate([request.sources_N + start for request, start in pairs]).astype(np.int64)
    return torch.from_numpy(ids_T)[None], torch.from_numpy(positions_T)[None], torch.from_numpy(sources_N)


def split_by_tokens(requests: Sequence[ScoreRequest], tokens: int) -> list[Sequence[ScoreRequest]]:
    """Split rows into consecutive groups of about ``tokens`` tokens each, none of them small."""
    total = sum(len(request.inputs_T) for request in requests)
    share = total / max(1, round(total / tokens))
    sequences: list[list[ScoreRequest]] = []
    before = 0
    for request in requests:
        if not sequences or before >= share * len(sequences):
            sequences.append([])
        sequences[-1].append(request)
        before += len(request.inputs_T)
    return list(sequences)


def find_token_budget(model: "PreTrainedModel", device: torch.device) -> int:
    """Token budget of a batch from free memory and the model's widths; a power of two, so that runs repeat."""
    config = model.config.get_text_config()
    hidden = int(config.hidden_size)
    inner = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    # What is alive at the widest point of a layer: residual, normed, queries, keys, values; and the gated product.
    per_token = model.dtype.itemsize * (8 * hidden + 4 * inner)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        largest = min(_GPU_LARGEST_BUDGET, _GPU_ACTIVATIONS // per_token)
    else:
        free, largest = psutil.virtual_memory().available, _CPU_LARGEST_BUDGET
    fitting = int(_MEMORY_SHARE * free / per_token)
    budget = _SMALLEST_BUDGET
    while 2 * budget <= min(fitting, largest):
        budget *= 2
    return budget
