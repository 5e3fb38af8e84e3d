"""Split a causal LM into backbone and LM head, verify the split's logits on a probe, and score batches with it."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np
import torch

from tokensieve.config import ScoreSettings
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel
from tokensieve.models.device import int64_on, on_device
from tokensieve.scoring.backend import Measures, ScoreRequest
from tokensieve.scoring.batching import (
    Batch,
    BatchLayout,
    is_recurrent,
    packed,
    packing_pays,
    padded,
    split_by_tokens,
)
from tokensieve.scoring.decoder_layers import (
    CompiledLayers,
    UnsupportedAttention,
    is_wanted,
    longest_unwindowed,
    varlen_rows,
)
from tokensieve.scoring.lm_head import (
    ModelHead,
    TiledHead,
    TokenMeasures,
    matmul_precision,
    reproduces,
    same_states,
    tiled_head_of,
)
from tokensieve.scoring.lm_head_tiles import CompiledStep

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PROBE_ROWS: Final = 2
_PROBE_LENGTH: Final = 8
_COMPILED_PROBE: Final = (11, 23)
"""Rows and tokens unlike any size of a model: a compiler takes equal sizes for one and the same."""

HeadPath: TypeAlias = Literal["tiled", "own"]
"""LM head in use: our tiles, or the model's own code on a few positions at a time."""

_CPU_SEQUENCE: Final = 1024
"""Tokens of one packed forward pass on a CPU: more would not stay in its caches. The LM head takes a whole batch, so
that its weights are read once."""


@dataclass(frozen=True, slots=True, eq=False)
class Backbone:
    """A causal LM split into backbone and LM head.

    Attributes:
        layers: the model without its head: token ids to hidden states after the final norm.
        head: the LM head.
        head_path: ``own`` where our tiles did not reproduce the model's logits.
        head_dtype: dtype of the LM-head matmul: float32, tf32, bfloat16 or float16.
        notes: findings of opening, for the manifest.
        layout: batch layouts that the model allows.
        varlen: True where packed rows go through our variable-length attention.
        device: of the inputs.
        compiled: the layers as torch.compile makes them; None where they run eager.
    """

    layers: "PreTrainedModel"
    head: TiledHead | ModelHead
    head_path: HeadPath
    head_dtype: str
    notes: tuple[str, ...]
    layout: BatchLayout
    varlen: bool
    device: torch.device
    compiled: CompiledLayers | None = None

    def measure(self, batch: Batch, measures: Measures) -> TokenMeasures:
        """Measure the scored positions of a batch, request after request; nothing waits for the device.

        Raises:
            torch.OutOfMemoryError: the batch does not fit.
        """
        with torch.inference_mode():
            return self._apply_head(self.hidden_states(batch), batch.requests, measures)

    def hidden_states(self, batch: Batch) -> torch.Tensor:
        """Hidden states [N, D] that predict the scored positions of a batch, request after request."""
        return self.read_packed(batch.requests) if batch.packed else self._read_padded(batch)

    def measure_in_chunks(self, request: ScoreRequest, length: int, measures: Measures) -> TokenMeasures:
        """Measure one request in chunks of ``length`` tokens over one KV cache.

        Raises:
            torch.OutOfMemoryError: a chunk beside the KV cache does not fit.
        """
        ids_T = int64_on(self.device, request.inputs_T)
        with torch.inference_mode():
            cache: object = None
            found: list[torch.Tensor] = []
            for start in range(0, len(ids_T), length):
                chunk_T = ids_T[start : start + length]
                output = self.layers(input_ids=chunk_T[None], past_key_values=cache, use_cache=True)
                cache = output.past_key_values
                first, last = np.searchsorted(request.sources_N, [start, start + length])
                found.append(output.last_hidden_state[0, int64_on(self.device, request.sources_N[first:last] - start)])
            del cache, output  # the head needs the room
            return self._apply_head(torch.cat(found), [request], measures)

    def _read_padded(self, batch: Batch) -> torch.Tensor:
        """Hidden states [N, D] from padded rows."""
        ids_BT, rows_N, sources_N = (on_device(part, self.device) for part in padded(batch.requests, batch.shared))
        if not batch.shared:
            return self.hidden(ids_BT)[rows_N, sources_N]
        prompts, prompt_of_row = batch.prompts()
        # Eager: a compiled layer that writes a KV cache would be one graph for each number of a layer.
        cache = self.layers(input_ids=int64_on(self.device, np.stack(prompts)), use_cache=True).past_key_values
        cache.batch_select_indices(int64_on(self.device, np.array(prompt_of_row)))
        output = self.layers(input_ids=ids_BT, past_key_values=cache, use_cache=True)
        return output.last_hidden_state[rows_N, sources_N]  # type: ignore[no-any-return]

    def read_packed(self, requests: Sequence[ScoreRequest]) -> torch.Tensor:
        """Hidden states [N, D] from packed rows."""
        parts = [requests] if self.device.type != "cpu" else split_by_tokens(requests, _CPU_SEQUENCE)
        return torch.cat([self._read_sequence(part) for part in parts])

    def _read_sequence(self, requests: Sequence[ScoreRequest]) -> torch.Tensor:
        ids_BT, positions_BT, sources_N = (on_device(part, self.device) for part in packed(requests))
        lengths = [len(request.inputs_T) for request in requests]
        with varlen_rows(self.layers, lengths) if self.varlen else nullcontext():
            return self.hidden(ids_BT, position_ids=positions_BT)[0, sources_N]

    def hidden(self, ids_BT: torch.Tensor, **more: torch.Tensor) -> torch.Tensor:
        """Hidden states after the final norm, ``[B, T, D]``, by the compiled layers where there are such."""

        def work() -> torch.Tensor:
            return self.layers(input_ids=ids_BT, **more, use_cache=False).last_hidden_state  # type: ignore[no-any-return]

        return work() if self.compiled is None else self.compiled.run(work)

    def _apply_head(
        self, hidden_ND: torch.Tensor, requests: Sequence[ScoreRequest], measures: Measures
    ) -> TokenMeasures:
        """Apply the LM head to the hidden states [N, D] of some requests."""
        targets_N = np.concatenate([request.targets_N for request in requests])
        return self.head.measure(hidden_ND, int64_on(self.device, targets_N), measures)


