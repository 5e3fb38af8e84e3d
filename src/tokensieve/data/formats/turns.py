"""Turns of a conversation out of a data set's own way of writing them, with tool calls, tools and reasoning."""

from collections.abc import Mapping, Sequence
from typing import Final, cast

from tokensieve.data.formats.fields import Record, json_value, kind, required_text, response_text, text, wrong
from tokensieve.errors import InputError
from tokensieve.types import JSON, Message

ROLES: Final[Mapping[str, str]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
"""Roles of OpenAI's messages, and ours for them."""

SHAREGPT_ROLES: Final[Mapping[str, str]] = {
    **ROLES,
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "observation": "tool",
}
"""Roles of ShareGPT's turns, and ours for them."""


def message_of(turn: object, role_key: str, text_key: str, roles: Mapping[str, str], where: str) -> Message:
    """A turn as a message.

    Args:
        turn: the data set's own.
        role_key: its field that says who speaks.
        text_key: its field with the text.
        roles: our role for each of the data set's.
        where: the row's place, for errors.

    Raises:
        InputError: a field is missing or of the wrong type, the role is unknown, or the turn is switched off.
    """
    if not isinstance(turn, Mapping):
        raise InputError(f"expected a turn with {role_key!r} and {text_key!r}, got {kind(turn)}", where=where)
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
            raise wrong("tool_calls", "a list", calls, where)
        message["tool_calls"] = [tool_call(call, where) for call in calls]
    for key in ("tool_call_id", "name"):
        if turn.get(key) is not None:
            message[key] = text(turn[key], key, where)
    reasoning = next((turn[k] for k in ("reasoning_content", "thinking", "reasoning") if turn.get(k) is not None), None)
    if reasoning is not None:
        message["reasoning_content"] = text(reasoning, "reasoning_content", where)
    return message


def _content(value: object, role: str, key: str, where: str) -> str | None:
    """A turn's text; a list of text parts is joined, None is an assistant that only calls tools."""
    if value is None:
        if role == "assistant":
            return None
        raise wrong(key, "text", value, where)
    if isinstance(value, Sequence) and not isinstance(value, str):
        parts = []
        for part in value:
            if not isinstance(part, Mapping) or part.get("type", "text") != "text" or "text" not in part:
                of = part.get("type") if isinstance(part, Mapping) else kind(part)
                raise InputError(f"{key} holds a part of type {of!r}; only text is read", where=where)
            parts.append(text(part["text"], key, where))
        return "".join(parts)
    return text(value, key, where)


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


def tool_call(call: object, where: str) -> JSON:
    """A call as templates take it: arguments as an object, where OpenAI's form has them as a string."""
    if not isinstance(call, Mapping):
        raise wrong("tool_calls", "objects", call, where)
    function = call.get("function", call)
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InputError("a tool call has no function name", where=where)
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        arguments = json_value(arguments, where)
    if arguments is not None and not isinstance(arguments, dict):
        raise wrong("arguments", "an object", arguments, where)
    clean: dict[str, JSON] = {"name": function["name"], "arguments": cast("JSON", arguments or {})}
    return {**({"id": call["id"]} if isinstance(call.get("id"), str) else {}), "type": "function", "function": clean}


def tools_of(record: Record, where: str) -> tuple[JSON, ...]:
    """The row's tool definitions, as a list or as JSON text; empty where there are none."""
    tools = record.get("tools")
    if isinstance(tools, str):
        tools = json_value(tools, where) if tools.strip() else None
    if tools is None:
        return ()
    if not isinstance(tools, Sequence) or not all(isinstance(tool, Mapping) for tool in tools):
        raise wrong("tools", "a list of objects", tools, where)
    return tuple(cast("JSON", tool) for tool in tools)


def turns_or_text(record: Record, name: str, role: str, where: str) -> list[Message]:
    """A field that holds either turns or the text of one turn of the given role."""
    value = record.get(name)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [message_of(turn, "role", "content", ROLES, f"{where}, {name}") for turn in value]
    return [
        plain_turn(
            role, response_text(record, name, where) if role == "assistant" else required_text(record, name, where)
        )
    ]


def with_system(record: Record, messages: list[Message], where: str) -> tuple[Message, ...]:
    """The turns behind the row's own system prompt, where it has that field.

    Raises:
        InputError: it is no text, or the turns begin with a system prompt too.
    """
    system = record.get("system")
    if isinstance(system, str) and system.strip():
        if messages and messages[0]["role"] == "system":
            raise InputError("the row has a system field and a system turn", where=where)
        return (plain_turn("system", text(system, "system", where)), *messages)
    if system is not None and not isinstance(system, str):
        raise wrong("system", "text", system, where)
    return tuple(messages)


def plain_turn(role: str, content: str) -> Message:
    """A turn that is nothing but text."""
    return Message(role=role, content=content)
