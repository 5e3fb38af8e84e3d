"""Online softmax over tiles of the vocabulary: log-sum-exp, entropy, rank and top-k entropy.

Nothing here waits for the device: no value of a tensor decides what is done next, but for top-k entropies on a CPU.
"""

import logging
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

import torch

from tokensieve.scoring.backend import Measures
from tokensieve.scoring.decoder_layers import in_one_line, is_of_compiler

_log = logging.getLogger(__name__)

_LOG2_E: Final = 1.4426950408889634
_LN_2: Final = 0.6931471805599453

LOWEST_LOGIT: Final = -1e30
"""In place of -inf, as models give to the padding of their vocabulary: -inf minus itself, and times 0, is no number."""


_IMPOSSIBLE: Final = -1e20
"""No logit of a model is below this but those, whatever scale came after."""


class Sums(NamedTuple):
    """Sums over the tiles so far, float32 [N] each.

    Attributes:
        own_N: logits of the targets, as they stood in the tiles.
        reference_N: largest logit, or the guess of the target's; what the sums are relative to.
        sum_N: sum of ``2 ** power``, where a logit's power is its distance to the reference in powers of two.
        weighted_N: sum of ``power * 2 ** power``; None where no entropy is requested.
        rank_N: number of logits above the guess; None where not requested.
    """

    own_N: torch.Tensor
    reference_N: torch.Tensor
    sum_N: torch.Tensor
    weighted_N: torch.Tensor | None
    rank_N: torch.Tensor | None


TileStep: TypeAlias = Callable[[Sums, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], Sums]
"""Adds a tile: sums, guess [N], target's column in the tile [N], logits [N, V], working memory [N, V]."""


def add_in_place(
    sums: Sums, guess_N: torch.Tensor, column_N: torch.Tensor, logits_NV: torch.Tensor, work_NV: torch.Tensor
) -> Sums:
    """Add a tile operation by operation; the memory of ``logits_NV`` and ``work_NV`` is overwritten.

    Fresh memory for every intermediate costs more than computing it.
    """
    own_N = _own_N(sums.own_N, column_N, logits_NV)
    rank_N = sums.rank_N
    if rank_N is not None:
        # Compared into floats: summing booleans is ten times slower on a CPU.
        rank_N = rank_N + torch.gt(logits_NV, guess_N[:, None], out=work_NV).sum(1)
    reference_N = torch.maximum(sums.reference_N, logits_NV.amax(1))
    sum_N, weighted_N = _moved(sums, reference_N)
    torch.add(_shift_N(reference_N)[:, None], logits_NV, alpha=_LOG2_E, out=logits_NV)
    torch.exp2(logits_NV, out=work_NV)
    sum_N = sum_N + work_NV.sum(1)
    if weighted_N is not None:
        weighted_N = weighted_N + logits_NV.mul_(work_NV).sum(1)
    return Sums(own_N, reference_N, sum_N, weighted_N, rank_N)


def add_functional(
    sums: Sums, guess_N: torch.Tensor, column_N: torch.Tensor, logits_NV: torch.Tensor, _: torch.Tensor
) -> Sums:
    """Add a tile without writing into it: for a compiler, which makes two passes over the tile of it."""
    own_N = _own_N(sums.own_N, column_N, logits_NV)
    rank_N = None if sums.rank_N is None else sums.rank_N + (logits_NV > guess_N[:, None]).float().sum(1)
    reference_N = torch.maximum(sums.reference_N, logits_NV.amax(1))
    sum_N, weighted_N = _moved(sums, reference_N)
    power_NV = torch.add(_shift_N(reference_N)[:, None], logits_NV, alpha=_LOG2_E)
    weight_NV = torch.exp2(power_NV)
    sum_N = sum_N + weight_NV.sum(1)
    if weighted_N is not None:
        weighted_N = weighted_N + (power_NV * weight_NV).sum(1)
    return Sums(own_N, reference_N, sum_N, weighted_N, rank_N)


class CompiledStep:
    """Adds a tile of logits to the sums of an LM head, compiled: two passes over the tile in place of a dozen."""

    def __init__(self) -> None:
        self._step: TileStep = torch.compile(add_functional, dynamic=True, fullgraph=True)
        self.problem: str | None = None

    def __call__(self, sums: Sums, *tile: torch.Tensor) -> Sums:
        """As ``add_in_place``, which runs, with a line in the log, where this cannot be compiled."""
        if self.problem is None:
            try:
                return self._step(sums, *tile)
            except Exception as error:
                if not is_of_compiler(error):
                    raise
                self.problem = in_one_line(error)
                _log.warning("the LM head's sums run without torch.compile: %s", self.problem)
        return add_in_place(sums, *tile)


def _own_N(own_N: torch.Tensor, column_N: torch.Tensor, logits_NV: torch.Tensor) -> torch.Tensor:
    """The targets' logits, with those that lie in this tile."""
    nearest_N = column_N.clamp(0, logits_NV.shape[1] - 1)
    return torch.where(nearest_N == column_N, logits_NV.gather(1, nearest_N[:, None])[:, 0], own_N)


def _shift_N(reference_N: torch.Tensor) -> torch.Tensor:
    return reference_N * -_LOG2_E


