"""A loaded model taken apart: the backbone that reads tokens, and the head that is asked at some places only."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np
import torch

from tokensieve.config import ScoreSettings
from tokensieve.data.store import Record
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel
from tokensieve.scoring._head import Head
from tokensieve.scoring._layout import is_recurrent, packed, packing_pays, padded
from tokensieve.scoring._own_head import OwnHead
from tokensieve.scoring._plan import Batch
from tokensieve.scoring._request import Request

if TYPE_CHECKING:
    from transformers import PreTrainedModel

HeadPath: TypeAlias = Literal["tiled", "own"]
"""Who multiplies hidden states with the vocabulary: our tiles, or the model's own code on a few places at a time."""

_PROBE_ROWS: Final = 2
_PROBE_LENGTH: Final = 24
_KNOWN_LOGIT_KEYS: Final = frozenset(
    {"final_logit_softcapping", "logit_scale", "logits_scaling", "attn_logit_softcapping", "router_logit_softcapping"}
)


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A model ready to score batches.

    Attributes:
        backbone: token ids to hidden states behind the final norm.
        head: how logits are made from them.
        head_path: ``own`` where our tiles did not reproduce the model's logits.
        head_dtype: numbers of the head's product: float32, tf32, bfloat16 or float16.
        notes: what was found out while opening, for the manifest.
        packs: whether rows are laid end to end rather than padded.
        shares: whether a beginning that rows have in common may be run once.
        device: where inputs go.
    """

    backbone: torch.nn.Module
    head: Head | OwnHead
    head_path: HeadPath
    head_dtype: str
    notes: tuple[str, ...]
    packs: bool
    shares: bool
    device: torch.device

    def measure(self, batch: Batch, *, entropy: bool, rank: bool) -> list[Record]:
        """Score the requests of a batch.

        Raises:
            torch.OutOfMemoryError: the batch does not fit.
        """
        with torch.inference_mode():
            if self.packs and not batch.shared:
                hidden_ND = self._read_packed(batch.requests)
            else:
                hidden_ND = self._read_padded(batch)
            return self._ask(hidden_ND, batch.requests, entropy=entropy, rank=rank)

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

    def _read_packed(self, requests: Sequence[Request]) -> torch.Tensor:
        """The same from one sequence without padding."""
        ids_BT, positions_BT, sources_N = (part.to(self.device) for part in packed(requests))
        output = self.backbone(input_ids=ids_BT, position_ids=positions_BT, use_cache=False)
        return output.last_hidden_state[0, sources_N]  # type: ignore[no-any-return]

    def free(self) -> None:
        """Give memory that nothing holds any more back to the device, after a batch that did not fit."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def hidden(self, ids_BT: torch.Tensor) -> torch.Tensor:
        """Hidden states behind the final norm, ``[B, T, D]``."""
        return self.backbone(input_ids=ids_BT, use_cache=False).last_hidden_state  # type: ignore[no-any-return]

    def _ask(self, hidden_ND: torch.Tensor, requests: Sequence[Request], *, entropy: bool, rank: bool) -> list[Record]:
        """Apply the head to the requests' places, given their hidden states one after the other."""
        targets_N = torch.from_numpy(np.concatenate([request.targets_N for request in requests]))
        found = self.head.measure(hidden_ND, targets_N.long().to(self.device), entropy=entropy, rank=rank)
        bounds = np.cumsum([len(request.places_N) for request in requests])[:-1]
        nll, entropies, ranks = (
            None if values_N is None else np.split(values_N.cpu().numpy().astype(np.float32), bounds)
            for values_N in (found.nll_N, found.entropy_N, found.rank_N)
        )
        if nll is None:
            raise RuntimeError("a head returned no nll")
        return [
            Record(nll[i], None if entropies is None else entropies[i], None if ranks is None else ranks[i])
            for i in range(len(requests))
        ]


