"""LM heads: NLL, entropy and rank from hidden states, without the logits of more than one tile in memory.

``TiledHead`` multiplies in tiles of our own; ``ModelHead`` runs the model's own head, whatever it does.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import torch

from tokensieve.scoring.backend import Measures
from tokensieve.scoring.lm_head_tiles import LOWEST_LOGIT, OnlineSoftmax, TileStep, add_in_place, entropy_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CPU_TILE: Final = (1024, 512)
_GPU_TILE: Final = (2048, 16384)
"""Positions and vocabulary entries in one tile: what a CPU's cache, or a small part of a GPU's memory, holds.

On a GPU float32 logits and as much working memory, 2 x 2,048 x 16,384 x 4 bytes = 256 MiB; and 16,384 weights of a
head in another dtype in float32, 192 MiB at 3,072 hidden values."""


_LOGITS_AT_ONCE: Final = 2**25
"""Values in one float32 tile of the model's own head: 128 MiB."""

_KNOWN_LOGIT_KEYS: Final = frozenset(
    {"final_logit_softcapping", "logit_scale", "logits_scaling", "attn_logit_softcapping", "router_logit_softcapping"}
)

_APART_IN_16_BIT: Final = 0.1
"""Relative distance of hidden states: rounding in bfloat16 leaves about 0.03 over 30 layers, a mistake 0.3 and more."""

