"""Rows of ids and labels as other tools write them, made of a tiny model's conversations, and an audit's findings."""

from collections.abc import Callable
from typing import TypeAlias, cast

import numpy as np

from tokensieve.config import InspectSettings
from tokensieve.inspection import MaskAudit, inspect_data
from tokensieve.models import LoadedModel
from tokensieve.types import Example, Message, Tokens

Record: TypeAlias = dict[str, list[int]]
Change: TypeAlias = Callable[[Record], Record]

BEGIN, END, PAD = 0, 2, 3
IGNORED = -100


def tokens_of(model: LoadedModel, name: str, *turns: str) -> Tokens:
    """A conversation of user and assistant in turns."""
    roles = ("user", "assistant")
    messages = tuple(Message(role=roles[i % 2], content=text) for i, text in enumerate(turns))
    return model.chat.tokenise(Example(name, messages))


def record_of(tokens: Tokens) -> Record:
    labels = np.where(tokens.in_response_T, tokens.ids_T, IGNORED)
    return {"input_ids": tokens.ids_T.tolist(), "labels": labels.tolist()}


def conversations(model: LoadedModel, n: int = 4) -> list[Record]:
    return [record_of(tokens_of(model, f"{i}", f"sum {i}?", f"it is {i}", "sure?", f"yes {i}")) for i in range(n)]


def places(record: Record) -> list[int]:
    """Places of the labels."""
    return [t for t, label in enumerate(record["labels"]) if label != IGNORED]


def audited(records: object, model: LoadedModel, **settings: object) -> MaskAudit:
    found = inspect_data(cast("list[Record]", records), model, InspectSettings.model_validate(settings))
    assert isinstance(found, MaskAudit)
    return found


def faults(found: MaskAudit, verdict: str = "fault") -> dict[str, tuple[int, tuple[str, ...]]]:
    return {check.name: (check.found, check.rows) for check in found.checks if check.verdict == verdict}


def labelled(record: Record, *at: int) -> Record:
    labels = [record["input_ids"][t] if t in at else label for t, label in enumerate(record["labels"])]
    return {**record, "labels": labels}


def unlabelled(record: Record, *at: int) -> Record:
    labels = [IGNORED if t in at else label for t, label in enumerate(record["labels"])]
    return {**record, "labels": labels}


def stops(record: Record) -> list[int]:
    return [t for t in places(record) if record["input_ids"][t] == END]


def shift(record: Record, by: int = 1) -> Record:
    """The row with labels to the left by one, as trainers that do not shift take them; nothing is cut off."""
    labels = record["labels"]
    moved = labels[by:] + [IGNORED] * by if by > 0 else [IGNORED] * -by + labels[:by]
    return {**record, "labels": moved}