def open_backbone(loaded: LoadedModel, settings: ScoreSettings, *, compiles: bool = True) -> Backbone:
    """Split a causal LM into backbone and LM head; verify the split's logits on a probe.

    Where they differ (a head that does more than we know of), the model's own head is run instead, on a few positions
    at a time and in the model's own dtype; a note says so.

    Args:
        loaded: the model; its settings say whether layers are compiled.
        settings: dtype of the LM head and packing.
        compiles: False for few rows, where compiling would take longer than they do.

    Raises:
        InputError: the model has no backbone and LM head, or an adapter that adds virtual tokens.
    """
    causal = _causal(loaded)
    dtype = causal.dtype if settings.head_dtype == "model" else torch.float32
    tf32 = settings.head_dtype == "tf32" and loaded.device.type == "cuda"
    head = tiled_head_of(causal, dtype, tf32=tf32)
    recurrent = is_recurrent(causal)
    notes = ("layers carry a state along the sequence: rows are scored unpacked",) if recurrent else ()
    backbone = Backbone(
        layers=causal.base_model,
        head=head or ModelHead(causal),
        head_path="tiled" if head else "own",
        head_dtype="tf32" if tf32 else str(dtype).removeprefix("torch."),
        notes=notes,
        layout=BatchLayout(shares=not recurrent),
        varlen=False,
        device=loaded.device,
    )
    if not recurrent:
        backbone = _with_packing(backbone, causal, settings.packing)
    with torch.inference_mode():
        ids_BT = _probe_ids(causal).view(_PROBE_ROWS, _PROBE_LENGTH)
        known = head is not None and reproduces(head, causal, ids_BT, backbone.hidden(ids_BT).flatten(0, 1))
    compiles = compiles and loaded.settings.tp_plan == "none" and is_wanted(loaded.settings.compile, loaded.device)
    if compiles and not recurrent:
        backbone = _with_compiled_layers(backbone, causal)
    if known:
        return backbone
    return replace(
        backbone,
        head=ModelHead(causal),
        head_path="own",
        head_dtype=str(causal.dtype).removeprefix("torch."),
        notes=(*backbone.notes, f"the head of {type(causal).__name__} is not one we know; the model's own head is run"),
    )


