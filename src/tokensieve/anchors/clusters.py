"""Clusters of prompts, to say in words where drift concentrates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tokensieve.types import IntArray

_BUCKETS: Final = 1024
_ROUNDS: Final = 25
_TYPICAL: Final = 3


@dataclass(frozen=True, slots=True)
class Cluster:
    """Candidates whose prompts are alike.

    Attributes:
        members: places among the candidates, ascending.
        typical: up to three of them, those most like the others first.
    """

    members: tuple[int, ...]
    typical: tuple[int, ...]


def cluster(prompts: Sequence[IntArray], k: int, seed: int = 0) -> list[Cluster]:
    """Spherical k-means on token counts, weighted by inverse document frequency; token ids are hashed to 1,024 buckets.

    Args:
        prompts: token ids of each prompt.
        k: most clusters; empty ones are left out.
        seed: of the first centres (k-means++).

    Returns:
        Clusters, largest first; every prompt is in one.
    """
    if not len(prompts):
        return []
    vectors_ND = _tf_idf(prompts)
    rng = np.random.default_rng(seed)
    centres_KD = vectors_ND[_spread(vectors_ND, min(k, len(prompts)), rng)]
    nearest_N = np.zeros(len(prompts), dtype=np.int64)
    for _ in range(_ROUNDS):
        before_N, nearest_N = nearest_N, (vectors_ND @ centres_KD.T).argmax(1)
        sums_KD = np.zeros_like(centres_KD)
        np.add.at(sums_KD, nearest_N, vectors_ND)
        norms_K1 = np.linalg.norm(sums_KD, axis=1, keepdims=True)
        centres_KD = np.where(norms_K1 > 0, sums_KD / np.maximum(norms_K1, 1e-12), centres_KD)
        if np.array_equal(before_N, nearest_N):
            break
    found = []
    for one in range(len(centres_KD)):
        members = np.flatnonzero(nearest_N == one)
        if len(members):
            nearest_first = np.argsort(-(vectors_ND[members] @ centres_KD[one]), kind="stable")
            found.append(Cluster(tuple(members.tolist()), tuple(members[nearest_first[:_TYPICAL]].tolist())))
    return sorted(found, key=lambda one: (-len(one.members), one.members[0]))


def _tf_idf(prompts: Sequence[IntArray]) -> NDArray[np.float64]:
    """Unit vectors of log token counts times inverse document frequency, [N, 1024]."""
    counts_ND = np.stack([np.bincount(ids_T % _BUCKETS, minlength=_BUCKETS) for ids_T in prompts]).astype(np.float64)
    frequency_D = (counts_ND > 0).mean(0)
    # The small addend keeps a prompt's vector from vanishing where all its tokens are in every prompt.
    rarity_D = np.maximum(np.log(1.0 / np.maximum(frequency_D, 1.0 / len(prompts))), 0.0) + 1e-3
    vectors_ND: NDArray[np.float64] = np.log1p(counts_ND) * rarity_D
    vectors_ND /= np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)
    return vectors_ND


def _spread(vectors_ND: NDArray[np.float64], k: int, rng: np.random.Generator) -> list[int]:
    """First centres far from each other (k-means++)."""
    chosen = [int(rng.integers(len(vectors_ND)))]
    distance_N = 1.0 - vectors_ND @ vectors_ND[chosen[0]]
    while len(chosen) < k and distance_N.max() > 1e-9:
        weight_N = np.maximum(distance_N, 0.0)
        chosen.append(int(rng.choice(len(vectors_ND), p=weight_N / weight_N.sum())))
        distance_N = np.minimum(distance_N, 1.0 - vectors_ND @ vectors_ND[chosen[-1]])
    return chosen
