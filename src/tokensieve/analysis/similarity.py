"""Similarity of training rows: those whose prompts are nearest to a question, and self-BLEU of the answers."""

import hashlib
import heapq
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

from tokensieve.types import Tokens

ANSWERS: Final = 200
"""Answers of a training set that are compared with each other."""
_ORDERS: Final = (1, 2, 3, 4)
_WORD: Final = re.compile(r"\w+|[^\w\s]")


class NearestRows:
    """An index of texts. A term's weight is ``(1 + ln count) ln(texts / texts that hold it)``.

    A term that every text holds, such as what a chat template writes, weighs nothing.

    Args:
        texts: of the rows, in their order.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        counts = [_terms(text) for text in texts]
        held = Counter(term for own in counts for term in own)
        self._idf = {term: math.log(len(texts) / number) for term, number in held.items() if number < len(texts)}
        self._rows_of: dict[str, list[tuple[int, float]]] = {}
        for row, own in enumerate(counts):
            for term, weight in self._weights(own).items():
                self._rows_of.setdefault(term, []).append((row, weight))

    def nearest(self, text: str, count: int) -> list[tuple[int, float]]:
        """Places of the nearest texts and their cosine in (0, 1], the nearest first; only those that share a term."""
        cosine: dict[int, float] = {}
        for term, weight in self._weights(_terms(text)).items():
            for row, other in self._rows_of.get(term, ()):
                cosine[row] = cosine.get(row, 0.0) + weight * other
        return sorted(cosine.items(), key=lambda found: (-found[1], found[0]))[:count]

    def _weights(self, terms: Counter[str]) -> dict[str, float]:
        """Weights of a text's terms, of length 1 together."""
        raw = {term: (1 + math.log(n)) * self._idf[term] for term, n in terms.items() if term in self._idf}
        length = math.sqrt(sum(weight * weight for weight in raw.values()))
        return {term: weight / length for term, weight in raw.items()} if length else {}


def _terms(text: str) -> Counter[str]:
    words = _WORD.findall(text.lower())
    return Counter([*words, *(f"{first} {second}" for first, second in pairwise(words))])


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