Precision: TypeAlias = Literal["highest", "high", "medium"]
"""Torch's names for float32 products in full, with factors rounded to TF32, and to bfloat16."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenMeasures:
    """Measures [N] of N positions, float32; all but the NLL are None where not requested."""

    nll_N: torch.Tensor
    entropy_N: torch.Tensor | None
    rank_N: torch.Tensor | None
    top_entropy_N: torch.Tensor | None

    @staticmethod
    def joined(parts: Sequence["TokenMeasures"]) -> "TokenMeasures":
        """Concatenate the measures of consecutive positions; at least one part."""

        def join(pieces: list[torch.Tensor | None]) -> torch.Tensor | None:
            present = [piece for piece in pieces if piece is not None]
            return torch.cat(present) if present else None

        return TokenMeasures(
            nll_N=torch.cat([part.nll_N for part in parts]),
            entropy_N=join([part.entropy_N for part in parts]),
            rank_N=join([part.rank_N for part in parts]),
            top_entropy_N=join([part.top_entropy_N for part in parts]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class TiledHead:
    """LM head as a weight matrix with bias, scale and soft-cap, applied in this order.

    Attributes:
        weight_VD: weights, ``[V, D]``.
        bias_V: bias, ``[V]``; None where there is none.
        scale: factor on the logits (Cohere's ``logit_scale``, one over Granite's ``logits_scaling``).
        softcap: ``softcap * tanh(logits / softcap)`` after the scale (Gemma 2); None where there is none.
        dtype: dtype of the matmul; the softmax is always in float32.
        tf32: True lets the matmul use TF32.
        step: adds a tile of logits to the sums.
    """

    weight_VD: torch.Tensor
    bias_V: torch.Tensor | None
    scale: float
    softcap: float | None
    dtype: torch.dtype
    tf32: bool = False
    step: TileStep = add_in_place

    def logits(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        """Float32 logits of the whole vocabulary, ``[N, V]``; for small N."""
        with matmul_precision(self._precision(hidden_ND)):
            return next(self._tiles([hidden_ND.to(self.dtype)], len(self.weight_VD)))[2]

    def measure(self, hidden_ND: torch.Tensor, targets_N: torch.Tensor, measures: Measures) -> TokenMeasures:
        """Per-token NLL [N] in nats, and the requested entropy, rank and top-k entropy, on the head's device.

        Memory is one tile and a few values a position, whatever N and V. The vocabulary is the outer loop, so that
        each of its rows is read once however many positions there are.

        Args:
            hidden_ND: hidden states after the final norm.
            targets_N: target ids, int64.
            measures: beside the NLL. An equal logit does not count for a rank; logits that differ by float rounding
                only may count either way.
        """
        positions, width = _GPU_TILE if self.weight_VD.is_cuda else _CPU_TILE
        count = max(1, -(-len(targets_N) // positions))
        hidden_parts = hidden_ND.to(self.dtype).tensor_split(count)
        blocks = [
            OnlineSoftmax(
                targets_N, self._target_logits(part_ND, targets_N), width, len(self.weight_VD), measures, self.step
            )
            for part_ND, targets_N in zip(hidden_parts, targets_N.tensor_split(count), strict=True)
        ]
        size = len(hidden_parts[0]) * min(width, len(self.weight_VD))
        work = torch.empty(size, dtype=torch.float32, device=hidden_ND.device)
        with matmul_precision(self._precision(hidden_ND)):
            for part, tile, logits_NV in self._tiles(hidden_parts, width):
                blocks[part].add(tile, logits_NV, work[: logits_NV.numel()].view_as(logits_NV))
        return TokenMeasures.joined(
            [TokenMeasures(b.nll_N(), b.entropy_N(), b.rank_N(), b.top_entropy_N()) for b in blocks]
        )

    def _precision(self, hidden_ND: torch.Tensor) -> Precision:
        """Float32 matmul precision: reduced where it loses nothing.

        Tensor cores and a CPU's bfloat16 units round factors and accumulate in float32. Factors that were bfloat16
        before are not rounded again on a CPU, and TF32 holds float16 too: the float32 result, several times faster.
        """
        if self.tf32:
            return "high"
        dtypes = {hidden_ND.dtype, self.weight_VD.dtype}
        if self.dtype is torch.float32 and self.weight_VD.is_cuda and dtypes <= {torch.bfloat16, torch.float16}:
            return "high"
        if self.dtype is torch.float32 and self.weight_VD.device.type == "cpu" and dtypes == {torch.bfloat16}:
            return "medium"
        return "highest"

    def _tiles(self, hidden_parts: Sequence[torch.Tensor], width: int) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Chunk of positions, tile of the vocabulary, and the logits there; they are overwritten by the next ones.

        All go into the same memory where the product is in float32: fresh memory for each costs more than the softmax.
        """
        vocabulary = len(self.weight_VD)
        size = len(hidden_parts[0]) * min(width, vocabulary)
        buffer = torch.empty(size, dtype=torch.float32, device=self.weight_VD.device)
        for tile, start in enumerate(range(0, vocabulary, width)):
            weight_VD = self.weight_VD[start : start + width].to(self.dtype)
            bias_V = None if self.bias_V is None else _finite(self.bias_V[start : start + width])
            for part, hidden_ND in enumerate(hidden_parts):
                if self.dtype is torch.float32:
                    out_NV = buffer[: len(hidden_ND) * len(weight_VD)].view(len(hidden_ND), len(weight_VD))
                    logits_NV = torch.mm(hidden_ND, weight_VD.T, out=out_NV)
                else:
                    logits_NV = (hidden_ND @ weight_VD.T).float()
                yield part, tile, self.shaped(logits_NV, bias_V)

    def shaped(self, logits: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Bias, scale and soft-cap, in place."""
        if bias is not None:
            logits += bias
        if self.scale != 1.0:
            logits *= self.scale
        if self.softcap is not None:
            logits.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits

    def _target_logits(self, hidden_ND: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        """Logits [N] of the targets, needed before the tiles so that ranks can be counted on the way."""
        logits_N = torch.einsum("nd,nd->n", hidden_ND, self.weight_VD[targets_N].to(self.dtype)).float()
        return self.shaped(logits_N, None if self.bias_V is None else _finite(self.bias_V[targets_N]))


def _finite(bias: torch.Tensor) -> torch.Tensor:
    """A bias in float32, with a finite number for -inf, which models give to the padding of their vocabulary."""
    return bias.float().clamp_min(LOWEST_LOGIT)


@dataclass(frozen=True, slots=True, eq=False)
class ModelHead:
    """The model's own head, run by the model's own code on given hidden states.

    Attributes:
        causal: the model. While its head runs, its backbone is replaced by one that hands out the hidden states.
    """

    causal: "PreTrainedModel"

    def logits(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        """Float32 logits of shape ``[N, V]``."""
        backbone = self.causal.base_model
        dummy_BT = torch.zeros((1, len(hidden_ND)), dtype=torch.long, device=hidden_ND.device)
        # An output of the model's own kind, from one token, in which only the hidden states are ours.
        output = backbone(input_ids=dummy_BT[:, :1], use_cache=False)
        output.last_hidden_state = hidden_ND[None]
        backbone.forward = lambda *_args, **_kwargs: output
        try:
            logits: torch.Tensor = self.causal(input_ids=dummy_BT, use_cache=False).logits
        finally:
            del backbone.forward  # the class's own method shows through again
        return logits[0].float()

    def measure(self, hidden_ND: torch.Tensor, targets_N: torch.Tensor, measures: Measures) -> TokenMeasures:
        """As ``TiledHead.measure``, some positions and the whole vocabulary at a time."""
        vocabulary = int(self.causal.config.get_text_config().vocab_size)
        positions = max(1, _LOGITS_AT_ONCE // vocabulary)
        tiles = zip(torch.split(hidden_ND, positions), torch.split(targets_N, positions), strict=True)
        return TokenMeasures.joined(
            [self._measure_tile(hidden_ND, targets_N, measures) for hidden_ND, targets_N in tiles]
        )

    def _measure_tile(self, hidden_ND: torch.Tensor, targets_N: torch.Tensor, measures: Measures) -> TokenMeasures:
        logits_NV = self.logits(hidden_ND)
        own_N1 = logits_NV.gather(1, targets_N[:, None])
        top_k = measures.top_k and min(measures.top_k, logits_NV.shape[1])
        return TokenMeasures(
            nll_N=(logits_NV.logsumexp(1) - own_N1[:, 0]).clamp_min(0.0),
            entropy_N=entropy_of(logits_NV) if measures.entropy else None,
            rank_N=(logits_NV > own_N1).sum(1).float() if measures.rank else None,
            top_entropy_N=entropy_of(logits_NV.topk(top_k, dim=1).values) if top_k else None,
        )


def tiled_head_of(causal: "PreTrainedModel", dtype: torch.dtype, *, tf32: bool) -> TiledHead | None:
    """Read a model's LM head; None where its layer or configuration does something that ``TiledHead`` does not know."""
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
    return TiledHead(
        weight_VD=_whole(layer.weight),
        bias_V=None if layer.bias is None else _whole(layer.bias),
        scale=float(scale) / float(scaling),
        softcap=getattr(config, "final_logit_softcapping", None),
        dtype=dtype,
        tf32=tf32,
    )


def reproduces(head: TiledHead, causal: "PreTrainedModel", ids_BT: torch.Tensor, hidden_ND: torch.Tensor) -> bool:
    """True where a head gives the model's own logits, on the hidden states [N, D] of some ids and on larger ones.

    The second check uses the same hidden states made larger until their logits are far apart, where a soft cap
    or a scale that we missed stands out of the rounding of 16-bit dtypes.
    """
    with torch.inference_mode():
        own_NV = causal(input_ids=ids_BT, use_cache=False).logits.float().flatten(0, 1)
        if own_NV.shape[1] != len(head.weight_VD) or not is_close(head.logits(hidden_ND), own_NV, causal.dtype):
            return False
        factor = 100.0 / own_NV.abs().amax().clamp_min(1e-3)
        large_ND = (hidden_ND.float() * factor).to(hidden_ND.dtype)
        return is_close(head.logits(large_ND), ModelHead(causal).logits(large_ND), causal.dtype)


def is_close(ours: torch.Tensor, theirs: torch.Tensor, dtype: torch.dtype) -> bool:
    """True where two tensors are equal up to the rounding of a dtype."""
    tolerance = {torch.float32: 1e-4, torch.float16: 5e-3}.get(dtype, 2e-2)
    return bool((ours - theirs).abs().amax() <= tolerance * theirs.abs().amax().clamp_min(1.0))


def same_states(ours_ND: torch.Tensor, theirs_ND: torch.Tensor, dtype: torch.dtype) -> bool:
    """True where hidden states are equal up to the rounding of all layers; in 16 bit, at three of four positions.

    Layers amplify a 16-bit rounding at single positions to a fifth of the states; what is computed wrongly is wrong at
    most positions.
    """
    if dtype is torch.float32:
        return is_close(ours_ND, theirs_ND, dtype)
    apart_N = (ours_ND - theirs_ND).norm(dim=-1) / theirs_ND.norm(dim=-1).clamp_min(1e-6)
    return bool(apart_N.flatten().quantile(0.75) <= _APART_IN_16_BIT)


def _whole(parameter: torch.Tensor) -> torch.Tensor:
    """A parameter's values; those of a tensor-parallel one gathered from all processes."""
    gather = getattr(parameter, "full_tensor", None)
    return (parameter if gather is None else gather()).detach()


@contextmanager
def matmul_precision(wanted: Precision) -> Iterator[None]:
    """Set torch's float32 matmul precision for a while, whatever the process chose for the rest of its work."""
    before = torch.get_float32_matmul_precision()
    if before == wanted:
        yield
        return
    torch.set_float32_matmul_precision(wanted)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
