"""Seeded drawing shared by pocket's generators, and the rule that keeps its splits apart."""

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
    """One generated problem before it belongs to a task.

    Attributes:
        key: what two problems must not share across splits; the prompt, or the composition behind it.
        prompt: the user's turn.
        gold: the reference response in the model's own style.
        facts: what the checker needs, where that is known at once.
        finish: makes the rest of the facts for a draft that was chosen, or None where it cannot be judged well;
            kept apart because most drafts belong to another split and running them costs time.
    """

    key: str
    prompt: str
    gold: str
    facts: Mapping[str, JSON] = field(default_factory=dict)
    finish: Callable[[Random], Mapping[str, JSON] | None] | None = None


def seeded(*names: str | int) -> Random:
    """A generator of its own for these names; a text seed is digested, so every process and version draws the same."""
    return Random("/".join(str(name) for name in names))  # noqa: S311 - not for secrets


def part_of(key: str) -> Part:
    """The part a key belongs to, by its digest alone: no list of what is taken is needed to keep splits disjoint."""
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
