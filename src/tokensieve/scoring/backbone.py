"""Take a loaded model apart, and check on a probe that its pieces do what the whole does."""

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from tokensieve.config import ScoreSettings
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel
from tokensieve.scoring.batching import Layout
from tokensieve.scoring.layout import is_recurrent, packing_pays
from tokensieve.scoring.lm_head import Head
from tokensieve.scoring.lm_head_dtype import OwnHead
from tokensieve.scoring.network import Network
from tokensieve.scoring.request import Request
from tokensieve.scoring.varlen_attention import NotByRow, longest_by_row

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PROBE_ROWS: Final = 2
_PROBE_LENGTH: Final = 8
_KNOWN_LOGIT_KEYS: Final = frozenset(
    {"final_logit_softcapping", "logit_scale", "logits_scaling", "attn_logit_softcapping", "router_logit_softcapping"}
)


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
        layout=Layout(shares=not recurrent),
        by_row=False,
        device=loaded.device,
    )
    if not recurrent:
        network = _with_packing(network, causal, settings.packing)
    if head is not None and _agrees(network, causal, head):
        return network
    return replace(
        network,
        head=OwnHead(causal),
        head_path="own",
        head_dtype=str(causal.dtype).removeprefix("torch."),
        notes=(*network.notes, f"the head of {type(causal).__name__} is not one we know; the model's own head is run"),
    )


def _with_packing(network: Network, causal: "PreTrainedModel", wanted: bool | None) -> Network:
    """The network with rows laid end to end where that is wanted, or pays and nobody said."""
    if wanted is False:
        return network
    by_row = replace(
        network,
        layout=replace(network.layout, packs=True, longest_packed=longest_by_row(causal)),
        by_row=True,
    )
    # torch's variable-length kernel takes 16-bit numbers only, the loop over rows is for a CPU.
    kernel = network.device.type == "cpu" or (network.device.type == "cuda" and causal.dtype.itemsize == 2)
    if causal.config._attn_implementation == "sdpa" and kernel and _reads_packed(by_row, causal):
        return by_row
    if not (packing_pays(causal) if wanted is None else wanted):
        return network
    packing = replace(network, layout=replace(network.layout, packs=True))
    if _reads_packed(packing, causal):
        return packing
    return replace(network, notes=(*network.notes, "packed rows reach into each other: they are scored unpacked"))


def _reads_packed(network: Network, causal: "PreTrainedModel") -> bool:
    """Whether rows of different lengths, end to end, give the hidden states that each gives alone."""
    ids_T = _probe_ids(causal).cpu().numpy().astype(np.int32)
    lengths = [
        length
        for length in (5, 3, 3)
        if network.layout.longest_packed is None or length < network.layout.longest_packed
    ]
    if not lengths:
        return False
    requests = [Request(ids_T[: length + 1], np.arange(1, length + 1, dtype=np.int32)) for length in lengths]
    requests = [Request(np.roll(one.ids_T, shift), one.places_N) for shift, one in enumerate(requests)]
    with torch.inference_mode():
        rows = [torch.from_numpy(one.inputs_T.astype(np.int64)).to(network.device) for one in requests]
        alone = [network.hidden(ids_T[None])[0] for ids_T in rows]
        try:
            together_ND = network.read_packed(requests)
        except NotByRow:
            return False
    return _close(together_ND.float(), torch.cat(alone).float(), causal.dtype)


def _probe_ids(causal: "PreTrainedModel") -> torch.Tensor:
    """Token ids spread over the vocabulary, on the model's device."""
    vocabulary, count = int(causal.get_input_embeddings().weight.shape[0]), _PROBE_ROWS * _PROBE_LENGTH
    return torch.arange(count, device=causal.device) * max(1, vocabulary // (count + 1)) % vocabulary


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
        weight_VD=_whole(layer.weight),
        bias_V=None if layer.bias is None else _whole(layer.bias),
        scale=float(scale) / float(scaling),
        softcap=getattr(config, "final_logit_softcapping", None),
        dtype=dtype,
        tf32=tf32,
    )


def _whole(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter's values; of one that lies over several processes, all of them in each."""
    gather = getattr(parameter, "full_tensor", None)
    return (parameter if gather is None else gather()).detach()


def _agrees(network: Network, causal: "PreTrainedModel", head: Head) -> bool:
    """Whether head and backbone together give the model's own logits, and the head alone does on large ones.

    The second look uses the same hidden states made larger until their logits are far apart, where a soft cap
    or a scale that we missed stands out of the rounding of 16-bit numbers.
    """
    ids_BT = _probe_ids(causal).view(_PROBE_ROWS, _PROBE_LENGTH)
    with torch.inference_mode():
        own_NV = causal(input_ids=ids_BT, use_cache=False).logits.float().flatten(0, 1)
        hidden_ND = network.hidden(ids_BT).flatten(0, 1)
        if own_NV.shape[1] != len(head.weight_VD) or not _close(head.logits(hidden_ND), own_NV, causal.dtype):
            return False
        factor = 100.0 / own_NV.abs().amax().clamp_min(1e-3)
        large_ND = (hidden_ND.float() * factor).to(hidden_ND.dtype)
        return _close(head.logits(large_ND), OwnHead(causal).logits(large_ND), causal.dtype)


def _close(ours: torch.Tensor, theirs: torch.Tensor, dtype: torch.dtype) -> bool:
    """Equal but for the rounding of the model's numbers."""
    tolerance = {torch.float32: 1e-4, torch.float16: 5e-3}.get(dtype, 2e-2)
    return bool((ours - theirs).abs().amax() <= tolerance * theirs.abs().amax().clamp_min(1.0))
