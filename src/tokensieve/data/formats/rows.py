"""One record as turns of a conversation, by the form of its data set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from tokensieve.data.formats.columns import LABELS, MORE_OF_THE_PROMPT, ROW_FLAGS, ROW_WEIGHTS, preference_error
from tokensieve.data.formats.fields import (
    Fields,
    as_list,
    flag,
    list_of_turns,
    number,
    optional_text,
    required_text,
    response_text,
    row_id,
    switch,
    text,
    wrong,
)
from tokensieve.data.formats.turns import (
    OPENAI,
    SHAREGPT,
    Spelling,
    is_turns,
    message_of,
    tools_of,
    weight_of,
)
from tokensieve.errors import InputError
from tokensieve.types import JSON, IntArray, Message, Origin

_OF_TURNS_ONLY: Final = (*ROW_FLAGS, *ROW_WEIGHTS, "loss_mask")
"""Fields of a row in which a list can only say which of its turns are trained."""

_SYSTEM: Final = ("system", "system_prompt", "system_message")


@dataclass(frozen=True, slots=True)
class Draft:
    """A record in our words, before it is known to hold anything to learn.

    Attributes:
        messages: the turns.
        tools: definitions of tools.
        id: the row's own id; empty where it has none.
        task: the task it belongs to.
        origin: who wrote the response.
        sampled_ids: token ids of the last response, where they are known.
        left_out: why the row is not to be trained; empty where it is.
    """

    messages: tuple[Message, ...]
    tools: tuple[JSON, ...] = ()
    id: str = ""
    task: str = ""
    origin: Origin = Origin.GROUND_TRUTH
    sampled_ids: IntArray | None = None
    left_out: str = ""


def build(record: Fields, format: str, where: str) -> Draft:  # noqa: A002 - the setting's name
    """The record's turns, under one of the forms of ``FORMATS``.

    Raises:
        InputError: a field is missing or of the wrong type, or the form is unknown.
    """
    if format not in FORMATS:
        raise InputError(f"unknown format {format!r}; there are: {', '.join(FORMATS)}", where=where)
    draft = FORMATS[format](record, where)
    ends_open = not draft.messages or draft.messages[-1]["role"] != "assistant"
    if ends_open and "chosen" in record and "rejected" in record:
        raise preference_error(record, where)
    return replace(
        draft,
        messages=_weighted(record, draft.messages, where),
        tools=draft.tools or tools_of(record, where),
        id=row_id(record, where),
        left_out=_left_out(record),
    )


def _left_out(record: Fields) -> str:
    """The reason to drop a row that is marked as not trained; empty where it is trained."""
    # A label of 0 or 1 may be a class, so only true and false are KTO's.
    for names, read, meaning in (
        (LABELS, flag, "an answer as it should not be"),
        (ROW_FLAGS, switch, "marked as not trained"),
    ):
        for name in names:
            if read(record.peek(name)) is not None and not read(record[name]):
                return f"{name} is false: {meaning}"
    return ""


def _weighted(record: Fields, messages: tuple[Message, ...], where: str) -> tuple[Message, ...]:
    """The turns with the row's own loss weight on the assistant's, 0 on the earlier ones under a masked history."""
    for name in _OF_TURNS_ONLY:
        if record.holds(name) and as_list(record.peek(name)) is not None:
            raise InputError(
                f"the row's {name} is a list; what of a row is trained is read in its turns",
                where=where,
                fix=f'write weight: 0 into each turn that is not to be trained, or --columns.{name} "" to ignore it',
            )
    factors = [
        weight_of(number(record[name]), name, where)
        for name in ROW_WEIGHTS
        if (value := number(record.peek(name))) is not None and 0 <= value <= 1
    ]
    masks_history = switch(stated := record.get("mask_history"))
    if masks_history is None and record.holds("mask_history"):
        raise wrong("mask_history", "true or false", stated, where)
    if not factors and not masks_history:
        return messages
    last = max((i for i, message in enumerate(messages) if message["role"] == "assistant"), default=-1)
    weighted = []
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            factor = 0.0 if masks_history and i < last else float(np.prod(factors))
            message = {**message, "weight": message.get("weight", 1.0) * factor}
        weighted.append(message)
    return tuple(weighted)


def _from_messages(record: Fields, where: str) -> Draft:
    turns = list_of_turns(record, ("messages", "conversations", "conversation"), where)
    return _from_turns(record, turns, OPENAI, where)


def _from_sharegpt(record: Fields, where: str) -> Draft:
    turns = list_of_turns(record, ("conversations", "conversation", "messages"), where)
    return _from_turns(record, turns, SHAREGPT, where)


def _from_turns(record: Fields, turns: Sequence[object], spelling: Spelling, where: str) -> Draft:
    messages = [message_of(turn, record, spelling, f"{where}, turn {i}") for i, turn in enumerate(turns, 1)]
    return Draft(_with_system(record, messages, where))


def _from_alpaca(record: Fields, where: str) -> Draft:
    messages = _history(record, where)
    instruction = _with_more(record, required_text(record, "instruction", where), where)
    messages.append(Message(role="user", content=instruction))
    messages.append(Message(role="assistant", content=response_text(record, "output", where)))
    return Draft(_with_system(record, messages, where))


def _from_prompt_completion(record: Fields, where: str) -> Draft:
    prompt = _turns_or_text(record, "prompt", "user", where, decode=True)
    is_text = isinstance(record.peek("prompt"), str) and not is_turns(as_list(record.peek("prompt")))
    completion = _turns_or_text(record, "completion", "assistant", where, decode=not is_text)
    if is_text:
        prompt[0]["content"] = _with_more(record, prompt[0]["content"] or "", where)
    if prompt and completion and completion[0]["role"] in ("system", "user") and _same(completion[0], prompt[0]):
        raise InputError(
            "the completion repeats the prompt", where=where, fix="--columns.messages with the completion's column"
        )
    context = [_not_trained(message, record) for message in prompt]
    return Draft(_with_system(record, [*_history(record, where), *context, *completion], where))


def _from_examples(record: Fields, where: str) -> Draft:
    draft = _from_messages(record, where)
    origin = record.get("origin", Origin.GROUND_TRUTH)
    if origin not in list(Origin):
        raise InputError(f"origin is {origin!r}, expected one of {', '.join(Origin)}", where=where)
    ids = record.get("sampled_ids")
    if ids is not None:
        listed = as_list(ids)
        if listed is None or not all(type(i) is int and 0 <= i < 2**31 for i in listed):
            raise wrong("sampled_ids", "a list of token ids", ids, where)
        ids = listed
    task = record.get("task")
    return Draft(
        messages=draft.messages,
        task=text(task, "task", where) if task is not None else "",
        origin=Origin(str(origin)),
        sampled_ids=None if ids is None else np.asarray(ids, dtype=np.int32),
    )


FORMATS: Final[Mapping[str, Callable[[Fields, str], Draft]]] = {
    "messages": _from_messages,
    "sharegpt": _from_sharegpt,
    "alpaca": _from_alpaca,
    "prompt_completion": _from_prompt_completion,
    "examples": _from_examples,
}
"""The forms of rows that are read, by name."""


def _history(record: Fields, where: str) -> list[Message]:
    """Alpaca's earlier exchanges, pairs of a user's text and the answer to it."""
    history = record.get("history")
    pairs = as_list(history or [])
    if pairs is None:
        raise wrong("history", "a list of pairs", history, where)
    messages = []
    for pair in pairs:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise wrong("history", "a list of pairs", pair, where)
        for role, said in zip(("user", "assistant"), pair, strict=True):
            messages.append(Message(role=role, content=text(said, "history", where)))
    return messages


def _with_more(record: Fields, prompt: str, where: str) -> str:
    """The prompt with the text of the row's other prompt fields, each on lines of its own."""
    more = (optional_text(record, name, where) for name in MORE_OF_THE_PROMPT)
    return "\n".join([prompt, *(text for text in more if text)])


