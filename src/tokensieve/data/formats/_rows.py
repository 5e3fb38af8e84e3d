"""One record as turns of a conversation, by the form of its data set."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import numpy as np

from tokensieve.errors import InputError
from tokensieve.types import JSON, IntArray, Message, Origin

Record: TypeAlias = Mapping[str, object]

_ROLES: Final[Mapping[str, str]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_SHAREGPT_ROLES: Final[Mapping[str, str]] = {
    **_ROLES,
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "observation": "tool",
}
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
        tools=draft.tools or _tools(record, where),
        id=_id(record, where),
        task=draft.task,
        origin=draft.origin,
        sampled_ids=draft.sampled_ids,
    )


def _from_messages(record: Record, where: str) -> Draft:
    turns = _list(record, ("messages", "conversations", "conversation"), where)
    messages = [_message(turn, "role", "content", _ROLES, f"{where}, turn {i}") for i, turn in enumerate(turns, 1)]
    return Draft(_with_system(record, messages, where))


def _from_sharegpt(record: Record, where: str) -> Draft:
    turns = _list(record, ("conversations", "conversation", "messages"), where)
    messages = []
    for i, turn in enumerate(turns, 1):
        place = f"{where}, turn {i}"
        message = _message(turn, "from", "value", _SHAREGPT_ROLES, place)
        if isinstance(turn, Mapping) and turn.get("from") == "function_call":
            call = _json(message["content"] or "", place)
            calls = [_tool_call(c, place) for c in (call if isinstance(call, list) else [call])]
            message = Message(role="assistant", content=None, tool_calls=calls)
        messages.append(message)
    return Draft(_with_system(record, messages, where))


def _from_alpaca(record: Record, where: str) -> Draft:
    messages: list[Message] = []
    history = record.get("history") or []
    if not isinstance(history, Sequence) or isinstance(history, str):
        raise _wrong("history", "a list of pairs", history, where)
    for pair in history:
        if not isinstance(pair, Sequence) or isinstance(pair, str) or len(pair) != 2:
            raise _wrong("history", "a list of pairs", pair, where)
        messages += [
            _turn("user", _text(pair[0], "history", where)),
            _turn("assistant", _text(pair[1], "history", where)),
        ]
    instruction = _field(record, "instruction", where)
    extra = _text(record.get("input") or "", "input", where)
    messages.append(_turn("user", f"{instruction}\n{extra}" if extra.strip() else instruction))
    messages.append(_turn("assistant", _response(record, "output", where)))
    return Draft(_with_system(record, messages, where))


def _from_prompt_completion(record: Record, where: str) -> Draft:
    prompt = _turns_or_text(record, "prompt", "user", where)
    completion = _turns_or_text(record, "completion", "assistant", where)
    return Draft(_with_system(record, [*prompt, *completion], where))


def _from_examples(record: Record, where: str) -> Draft:
    draft = _from_messages(record, where)
    origin = record.get("origin", Origin.GROUND_TRUTH)
    if origin not in list(Origin):
        raise InputError(f"origin is {origin!r}, expected one of {', '.join(Origin)}", where=where)
    ids = record.get("sampled_ids")
    if ids is not None and not (isinstance(ids, Sequence) and all(type(i) is int and 0 <= i < 2**31 for i in ids)):
        raise _wrong("sampled_ids", "a list of token ids", ids, where)
    task = record.get("task")
    return Draft(
        messages=draft.messages,
        task=_text(task, "task", where) if task is not None else "",
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


# --- turns ----------------------------------------------------------------------------------------------------------


def _message(turn: object, role_key: str, text_key: str, roles: Mapping[str, str], where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise InputError(f"expected a turn with {role_key!r} and {text_key!r}, got {_kind(turn)}", where=where)
    if role_key not in turn:
        raise InputError(f"the turn has no {role_key!r}; its fields are: {', '.join(map(str, turn))}", where=where)
    role = turn[role_key]
    if not isinstance(role, str) or role not in roles:
        raise InputError(f"unknown role {role!r}; known are {', '.join(roles)}", where=where)
    _refuse_weights(turn, where)
    message = Message(role=roles[role], content=_content(turn.get(text_key), roles[role], text_key, where))
    calls = turn.get("tool_calls")
    if calls is not None and len(calls):
        if not isinstance(calls, Sequence) or isinstance(calls, str):
            raise _wrong("tool_calls", "a list", calls, where)
        message["tool_calls"] = [_tool_call(call, where) for call in calls]
    for key in ("tool_call_id", "name"):
        if turn.get(key) is not None:
            message[key] = _text(turn[key], key, where)
    reasoning = next((turn[k] for k in ("reasoning_content", "thinking", "reasoning") if turn.get(k) is not None), None)
    if reasoning is not None:
        message["reasoning_content"] = _text(reasoning, "reasoning_content", where)
    return message


def _content(value: object, role: str, key: str, where: str) -> str | None:
    """A turn's text; a list of text parts is joined, None is an assistant that only calls tools."""
    if value is None:
        if role == "assistant":
            return None
        raise _wrong(key, "text", value, where)
    if isinstance(value, Sequence) and not isinstance(value, str):
        parts = []
        for part in value:
            if not isinstance(part, Mapping) or part.get("type", "text") != "text" or "text" not in part:
                kind = part.get("type") if isinstance(part, Mapping) else _kind(part)
                raise InputError(f"{key} holds a part of type {kind!r}; only text is read", where=where)
            parts.append(_text(part["text"], key, where))
        return "".join(parts)
    return _text(value, key, where)


