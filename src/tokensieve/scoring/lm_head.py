"""From hidden states to nll, entropy and rank without ever holding the logits of more than one tile."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import torch

from tokensieve.data.score_record import Wanted
from tokensieve.scoring.lm_head_tiles import Block

_CPU_TILE: Final = (1024, 512)
_GPU_TILE: Final = (2048, 16384)
"""Positions and vocabulary entries in one tile: what a CPU's cache, or a small part of a GPU's memory, holds."""


Precision: TypeAlias = Literal["highest", "high", "medium"]
"""Torch's names for float32 products in full, with factors rounded to TF32, and to bfloat16."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenMeasures:
    """One value a position, float32; all but nll are None where not wanted."""

    nll_N: torch.Tensor
    entropy_N: torch.Tensor | None
    rank_N: torch.Tensor | None
    top_entropy_N: torch.Tensor | None

    @staticmethod
    def joined(parts: Sequence["TokenMeasures"]) -> "TokenMeasures":
        """The measures of consecutive positions as one; at least one part."""

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
class Head:
    """The last linear layer of a language model and what it does to its logits, in the order in which it is applied.

    Attributes:
        weight_VD: one row a vocabulary entry.
        bias_V: added to the logits; None where there is none.
        scale: factor on the logits (Cohere's ``logit_scale``, one over Granite's ``logits_scaling``).
        softcap: ``softcap * tanh(logits / softcap)`` after the scale (Gemma 2); None where there is none.
        dtype: numbers of the product; the softmax is always in float32.
        tf32: whether the product may be rounded to TF32.
    """

    weight_VD: torch.Tensor
    bias_V: torch.Tensor | None
    scale: float
    softcap: float | None
    dtype: torch.dtype
    tf32: bool = False

    def logits(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        """Float32 logits of the whole vocabulary, ``[N, V]``; for small N."""
        with matmul_precision(self._precision(hidden_ND)):
            return next(self._tiles([hidden_ND.to(self.dtype)], len(self.weight_VD)))[2]

    def measure(self, hidden_ND: torch.Tensor, targets_N: torch.Tensor, wanted: Wanted) -> TokenMeasures:
        """Nll (nats) and what else is wanted of each target given its hidden state.

        Memory is one tile and a few numbers a position, whatever N and V. The vocabulary is the outer loop, so that
        each of its rows is read once however many positions there are.

        Args:
            hidden_ND: hidden states behind the model's final norm.
            targets_N: vocabulary entries, int64.
            wanted: what is measured beside nll. Ranks: ties are strict, an equal logit does not count as likelier;
                logits that differ by float rounding only may count either way.
        """
        positions, width = _GPU_TILE if self.weight_VD.is_cuda else _CPU_TILE
        count = max(1, -(-len(targets_N) // positions))
        hiddens = hidden_ND.to(self.dtype).tensor_split(count)
        blocks = [
            Block(targets_N, self._target_logits(hidden_ND, targets_N), width, len(self.weight_VD), wanted)
            for hidden_ND, targets_N in zip(hiddens, targets_N.tensor_split(count), strict=True)
        ]
        work = torch.empty(len(hiddens[0]) * min(width, len(self.weight_VD)), device=hidden_ND.device)
        with matmul_precision(self._precision(hidden_ND)):
            for number, tile, logits_NV in self._tiles(hiddens, width):
                blocks[number].add(tile, logits_NV, work[: logits_NV.numel()].view_as(logits_NV))
        return TokenMeasures.joined(
            [TokenMeasures(b.nll_N(), b.entropy_N(), b.rank_N(), b.top_entropy_N()) for b in blocks]
        )

    def _precision(self, hidden_ND: torch.Tensor) -> Precision:
        """Which units may multiply: the fast ones too, where they lose nothing.

        They round what they multiply and add up in float32. Numbers that were bfloat16 before pass a CPU's bfloat16
        units unrounded, and a GPU's TF32 units pass float16 too: the same product as in float32, several times faster.
        """
        if self.tf32:
            return "high"
        made_of = {hidden_ND.dtype, self.weight_VD.dtype}
        if self.dtype is torch.float32 and self.weight_VD.is_cuda and made_of <= {torch.bfloat16, torch.float16}:
            return "high"
        if self.dtype is torch.float32 and self.weight_VD.device.type == "cpu" and made_of == {torch.bfloat16}:
            return "medium"
        return "highest"

    def _tiles(self, hiddens: Sequence[torch.Tensor], width: int) -> Iterator[tuple[int, int, torch.Tensor]]:
        """Number of the block, number of the tile, and the logits there; they are overwritten by the next ones.

        All go into the same memory where the product is in float32: fresh memory for each costs more than the softmax.
        """
        vocabulary = len(self.weight_VD)
        room = torch.empty(len(hiddens[0]) * min(width, vocabulary), device=self.weight_VD.device)
        for tile, start in enumerate(range(0, vocabulary, width)):
            weight_VD = self.weight_VD[start : start + width].to(self.dtype)
            bias_V = None if self.bias_V is None else self.bias_V[start : start + width].float()
            for number, hidden_ND in enumerate(hiddens):
                if self.dtype is torch.float32:
                    out_NV = room[: len(hidden_ND) * len(weight_VD)].view(len(hidden_ND), len(weight_VD))
                    logits_NV = torch.mm(hidden_ND, weight_VD.T, out=out_NV)
                else:
                    logits_NV = (hidden_ND @ weight_VD.T).float()
                yield number, tile, self.shaped(logits_NV, bias_V)

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
        """The targets' own logits, known before the tiles are, so that ranks can be counted on the way."""
        logits_N = torch.einsum("nd,nd->n", hidden_ND, self.weight_VD[targets_N].to(self.dtype)).float()
        return self.shaped(logits_N, None if self.bias_V is None else self.bias_V[targets_N].float())


@contextmanager
def matmul_precision(wanted: Precision) -> Iterator[None]:
    """Float32 products as wanted, whatever the process chose for the rest of its work."""
    before = torch.get_float32_matmul_precision()
    if before == wanted:
        yield
        return
    torch.set_float32_matmul_precision(wanted)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