def _with_packing(backbone: Backbone, causal: "PreTrainedModel", wanted: bool | None) -> Backbone:
    """Enable packing where it is requested, or pays and nothing is requested, and is exact on a probe."""
    if wanted is False:
        return backbone
    varlen = replace(
        backbone,
        layout=replace(backbone.layout, packs=True, longest_packed=longest_unwindowed(causal)),
        varlen=True,
    )
    # torch's variable-length kernel takes 16-bit dtypes only, the loop over rows is for a CPU.
    kernel = backbone.device.type == "cpu" or (backbone.device.type == "cuda" and causal.dtype.itemsize == 2)
    if causal.config._attn_implementation == "sdpa" and kernel and _packing_is_exact(varlen, causal):
        return varlen
    if not (packing_pays(causal) if wanted is None else wanted):
        return backbone
    packing = replace(backbone, layout=replace(backbone.layout, packs=True))
    if _packing_is_exact(packing, causal):
        return packing
    return replace(backbone, notes=(*backbone.notes, "packed rows reach into each other: they are scored unpacked"))


def _with_compiled_layers(backbone: Backbone, causal: "PreTrainedModel") -> Backbone:
    """Compile the decoder layers and the head's sums, where a probe shows that they compute the same.

    Probes are of the kinds that batches will be, so that their graphs are there before the first one.
    """
    layers = CompiledLayers(backbone.layers)
    compiled = replace(backbone, compiled=layers)
    rows, length = _COMPILED_PROBE
    ids_BT = _probe_ids(causal, rows * length).view(rows, length)
    row = ScoreRequest(ids_BT[0].cpu().numpy().astype(np.int32), np.arange(1, length, dtype=np.int32))
    probes: list[Callable[[Backbone], torch.Tensor]] = []
    if backbone.layout.may_pack(row):
        probes.append(lambda which: which.read_packed([row, row]))
    if not backbone.layout.packs or backbone.layout.longest_packed is not None:
        probes.append(lambda which: which.hidden(ids_BT))
    with torch.inference_mode(), matmul_precision("highest"):
        for probe in probes:
            if not same_states(probe(compiled).float(), probe(backbone).float(), causal.dtype):
                layers.give_up("they compute something else")
    if layers.problem is not None:
        return replace(backbone, notes=(*backbone.notes, f"decoder layers run eager: {layers.problem}"))
    if isinstance(backbone.head, TiledHead):
        return replace(compiled, head=replace(backbone.head, step=CompiledStep()))
    return compiled


def _packing_is_exact(backbone: Backbone, causal: "PreTrainedModel") -> bool:
    """True where packed rows of different lengths give the hidden states that each gives alone."""
    ids_T = _probe_ids(causal).cpu().numpy().astype(np.int32)
    lengths = [
        length
        for length in (5, 3, 3)
        if backbone.layout.longest_packed is None or length < backbone.layout.longest_packed
    ]
    if not lengths:
        return False
    requests = [ScoreRequest(ids_T[: length + 1], np.arange(1, length + 1, dtype=np.int32)) for length in lengths]
    requests = [ScoreRequest(np.roll(one.ids_T, shift), one.positions_N) for shift, one in enumerate(requests)]
    with torch.inference_mode():
        rows = [torch.from_numpy(one.inputs_T.astype(np.int64)).to(backbone.device) for one in requests]
        alone = [backbone.hidden(ids_T[None])[0] for ids_T in rows]
        try:
            together_ND = backbone.read_packed(requests)
        except UnsupportedAttention:
            return False
    return same_states(together_ND.float(), torch.cat(alone).float(), causal.dtype)


def _probe_ids(causal: "PreTrainedModel", count: int = _PROBE_ROWS * _PROBE_LENGTH) -> torch.Tensor:
    """Token ids spread over the vocabulary, on the model's device."""
    vocabulary = int(causal.get_input_embeddings().weight.shape[0])
    return torch.arange(count, device=causal.device) * max(1, vocabulary // (count + 1)) % vocabulary


def _causal(loaded: LoadedModel) -> "PreTrainedModel":
    """The transformers model with adapter layers in place, without its PEFT wrapper."""
    get_base = getattr(loaded.model, "get_base_model", None)
    causal = loaded.model if get_base is None else get_base()
    if get_base is not None and loaded.model.active_peft_config.is_prompt_learning:
        raise InputError(
            "an adapter that puts virtual tokens before the text cannot be scored with",
            where=loaded.identity.name,
            fix="train a LoRA-type adapter",
        )
    if causal.base_model is causal or causal.get_output_embeddings() is None:
        raise InputError(
            f"{type(causal).__name__} is not a causal language model with a backbone and a head",
            where=loaded.identity.name,
            fix="choose a decoder-only language model of the transformers library",
        )
    return causal