def _refuse_weights(turn: Mapping[str, object], where: str) -> None:
    """Some data sets switch single turns off; training them all the same would be a silent change of meaning."""
    for key in ("weight", "train", "training"):
        value = turn.get(key)
        if value is not None and value not in (1, True):
            raise InputError(
                f"the turn is marked {key}={value!r}; turns are not switched off one by one",
                where=where,
                fix="drop the field, cut the conversation after the turn to train, and use last_turn_only",
            )


def _tool_call(call: object, where: str) -> JSON:
    """A call as templates take it: arguments as an object, where OpenAI's form has them as a string."""
    if not isinstance(call, Mapping):
        raise _wrong("tool_calls", "objects", call, where)
    function = call.get("function", call)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InputError("a tool call has no function name", where=where)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = _json(arguments, where)
    if arguments is not None and not isinstance(arguments, dict):
        raise _wrong("arguments", "an object", arguments, where)
    clean: dict[str, JSON] = {"name": function["name"], "arguments": cast("JSON", arguments or {})}
    return {**({"id": call["id"]} if isinstance(call.get("id"), str) else {}), "type": "function", "function": clean}


def _tools(record: Record, where: str) -> tuple[JSON, ...]:
    tools = record.get("tools")
    if isinstance(tools, str):
        tools = _json(tools, where) if tools.strip() else None
    if tools is None:
        return ()
    if not isinstance(tools, Sequence) or not all(isinstance(tool, Mapping) for tool in tools):
        raise _wrong("tools", "a list of objects", tools, where)
    return tuple(cast("JSON", tool) for tool in tools)


def _turns_or_text(record: Record, name: str, role: str, where: str) -> list[Message]:
    value = record.get(name)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_message(turn, "role", "content", _ROLES, f"{where}, {name}") for turn in value]
    return [_turn(role, _response(record, name, where) if role == "assistant" else _field(record, name, where))]


def _with_system(record: Record, messages: list[Message], where: str) -> tuple[Message, ...]:
    system = record.get("system")
    if isinstance(system, str) and system.strip():
        if messages and messages[0]["role"] == "system":
            raise InputError("the row has a system field and a system turn", where=where)
        return (_turn("system", _text(system, "system", where)), *messages)
    if system is not None and not isinstance(system, str):
        raise _wrong("system", "text", system, where)
    return tuple(messages)


# --- fields ---------------------------------------------------------------------------------------------------------


def _turn(role: str, content: str) -> Message:
    return Message(role=role, content=content)


def _pair(names: set[str]) -> tuple[str, str] | None:
    return next((pair for pair in _PAIRS if set(pair) <= names), None)


def _list(record: Record, names: Sequence[str], where: str) -> Sequence[object]:
    name = next((name for name in names if name in record), None)
    if name is None:
        raise InputError(f"expected the field {names[0]!r}, got: {', '.join(map(str, record)) or 'none'}", where=where)
    value = record[name]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise _wrong(name, "a list of turns", value, where)
    return cast("Sequence[object]", value)


def _field(record: Record, name: str, where: str) -> str:
    if name not in record:
        raise InputError(f"expected the field {name!r}, got: {', '.join(map(str, record)) or 'none'}", where=where)
    return _text(record[name], name, where)


def _response(record: Record, name: str, where: str) -> str:
    """A response's text; null counts as empty, which is dropped and counted rather than an error."""
    return "" if name in record and record[name] is None else _field(record, name, where)


def _text(value: object, name: str, where: str) -> str:
    if not isinstance(value, str):
        raise _wrong(name, "text", value, where)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name} holds half of a surrogate pair, which is no character", where=where) from None
    return value


def _id(record: Record, where: str) -> str:
    value = record.get("id")
    if value is None or value == "":
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _wrong("id", "text or a whole number", value, where)
    return _text(str(value), "id", where)


def _json(text: str, where: str) -> object:
    try:
        return cast("object", json.loads(text))
    except (ValueError, RecursionError) as error:
        raise InputError(f"expected JSON, got {text[:60]!r}: {error}", where=where) from None


def _wrong(name: str, expected: str, value: object, where: str) -> InputError:
    return InputError(f"{name} is {_kind(value)}, expected {expected}", where=where)


def _kind(value: object) -> str:
    """A value's type and a short look at it."""
    if value is None:
        return "null"
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= 40 else shown[:37] + '...'}"
