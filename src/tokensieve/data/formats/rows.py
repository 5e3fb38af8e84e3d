"""One record as turns of a conversation, by the form of its data set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tokensieve.data.formats.fields import (
    Record,
    json_value,
    list_of_turns,
    required_text,
    response_text,
    row_id,
    text,
    wrong,
)
from tokensieve.data.formats.turns import (
    ROLES,
    SHAREGPT_ROLES,
    message_of,
    plain_turn,
    tool_call,
    tools_of,
    turns_or_text,
    with_system,
)
from tokensieve.errors import InputError
from tokensieve.types import JSON, IntArray, Message, Origin

_PAIRS: Final = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("input", "output"),
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A record in our words, before it is known to hold anything to learn."""

    messages: tuple[Message, ...]
    tools: tuple[JSON, ...] = ()
    id: str = ""
    task: str = ""
    origin: Origin = Origin.GROUND_TRUTH
    sampled_ids: IntArray | None = None


def renamed(record: Record, columns: Mapping[str, str], where: str) -> Record:
    """The record with the data set's own column names replaced by ours.

    Raises:
        InputError: a named column is not there.
    """
    if not columns:
        return record
    missing = [theirs for theirs in columns.values() if theirs not in record]
    if missing:
        raise InputError(f"no column {missing[0]!r}; there are: {', '.join(map(str, record)) or 'none'}", where=where)
    taken = set(columns.values())
    kept = {name: value for name, value in record.items() if name not in taken and name not in columns}
    return {**kept, **{ours: record[theirs] for ours, theirs in columns.items()}}


def recognise(record: Record, where: str = "data") -> str:
    """The form of a data set, told by the fields of its first row.

    Raises:
        InputError: the fields fit no form; lists them.
    """
    names = set(record)
    turns = record.get("messages", record.get("conversations", record.get("conversation")))
    if "messages" in names and names & {"origin", "sampled_ids"}:
        return "examples"
    if isinstance(turns, Sequence) and turns and isinstance(turns[0], Mapping):
        return "sharegpt" if "from" in turns[0] else "messages"
    if "messages" in names:
        return "messages"
    if "conversations" in names:
        return "sharegpt"
    if {"instruction", "output"} <= names:
        return "alpaca"
    if _pair(names):
        return "prompt_completion"
    raise InputError(
        f"the form of the rows is not recognised; their fields are: {', '.join(map(str, record)) or 'none'}",
        where=where,
        fix="name the columns, e.g. --columns.prompt question --columns.completion answer",
    )


def columns_of(record: Record, format: str, columns: Mapping[str, str]) -> Mapping[str, str]:  # noqa: A002
    """The column names that hold for a whole data set, told by its first row: the user's, else well-known pairs."""
    if format != "prompt_completion" or {"prompt", "completion"} & set(columns):
        return columns
    prompt, completion = _pair(set(record)) or ("prompt", "completion")
    named = {ours: theirs for ours, theirs in (("prompt", prompt), ("completion", completion)) if ours != theirs}
    return {**columns, **named}


def build(record: Record, format: str, where: str) -> Draft:  # noqa: A002 - the setting's name
    """The record's turns, under one of the forms of ``FORMATS``.

    Raises:
        InputError: a field is missing or of the wrong type, or the form is unknown.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}; there are: {', '.join(FORMATS)}", where=where)
    draft = FORMATS[format](record, where)
    return Draft(
        messages=draft.messages,
        tools=draft.tools or tools_of(record, where),
        id=row_id(record, where),
        task=draft.task,
        origin=draft.origin,
        sampled_ids=draft.sampled_ids,
    )


def _from_messages(record: Record, where: str) -> Draft:
    turns = list_of_turns(record, ("messages", "conversations", "conversation"), where)
    messages = [message_of(turn, "role", "content", ROLES, f"{where}, turn {i}") for i, turn in enumerate(turns, 1)]
    return Draft(with_system(record, messages, where))


def _from_sharegpt(record: Record, where: str) -> Draft:
    turns = list_of_turns(record, ("conversations", "conversation", "messages"), where)
    messages = []
    for i, turn in enumerate(turns, 1):
        place = f"{where}, turn {i}"
        message = message_of(turn, "from", "value", SHAREGPT_ROLES, place)
        if isinstance(turn, Mapping) and turn.get("from") == "function_call":
            call = json_value(message["content"] or "", place)
            calls = [tool_call(c, place) for c in (call if isinstance(call, list) else [call])]
            message = Message(role="assistant", content=None, tool_calls=calls)
        messages.append(message)
    return Draft(with_system(record, messages, where))


def _from_alpaca(record: Record, where: str) -> Draft:
    messages: list[Message] = []
    history = record.get("history") or []
    if not isinstance(history, Sequence) or isinstance(history, str):
        raise wrong("history", "a list of pairs", history, where)
    for pair in history:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise wrong("history", "a list of pairs", pair, where)
        messages += [
            plain_turn("user", text(pair[0], "history", where)),
            plain_turn("assistant", text(pair[1], "history", where)),
        ]
    instruction = required_text(record, "instruction", where)
    extra = text(record.get("input") or "", "input", where)
    messages.append(plain_turn("user", f"{instruction}\n{extra}" if extra.strip() else instruction))
    messages.append(plain_turn("assistant", response_text(record, "output", where)))
    return Draft(with_system(record, messages, where))


def _from_prompt_completion(record: Record, where: str) -> Draft:
    prompt = turns_or_text(record, "prompt", "user", where)
    completion = turns_or_text(record, "completion", "assistant", where)
    return Draft(with_system(record, [*prompt, *completion], where))


def _from_examples(record: Record, where: str) -> Draft:
    draft = _from_messages(record, where)
    origin = record.get("origin", Origin.GROUND_TRUTH)
    if origin not in list(Origin):
        raise InputError(f"origin is {origin!r}, expected one of {', '.join(Origin)}", where=where)
    ids = record.get("sampled_ids")
    if ids is not None and not (isinstance(ids, Sequence) and all(type(i) is int and 0 <= i < 2**31 for i in ids)):
        raise wrong("sampled_ids", "a list of token ids", ids, where)
    task = record.get("task")
    return Draft(
        messages=draft.messages,
        task=text(task, "task", where) if task is not None else "",
        origin=Origin(str(origin)),
        sampled_ids=None if ids is None else np.asarray(ids, dtype=np.int32),
    )


FORMATS: Final[Mapping[str, Callable[[Record, str], Draft]]] = {
    "messages": _from_messages,
    "sharegpt": _from_sharegpt,
    "alpaca": _from_alpaca,
    "prompt_completion": _from_prompt_completion,
    "examples": _from_examples,
}
"""The forms of rows that are read, by name."""


def _pair(names: set[str]) -> tuple[str, str] | None:
    return next((pair for pair in _PAIRS if set(pair) <= names), None)
