"""The training rows whose prompts are nearest to a question: cosine of TF-IDF weights over words and pairs of words."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Final

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