def _not_trained(message: Message, record: Fields) -> Message:
    """A turn of the prompt: the completion alone is trained, as in TRL."""
    if message["role"] != "assistant":
        return message
    if message.get("weight"):
        record.notes.add("assistant turn of the prompt marked to be trained; only the completion is")
    else:
        record.notes.add("assistant turn of the prompt, not trained")
    return {**message, "weight": 0.0}


def _same(one: Message, other: Message) -> bool:
    return (one["role"], one["content"]) == (other["role"], other["content"])


def _turns_or_text(record: Fields, name: str, role: str, where: str, *, decode: bool) -> list[Message]:
    """A field that holds turns, one turn, or the text of one turn of the given role.

    Args:
        record: the row.
        name: the field.
        role: the role of a text.
        where: the row's place, for errors.
        decode: read a text that is a list of turns in JSON as turns.

    Raises:
        InputError: it is none of these.
    """
    value = record.get(name)
    if isinstance(value, Mapping):
        value = [value]
    if decode and isinstance(value, str) and is_turns(turns := as_list(value)):
        value = turns
    if isinstance(value, Sequence) and not isinstance(value, str):
        place = f"{where}, {name}"
        return [message_of(turn, record, _spelling_of(turn), place) for turn in value]
    read = response_text if role == "assistant" else required_text
    return [Message(role=role, content=read(record, name, where))]


def _spelling_of(turn: object) -> Spelling:
    return SHAREGPT if isinstance(turn, Mapping) and "from" in turn and "role" not in turn else OPENAI


def _with_system(record: Fields, messages: list[Message], where: str) -> tuple[Message, ...]:
    """The turns behind the row's own system prompt, where it has that field under one of its known names.

    Raises:
        InputError: it is no text, there are two, or the turns begin with another system prompt.
    """
    stated = {name: said for name in _SYSTEM if (said := optional_text(record, name, where))}
    if not stated:
        return tuple(messages)
    if len(set(stated.values())) > 1:
        raise InputError(f"the row has two system prompts: {', '.join(stated)}", where=where)
    (name, said), *_ = stated.items()
    if messages and messages[0]["role"] == "system":
        if messages[0]["content"] == said:
            return tuple(messages)
        raise InputError(f"the row has a {name} field and a system turn", where=where)
    return (Message(role="system", content=said), *messages)
