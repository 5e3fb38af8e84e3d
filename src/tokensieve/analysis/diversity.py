"""Diversity of a training set's answers: self-BLEU over their token ids."""

import hashlib
import heapq
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from tokensieve.types import Tokens

ANSWERS: Final = 200
"""Answers of a training set that are compared with each other."""
_ORDERS: Final = (1, 2, 3, 4)


def self_bleu(answers: Sequence[Sequence[int]]) -> float | None:
    """Mean BLEU-4 of each answer against all others, in [0, 1]; 1 where every answer has an equal one.

    BLEU as in Papineni et al. 2002, without smoothing: modified precisions of 1 to 4 tokens, their geometric mean, and
    the brevity penalty by the reference of the nearest length. Self-BLEU: Zhu et al. 2018 (Texygen). None for fewer
    than two answers of at least four tokens; shorter ones have no 4-gram and are left out.

    Args:
        answers: token ids of each.
    """
    kept = [tuple(answer) for answer in answers if len(answer) >= _ORDERS[-1]]
    if len(kept) < 2:
        return None
    counts = [[_grams(answer, order) for answer in kept] for order in _ORDERS]
    best = [_two_largest(per_answer) for per_answer in counts]
    lengths = [len(answer) for answer in kept]
    values = []
    for place, answer in enumerate(kept):
        logs = 0.0
        for order, per_answer, top in zip(_ORDERS, counts, best, strict=True):
            own = per_answer[place]
            # The largest count among the others is the second largest of all where this answer has the largest.
            matched = sum(min(n, top[gram][1] if n == top[gram][0] else top[gram][0]) for gram, n in own.items())
            logs += math.log(matched / (len(answer) - order + 1)) / len(_ORDERS) if matched else -math.inf
        values.append(math.exp(logs) * _brevity(len(answer), lengths[:place] + lengths[place + 1 :]))
    return sum(values) / len(values)


def diversity(rows: Iterable[Tokens], limit: int = ANSWERS) -> float | None:
    """Self-BLEU of the responses of a training set, of at most ``limit`` rows drawn by their ids."""
    drawn = heapq.nsmallest(limit, rows, key=lambda row: hashlib.sha256(row.id.encode()).digest())
    return self_bleu([row.ids_T[row.in_response_T].tolist() for row in drawn])


def _grams(answer: Sequence[int], order: int) -> Counter[tuple[int, ...]]:
    return Counter(tuple(answer[start : start + order]) for start in range(len(answer) - order + 1))


def _two_largest(per_answer: Iterable[Counter[tuple[int, ...]]]) -> dict[tuple[int, ...], tuple[int, int]]:
    """The two largest counts of every n-gram over all answers."""
    found: dict[tuple[int, ...], tuple[int, int]] = {}
    for counter in per_answer:
        for gram, count in counter.items():
            first, second = found.get(gram, (0, 0))
            found[gram] = (count, first) if count > first else (first, max(second, count))
    return found


def _brevity(length: int, references: Sequence[int]) -> float:
    """Brevity penalty by the reference whose length is nearest, the shorter one of two."""
    nearest = min(references, key=lambda other: (abs(other - length), other))
    return 1.0 if length > nearest else math.exp(1 - nearest / length)
