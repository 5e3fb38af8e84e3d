"""A loaded model taken apart: the backbone that reads tokens, and the head that is asked at some places only."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from tokensieve.data.score_record import Record, Wanted
from tokensieve.scoring.batching import Batch, Layout
from tokensieve.scoring.layout import in_sequences, packed, padded
from tokensieve.scoring.lm_head import Head
from tokensieve.scoring.lm_head_dtype import OwnHead
from tokensieve.scoring.request import Request
from tokensieve.scoring.varlen_attention import rows_apart
from tokensieve.types import FloatArray

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HeadPath: TypeAlias = Literal["tiled", "own"]
"""Who multiplies hidden states with the vocabulary: our tiles, or the model's own code on a few places at a time."""

_CPU_SEQUENCE: Final = 1024
"""Tokens that the backbone reads at once on a CPU: more would not stay in its caches. The head takes a whole batch,
which spares it reading its weights for each sequence."""


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A model ready to score batches.

    Attributes:
        backbone: token ids to hidden states behind the final norm.
        head: how logits are made from them.
        head_path: ``own`` where our tiles did not reproduce the model's logits.
        head_dtype: numbers of the head's product: float32, tf32, bfloat16 or float16.
        notes: what was found out while opening, for the manifest.
        layout: how rows may lie in a batch.
        by_row: whether attention is called for each packed row, for want of a kernel that keeps them apart.
        device: where inputs go.
    """

    backbone: "PreTrainedModel"
    head: Head | OwnHead
    head_path: HeadPath
    head_dtype: str
    notes: tuple[str, ...]
    layout: Layout
    by_row: bool
    device: torch.device

    def measure(self, batch: Batch, wanted: Wanted) -> list[Record]:
        """Score the requests of a batch.

        Raises:
            torch.OutOfMemoryError: the batch does not fit.
        """
        with torch.inference_mode():
            return self._ask(self.hidden_states(batch), batch.requests, wanted)

    def hidden_states(self, batch: Batch) -> torch.Tensor:
        """Hidden states at the sources of all places of a batch, request after request, ``[N, D]``."""
        return self.read_packed(batch.requests) if batch.packed else self._read_padded(batch)

    def measure_in_pieces(self, request: Request, length: int, wanted: Wanted) -> Record:
        """Score one request, ``length`` tokens at a time, each piece reading the keys and values of those before.

        Raises:
            torch.OutOfMemoryError: a piece beside the keys and values does not fit.
        """
        ids_T = torch.from_numpy(request.inputs_T.astype(np.int64)).to(self.device)
        sources_N = torch.from_numpy(request.sources_N.astype(np.int64)).to(self.device)
        with torch.inference_mode():
            cache: object = None
            found: list[torch.Tensor] = []
            for start in range(0, len(ids_T), length):
                piece_T = ids_T[start : start + length]
                output = self.backbone(input_ids=piece_T[None], past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                here_N = sources_N[(sources_N >= start) & (sources_N < start + length)]
                found.append(output.last_hidden_state[0, here_N - start])
            del cache, output  # the head needs the room
            return self._ask(torch.cat(found), [request], wanted)[0]

    def _read_padded(self, batch: Batch) -> torch.Tensor:
        """Hidden states at the sources of all places, ``[N, D]``."""
        ids_BT, rows_N, sources_N = (part.to(self.device) for part in padded(batch.requests, batch.shared))
        if not batch.shared:
            return self.hidden(ids_BT)[rows_N, sources_N]
        beginning_T = torch.from_numpy(batch.requests[0].ids_T[: batch.shared].astype(np.int64)).to(self.device)
        cache = self.backbone(input_ids=beginning_T[None], use_cache=True).past_key_values
        cache.batch_repeat_interleave(len(ids_BT))
        output = self.backbone(input_ids=ids_BT, past_key_values=cache, use_cache=True)
        return output.last_hidden_state[rows_N, sources_N]  # type: ignore[no-any-return]

    def read_packed(self, requests: Sequence[Request]) -> torch.Tensor:
        """The same from sequences without padding."""
        parts = [requests] if self.device.type != "cpu" else in_sequences(requests, _CPU_SEQUENCE)
        return torch.cat([self._read_sequence(part) for part in parts])

    def _read_sequence(self, requests: Sequence[Request]) -> torch.Tensor:
        ids_BT, positions_BT, sources_N = (part.to(self.device) for part in packed(requests))
        lengths = [len(request.inputs_T) for request in requests]
        with rows_apart(self.backbone, lengths) if self.by_row else nullcontext():
            output = self.backbone(input_ids=ids_BT, position_ids=positions_BT, use_cache=False)
        return output.last_hidden_state[0, sources_N]  # type: ignore[no-any-return]

    def hidden(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """Hidden states behind the final norm, ``[B, T, D]``."""
        return self.backbone(input_ids=ids_BT, use_cache=False).last_hidden_state  # type: ignore[no-any-return]

    def free(self) -> None:
        """Give memory that nothing holds any more back to the device, after a batch that did not fit."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _ask(self, hidden_ND: torch.Tensor, requests: Sequence[Request], wanted: Wanted) -> list[Record]:
        """Apply the head to the requests' places, given their hidden states one after the other."""
        targets_N = torch.from_numpy(np.concatenate([request.targets_N for request in requests]))
        found = self.head.measure(hidden_ND, targets_N.long().to(self.device), wanted)
        bounds = np.cumsum([len(request.places_N) for request in requests])[:-1]
        nll = _split(found.nll_N, bounds)
        optional = [
            [None] * len(requests) if values_N is None else _split(values_N, bounds)
            for values_N in (found.entropy_N, found.rank_N, found.top_entropy_N)
        ]
        return [Record(*arrays) for arrays in zip(nll, *optional, strict=True)]


def _split(values_N: torch.Tensor, bounds: NDArray[np.int64]) -> list[FloatArray]:
    """One value a place as one array a request."""
    return np.split(values_N.cpu().numpy().astype(np.float32), bounds)