def open_network(loaded: LoadedModel, settings: ScoreSettings) -> Network:
    """Take a model apart, and check on a probe that its pieces give the model's own logits.

    Where they do not (a head that does more than we know of), the model's own head is run instead, on a few places
    at a time and in the model's own numbers; a note says so.

    Raises:
        InputError: the model has no backbone and head to take apart, or an adapter that adds virtual tokens.
    """
    causal = _causal(loaded)
    dtype = causal.dtype if settings.head_dtype == "model" else torch.float32
    tf32 = settings.head_dtype == "tf32" and loaded.device.type == "cuda"
    head = _head_of(causal, dtype, tf32=tf32)
    recurrent = is_recurrent(causal)
    notes = ("layers carry a state along the sequence: rows are scored unpacked",) if recurrent else ()
    network = Network(
        backbone=causal.base_model,
        head=head or OwnHead(causal),
        head_path="tiled" if head else "own",
        head_dtype="tf32" if tf32 else str(dtype).removeprefix("torch."),
        notes=notes,
        packs=not recurrent and (packing_pays(causal) if settings.packing is None else settings.packing),
        shares=not recurrent,
        device=loaded.device,
    )
    if head is not None and _agrees(network, causal, head):
        return network
    return replace(
        network,
        head=OwnHead(causal),
        head_path="own",
        head_dtype=str(causal.dtype).removeprefix("torch."),
        notes=(*notes, f"the head of {type(causal).__name__} is not one we know; the model's own head is run"),
    )


def _causal(loaded: LoadedModel) -> "PreTrainedModel":
    """The transformers model, adapter layers in place; a PEFT wrapper is only a shell around it."""
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


def _head_of(causal: "PreTrainedModel", dtype: torch.dtype, *, tf32: bool) -> Head | None:
    """The head as numbers; None where the configuration speaks of something that we do not know."""
    layer = causal.get_output_embeddings()
    if type(layer) is not torch.nn.Linear:  # an adapter on the head, or a quantised one: more than its weight
        return None
    config = causal.config.get_text_config()
    unknown = [
        key
        for key, value in config.to_dict().items()
        if ("logit" in key or "lm_head" in key) and key not in _KNOWN_LOGIT_KEYS and isinstance(value, float)
    ]
    scaling = 1.0 if (value := getattr(config, "logits_scaling", None)) is None else value
    scale = 1.0 if (value := getattr(config, "logit_scale", None)) is None else value
    if unknown or isinstance(scale, str) or isinstance(scaling, str):  # MPT's scale may be a formula's name
        return None
    return Head(
        weight_VD=layer.weight,
        bias_V=layer.bias,
        scale=float(scale) / float(scaling),
        softcap=getattr(config, "final_logit_softcapping", None),
        dtype=dtype,
        tf32=tf32,
    )


def _agrees(network: Network, causal: "PreTrainedModel", head: Head) -> bool:
    """Whether head and backbone together give the model's own logits, and the head alone does on large ones.

    The second look uses the same hidden states made larger until their logits are far apart, where a soft cap
    or a scale that we missed stands out of the rounding of 16-bit numbers.
    """
    vocabulary = len(head.weight_VD)
    count = _PROBE_ROWS * _PROBE_LENGTH
    ids_N = torch.arange(count, device=network.device) * max(1, vocabulary // (count + 1)) % vocabulary
    ids_BT = ids_N.view(_PROBE_ROWS, _PROBE_LENGTH)
    with torch.inference_mode():
        own_NV = causal(input_ids=ids_BT, use_cache=False).logits.float().flatten(0, 1)
        hidden_ND = network.hidden(ids_BT).flatten(0, 1)
        if own_NV.shape[1] != vocabulary or not _close(head.logits(hidden_ND), own_NV, causal.dtype):
            return False
        factor = 100.0 / own_NV.abs().amax().clamp_min(1e-3)
        large_ND = (hidden_ND.float() * factor).to(hidden_ND.dtype)
        return _close(head.logits(large_ND), OwnHead(causal).logits(large_ND), causal.dtype)


def _close(ours: torch.Tensor, theirs: torch.Tensor, dtype: torch.dtype) -> bool:
    """Equal but for the rounding of the model's numbers."""
    tolerance = {torch.float32: 1e-4, torch.float16: 5e-3}.get(dtype, 2e-2)
    return bool((ours - theirs).abs().amax() <= tolerance * theirs.abs().amax().clamp_min(1.0))
