"""Clusters of prompts, and where among them drift concentrates: shares of candidates and anchors, with examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from tokensieve.training.anchor_choice import Choice
from tokensieve.types import JSON, IntArray, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_CLUSTERS: Final = 8
_BUCKETS: Final = 1024
_ROUNDS: Final = 25
_TYPICAL: Final = 3
_SHOWN: Final = 240
"""Characters of an example."""


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


def concentration(
    candidates: Sequence[Tokens],
    drifts: Sequence[float],
    choices: Sequence[Choice],
    tokenizer: "PreTrainedTokenizerBase",
    seed: int,
) -> dict[str, JSON]:
    """Mean drift in nats per token, and by cluster of prompts, highest drift first, its candidates, anchors, examples.

    Args:
        candidates: rows to choose from.
        drifts: drift of each; NaN where it has none.
        choices: the chosen ones.
        tokenizer: writes the examples.
        seed: of the clusters.
    """
    prompts = [_prompt(row) for row in candidates]
    chosen = {choice.index for choice in choices}

    def shown(index: int) -> str:
        text = tokenizer.decode(prompts[index].tolist(), skip_special_tokens=True)
        return " ".join(text.split())[:_SHOWN]

    clusters: list[tuple[float, JSON]] = []
    for one in cluster(prompts, _CLUSTERS, seed):
        drift = _mean([drifts[index] for index in one.members])
        entry: dict[str, JSON] = {
            "candidates": len(one.members),
            "anchors": sum(index in chosen for index in one.members),
            "drift": drift,
            "examples": [shown(index) for index in one.typical],
        }
        clusters.append((drift or 0.0, entry))
    return {
        "candidates": len(candidates),
        "drift_of_candidates": _mean(drifts),
        "drift_of_anchors": _mean([drifts[choice.index] for choice in choices]),
        "anchors_at_random": sum(choice.at_random for choice in choices),
        "clusters": [entry for _, entry in sorted(clusters, key=lambda one: -one[0])],
    }


def _prompt(row: Tokens) -> IntArray:
    """Token ids before the first response token; the whole row where that is no more than a begin-of-text token."""
    start = int(np.argmax(row.in_response_T))
    return row.ids_T[:start] if start > 1 else row.ids_T


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else None