def _moved(sums: Sums, reference_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """``sum_N`` and ``weighted_N`` relative to a new reference."""
    moved_N = _shift_N(reference_N) - _shift_N(sums.reference_N)
    shrink_N = moved_N.exp2()
    weighted_N = None if sums.weighted_N is None else shrink_N * (sums.weighted_N + sums.sum_N * moved_N)
    return shrink_N * sums.sum_N, weighted_N


class OnlineSoftmax:
    """Running sums of N positions that are measured together.

    The sums are of an online softmax (Milakov and Gimelshein 2018) in powers of two: shifting and changing the base
    are one pass over a tile, and ``exp2`` is three times as fast as ``exp`` on a CPU.

    Args:
        targets_N: target id of each position, int64; a target of ``LOWEST_LOGIT`` has an NLL of infinity.
        guess_N: logits of the targets, equal to those in the tiles but for rounding.
        width: vocabulary entries in a tile.
        vocabulary: size of the vocabulary.
        measures: beside the NLL.
        step: adds a tile to the sums.
    """

    def __init__(
        self,
        targets_N: torch.Tensor,
        guess_N: torch.Tensor,
        width: int,
        vocabulary: int,
        measures: Measures,
        step: TileStep = add_in_place,
    ) -> None:
        self._targets_N = targets_N
        self._guess_N = guess_N
        self._width = width
        self._step = step
        zero_N = torch.zeros_like(guess_N)
        self._sums = Sums(
            own_N=zero_N,
            reference_N=guess_N.clamp_min(_IMPOSSIBLE),  # above every impossible logit: those add nothing
            sum_N=zero_N,
            weighted_N=zero_N if measures.entropy else None,
            rank_N=zero_N if measures.rank else None,
        )
        top_k = measures.top_k and min(measures.top_k, vocabulary)
        self._top_NK = guess_N.new_full((len(guess_N), top_k), -torch.inf) if top_k else None

    def add(self, tile: int, logits_NV: torch.Tensor, work_NV: torch.Tensor) -> None:
        """Add a tile of logits; its memory and that of ``work_NV`` are overwritten."""
        if self._top_NK is not None:
            merge = _merge_changed if logits_NV.device.type == "cpu" else _merge_all
            self._top_NK = merge(self._top_NK, logits_NV)
        column_N = self._targets_N - tile * self._width
        self._sums = self._step(self._sums, self._guess_N, column_N, logits_NV, work_NV)

    def nll_N(self) -> torch.Tensor:
        """NLL in nats; once all tiles are in."""
        log_sum_N = _exact(self._sums.sum_N).log2() - _exact(_shift_N(self._sums.reference_N))
        own_N = self._sums.own_N
        nll_N = (_LN_2 * log_sum_N - _exact(own_N)).clamp_min(0.0).float()
        return nll_N.masked_fill(own_N <= _IMPOSSIBLE, torch.inf)

    def entropy_N(self) -> torch.Tensor | None:
        """Entropy in nats; None where not requested."""
        if self._sums.weighted_N is None:
            return None
        sum_N = _exact(self._sums.sum_N)
        return (_LN_2 * (sum_N.log2() - _exact(self._sums.weighted_N) / sum_N)).clamp_min(0.0).float()

    def rank_N(self) -> torch.Tensor | None:
        """Number of more likely entries; None where not requested."""
        if self._sums.rank_N is None:
            return None
        # The guess is the same number as the token's own logit but for rounding: a token must not outrank itself.
        return self._sums.rank_N - (self._sums.own_N > self._guess_N).float()

    def top_entropy_N(self) -> torch.Tensor | None:
        """Entropy in nats of the K most likely entries; None where not requested."""
        return None if self._top_NK is None else entropy_of(self._top_NK)


def entropy_of(logits_NV: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of each row's softmax."""
    log_p_NV = logits_NV.log_softmax(1)
    return -(log_p_NV.exp() * log_p_NV).nan_to_num(0.0).sum(1)


def _exact(values_N: torch.Tensor) -> torch.Tensor:
    """In float64, so that the difference of two large numbers keeps its digits; MPS has none, there on the CPU."""
    return (values_N.cpu() if values_N.device.type == "mps" else values_N).double()


def _merge_changed(top_NK: torch.Tensor, logits_NV: torch.Tensor) -> torch.Tensor:
    """Merge a tile's top-k logits into the sorted top-k so far, where they change it: after some tiles few do."""
    changed_M = (logits_NV.amax(1) > top_NK[:, -1]).nonzero()[:, 0]
    if len(changed_M):
        top_NK = top_NK.index_copy(0, changed_M, _merge_all(top_NK[changed_M], logits_NV[changed_M]))
    return top_NK


def _merge_all(top_NK: torch.Tensor, logits_NV: torch.Tensor) -> torch.Tensor:
    """Merge a tile's top-k logits into the sorted top-k so far, of all positions: without asking which change."""
    top_k = top_NK.shape[1]
    found_NK = logits_NV.topk(min(top_k, logits_NV.shape[1]), dim=1).values
    return torch.cat([top_NK, found_NK], 1).topk(top_k, dim=1).values
