"""From hidden states to nll, entropy and rank without ever holding the logits of more than one tile."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import torch

_CPU_TILE: Final = (512, 1024)
_GPU_TILE: Final = (2048, 16384)
"""Positions and vocabulary entries in one tile: what a CPU's cache, or a small part of a GPU's memory, holds."""


@dataclass(frozen=True, slots=True, eq=False)
class TokenMeasures:
    """One value a position, float32, on the model's device; the latter two are None where not asked for."""

    nll_N: torch.Tensor
    entropy_N: torch.Tensor | None
    rank_N: torch.Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """The last linear layer of a language model and what it does to its logits, in the order in which it is applied.

    Attributes:
        weight_VD: one row a vocabulary entry.
        bias_V: added to the logits; None where there is none.
        scale: factor on the logits (Cohere's ``logit_scale``, one over Granite's ``logits_scaling``).
        softcap: ``softcap * tanh(logits / softcap)`` after the scale (Gemma 2); None where there is none.
        dtype: numbers of the product; the softmax is always in float32.
        tf32: whether the product may use TF32 tensor cores.
    """

    weight_VD: torch.Tensor
    bias_V: torch.Tensor | None
    scale: float
    softcap: float | None
    dtype: torch.dtype
    tf32: bool = False

    def logits(
        self, hidden_ND: torch.Tensor, start: int = 0, stop: int | None = None, out_NV: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Float32 logits of the vocabulary entries from ``start`` to ``stop``, shape ``[N, stop - start]``.

        They are written into ``out_NV`` where the product is in float32: fresh memory for each tile costs more than
        the softmax.
        """
        weight_VD = self.weight_VD[start:stop].to(self.dtype)
        with matmul_precision(tf32=self.tf32):
            if self.dtype is torch.float32 and out_NV is not None:
                logits_NV = torch.mm(hidden_ND.to(self.dtype), weight_VD.T, out=out_NV)
            else:
                logits_NV = (hidden_ND.to(self.dtype) @ weight_VD.T).float()
        if self.bias_V is not None:
            logits_NV += self.bias_V[start:stop].float()
        return self._shaped(logits_NV)

    def _shaped(self, logits: torch.Tensor) -> torch.Tensor:
        """Scale and soft-cap, in place."""
        if self.scale != 1.0:
            logits *= self.scale
        if self.softcap is not None:
            logits.div_(self.softcap).tanh_().mul_(self.softcap)
        return logits

    def measure(self, hidden_ND: torch.Tensor, targets_N: torch.Tensor, *, entropy: bool, rank: bool) -> TokenMeasures:
        """Nll (nats), entropy (nats) and rank of each target given its hidden state.

        The logsumexp is carried along the vocabulary (online softmax, Milakov and Gimelshein 2018), so memory is
        one tile, whatever N and V.

        Args:
            hidden_ND: hidden states behind the model's final norm.
            targets_N: vocabulary entries, int64.
            entropy: whether to measure it.
            rank: whether to measure it. Ties are strict: an equal logit does not count as likelier; logits that
                differ by float rounding only may count either way.
        """
        positions, _ = self._tile()
        parts = [
            self._measure_block(
                hidden_ND[start : start + positions], targets_N[start : start + positions], entropy=entropy, rank=rank
            )
            for start in range(0, len(targets_N), positions)
        ]
        if len(parts) == 1:
            return parts[0]
        empty = torch.zeros(0, device=hidden_ND.device)
        return TokenMeasures(
            torch.cat([empty, *(part.nll_N for part in parts)]),
            torch.cat([empty, *(p.entropy_N for p in parts if p.entropy_N is not None)]) if entropy else None,
            torch.cat([empty, *(p.rank_N for p in parts if p.rank_N is not None)]) if rank else None,
        )

    def _measure_block(
        self, hidden_ND: torch.Tensor, targets_N: torch.Tensor, *, entropy: bool, rank: bool
    ) -> TokenMeasures:
        hidden_ND = hidden_ND.to(self.dtype)
        guess_N1 = self._target_logits(hidden_ND, targets_N)[:, None]
        sums = _OnlineSums(guess_N1, entropy=entropy)
        target_N = torch.empty_like(guess_N1[:, 0])
        rank_N = torch.zeros_like(target_N)
        vocabulary, tile = len(self.weight_VD), self._tile()[1]
        logits_memory, work_memory = torch.empty((2, len(targets_N) * min(tile, vocabulary)), device=guess_N1.device)
        for start in range(0, vocabulary, tile):
            width = min(tile, vocabulary - start)
            shape = (len(targets_N), width)
            room_NV, work_NV = (m[: len(targets_N) * width].view(shape) for m in (logits_memory, work_memory))
            logits_NV = self.logits(hidden_ND, start, start + width, room_NV)
            local_N = targets_N - start
            inside_N = (local_N >= 0) & (local_N < width)
            own_N1 = logits_NV.gather(1, local_N.clamp(0, width - 1)[:, None])
            target_N = torch.where(inside_N, own_N1[:, 0], target_N)
            if rank:
                # Compared into floats: summing booleans is ten times slower on a CPU.
                rank_N += torch.gt(logits_NV, guess_N1, out=work_NV).sum(1)
                # The guess is the same number as the token's own logit but for rounding: it must not outrank itself.
                rank_N -= (inside_N & (own_N1 > guess_N1)[:, 0]).float()
            sums.add(logits_NV, work_NV)
        log_sum_N = sums.log_sum()
        return TokenMeasures(
            nll_N=(log_sum_N - target_N).clamp_min(0.0),
            entropy_N=sums.entropy() if entropy else None,
            rank_N=rank_N if rank else None,
        )

    def _target_logits(self, hidden_ND: torch.Tensor, targets_N: torch.Tensor) -> torch.Tensor:
        """The targets' own logits, known before the tiles are, so that ranks can be counted on the way."""
        logits_N = torch.einsum("nd,nd->n", hidden_ND, self.weight_VD[targets_N].to(self.dtype)).float()
        if self.bias_V is not None:
            logits_N += self.bias_V[targets_N].float()
        return self._shaped(logits_N)

    def _tile(self) -> tuple[int, int]:
        return _GPU_TILE if self.weight_VD.is_cuda else _CPU_TILE


class _OnlineSums:
    """Sum of exp(logit) and of exp(logit) * logit over tiles, both relative to the largest logit so far."""

    def __init__(self, reference_N1: torch.Tensor, *, entropy: bool) -> None:
        self.largest_N1 = reference_N1.clone()
        self.sum_N = torch.zeros_like(reference_N1[:, 0])
        self.weighted_N = torch.zeros_like(self.sum_N) if entropy else None

    def add(self, logits_NV: torch.Tensor, work_NV: torch.Tensor) -> None:
        """Take in a tile; its memory and that of ``work_NV`` are used up."""
        largest_N1 = torch.maximum(self.largest_N1, logits_NV.amax(1, keepdim=True))
        moved_N = (self.largest_N1 - largest_N1)[:, 0]
        shrink_N = moved_N.exp()
        logits_NV -= largest_N1
        if self.weighted_N is None:
            self.sum_N = self.sum_N * shrink_N + logits_NV.exp_().sum(1)
        else:
            odds_NV = torch.exp(logits_NV, out=work_NV)
            weighted_N = torch.linalg.vecdot(odds_NV, logits_NV)
            self.weighted_N = shrink_N * (self.weighted_N + self.sum_N * moved_N) + weighted_N
            self.sum_N = self.sum_N * shrink_N + odds_NV.sum(1)
        self.largest_N1 = largest_N1

    def log_sum(self) -> torch.Tensor:
        """Log of the sum of exp(logit)."""
        return self.sum_N.log() + self.largest_N1[:, 0]

    def entropy(self) -> torch.Tensor:
        """Entropy of the softmax in nats."""
        if self.weighted_N is None:
            raise RuntimeError("entropy was not asked for")
        return (self.sum_N.log() - self.weighted_N / self.sum_N).clamp_min(0.0)


@contextmanager
def matmul_precision(*, tf32: bool) -> Iterator[None]:
    """Float32 products in TF32 or in full, whatever the process chose for the rest of its work."""
    wanted, before = ("high" if tf32 else "highest"), torch.get_float32_matmul_precision()
    if before == wanted:
        yield
        return
    torch.set_float32_matmul_precision(wanted)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
