"""Online softmax over tiles of the vocabulary: log-sum-exp, entropy, rank and top-k entropy."""

from typing import Final

import torch

from tokensieve.scoring.backend import Measures

_LOG2_E: Final = 1.4426950408889634
_LN_2: Final = 0.6931471805599453

_SLACK: Final = 8.0
"""Nats by which a logit may exceed the reference before the sums are moved to a new one: moving costs a pass over
small arrays, and a sum far from its reference loses digits."""


class OnlineSoftmax:
    """Running sums of N positions that are measured together.

    The sums are of an online softmax (Milakov and Gimelshein 2018) in powers of two: shifting and changing the base
    are one pass over a tile, and ``exp2`` is three times as fast as ``exp`` on a CPU.

    Args:
        targets_N: target id of each position, int64.
        guess_N: logits of the targets, equal to those in the tiles but for rounding.
        width: vocabulary entries in a tile.
        vocabulary: size of the vocabulary.
        measures: beside the NLL.
    """

    def __init__(
        self, targets_N: torch.Tensor, guess_N: torch.Tensor, width: int, vocabulary: int, measures: Measures
    ) -> None:
        self._guess_N1 = guess_N[:, None]
        counts = torch.bincount(targets_N // width, minlength=-(-vocabulary // width)).tolist()
        self._order_N = targets_N.argsort()
        self._rows = torch.split(self._order_N, counts)  # by tile, the positions whose targets lie in it, and where
        self._columns = torch.split((targets_N % width)[self._order_N], counts)
        self._own: list[torch.Tensor] = []
        self._reference_N1 = guess_N[:, None].clone()
        self._shift_N1 = self._reference_N1 * -_LOG2_E
        self._sum_N = torch.zeros_like(guess_N)
        self._weighted_N = torch.zeros_like(guess_N) if measures.entropy else None
        self._rank_N = torch.zeros_like(guess_N) if measures.rank else None
        top_k = measures.top_k and min(measures.top_k, vocabulary)
        self._top_NK = guess_N.new_full((len(guess_N), top_k), -torch.inf) if top_k else None

    def add(self, tile: int, logits_NV: torch.Tensor, work_NV: torch.Tensor) -> None:
        """Add a tile of logits; its memory and that of ``work_NV`` are overwritten."""
        self._own.append(logits_NV[self._rows[tile], self._columns[tile]])
        if self._rank_N is not None:
            # Compared into floats: summing booleans is ten times slower on a CPU.
            self._rank_N += torch.gt(logits_NV, self._guess_N1, out=work_NV).sum(1)
        largest_N1 = logits_NV.amax(1, keepdim=True)
        if self._top_NK is not None:
            _merge_top_k(self._top_NK, logits_NV, largest_N1[:, 0])
        if bool((largest_N1 > self._reference_N1 + _SLACK).any()):
            self._move(torch.maximum(largest_N1, self._reference_N1))
        torch.add(self._shift_N1, logits_NV, alpha=_LOG2_E, out=logits_NV)
        torch.exp2(logits_NV, out=work_NV)
        self._sum_N += work_NV.sum(1)
        if self._weighted_N is not None:
            weighted_N = logits_NV.mul_(work_NV).sum(1)
            if bool(weighted_N.isnan().any()):  # a logit of -inf, as models give to padding of the vocabulary
                weighted_N = logits_NV.nan_to_num_(0.0, torch.inf, -torch.inf).sum(1)
            self._weighted_N += weighted_N

    def _move(self, reference_N1: torch.Tensor) -> None:
        """Express the sums relative to new references."""
        shift_N1 = reference_N1 * -_LOG2_E
        moved_N = (shift_N1 - self._shift_N1)[:, 0]
        shrink_N = moved_N.exp2()
        if self._weighted_N is not None:
            self._weighted_N = shrink_N * (self._weighted_N + self._sum_N * moved_N)
        self._sum_N = shrink_N * self._sum_N
        self._reference_N1, self._shift_N1 = reference_N1, shift_N1

    def _own_N(self) -> torch.Tensor:
        """The targets' logits as they stood in the tiles."""
        own_N = torch.empty_like(self._sum_N)
        own_N[self._order_N] = torch.cat(self._own)
        return own_N

    def nll_N(self) -> torch.Tensor:
        """NLL in nats, on the CPU; once all tiles are in."""
        log_sum_N = _exact(self._sum_N).log2() - _exact(self._shift_N1[:, 0])
        return (_LN_2 * log_sum_N - _exact(self._own_N())).clamp_min(0.0).float()

    def entropy_N(self) -> torch.Tensor | None:
        """Entropy in nats, on the CPU; None where not requested."""
        if self._weighted_N is None:
            return None
        sum_N = _exact(self._sum_N)
        return (_LN_2 * (sum_N.log2() - _exact(self._weighted_N) / sum_N)).clamp_min(0.0).float()

    def rank_N(self) -> torch.Tensor | None:
        """Number of more likely entries; None where not requested."""
        if self._rank_N is None:
            return None
        # The guess is the same number as the token's own logit but for rounding: a token must not outrank itself.
        return self._rank_N - (self._own_N() > self._guess_N1[:, 0]).float()

    def top_entropy_N(self) -> torch.Tensor | None:
        """Entropy in nats of the K most likely entries; None where not requested."""
        return None if self._top_NK is None else entropy_of(self._top_NK)


def entropy_of(logits_NV: torch.Tensor) -> torch.Tensor:
    """Entropy in nats of each row's softmax."""
    log_p_NV = logits_NV.log_softmax(1)
    return -(log_p_NV.exp() * log_p_NV).nan_to_num(0.0).sum(1)


def _exact(values_N: torch.Tensor) -> torch.Tensor:
    """In float64, so that the difference of two large numbers keeps its digits; on the CPU, since MPS has none."""
    return values_N.cpu().double()


def _merge_top_k(top_NK: torch.Tensor, logits_NV: torch.Tensor, largest_N: torch.Tensor) -> None:
    """Merge a tile's top-k logits into the sorted top-k so far; after some tiles few positions change."""
    changed_M = (largest_N > top_NK[:, -1]).nonzero()[:, 0]
    if len(changed_M):
        top_k = top_NK.shape[1]
        found_MK = logits_NV[changed_M].topk(min(top_k, logits_NV.shape[1]), dim=1).values
        top_NK[changed_M] = torch.cat([top_NK[changed_M], found_MK], 1).topk(top_k, dim=1).values
