"""Seeded random streams, weighted draws, and the assignment of a problem to a split by the digest of its key."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Literal, TypeVar

from tokensieve.types import JSON

Part = Literal["train", "validation", "test", "pretraining"]
SPLITS: tuple[Part, ...] = ("train", "validation", "test")

_T = TypeVar("_T")

# Upper ends of the parts in the first byte of a key's digest: about 16, 7 and 11 % of the keys are never pretrained on.
_TRAIN_END, _VALIDATION_END, _TEST_END = 40, 58, 86


@dataclass(frozen=True, slots=True)
class Draft:
    """A generated problem before it is assigned to a split.

    Attributes:
        key: text that no two problems may share across splits: the prompt, or the composition behind it.
        prompt: the user's turn.
        gold: the reference response in the model's own style.
        facts: what the checker needs, where that is known at once.
        finish: returns the rest of the facts of a draft that is kept, or None where it cannot be judged well;
            kept apart because most drafts belong to another split and running them costs time.
    """

    key: str
    prompt: str
    gold: str
    facts: Mapping[str, JSON] = field(default_factory=dict)
    finish: Callable[[Random], Mapping[str, JSON] | None] | None = None


def seeded(*names: str | int) -> Random:
    """A random stream for these names; a text seed is hashed, so that every process and version draws the same."""
    return Random("/".join(str(name) for name in names))  # noqa: S311 - not for secrets


def part_of(key: str) -> Part:
    """The split of a key by its digest alone, so that splits are disjoint without a list of keys in use."""
    byte = hashlib.sha256(key.encode()).digest()[0]
    if byte < _TRAIN_END:
        return "train"
    if byte < _VALIDATION_END:
        return "validation"
    return "test" if byte < _TEST_END else "pretraining"


def weighted(rng: Random, table: Mapping[_T, float]) -> _T:
    """One key of the table, drawn by its weight."""
    at = rng.random() * sum(table.values())
    for value, weight in table.items():
        at -= weight
        if at < 0:
            return value
    return list(table)[-1]


def split_words(text: str) -> tuple[str, ...]:
    """The words of a text; for tables of words in the source."""
    return tuple(text.split())


def joined(items: Sequence[str], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {last} {items[-1]}"
