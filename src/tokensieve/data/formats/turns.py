"""Turns of a conversation out of a data set's own way of writing them: roles, text, tool calls, loss weights."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tokensieve.data.formats.fields import (
    Fields,
    as_list,
    json_value,
    kind,
    text,
    wrong,
)
from tokensieve.errors import InputError
from tokensieve.types import JSON, Message


@dataclass(frozen=True, slots=True)
class Spelling:
    """The field names and roles with which a data set writes a turn.

    Attributes:
        role: the field that says who speaks.
        text: the field with what is said.
        roles: our role for each of the data set's.
    """

    role: str
    text: str
    roles: Mapping[str, str]


OPENAI: Final = Spelling(
    "role",
    "content",
    {
        "system": "system",
        "developer": "system",
        "user": "user",
        "assistant": "assistant",
        "tool": "tool",
        "function": "tool",
    },
)
SHAREGPT: Final = Spelling(
    "from",
    "value",
    {
        **OPENAI.roles,
        "human": "user",
        "gpt": "assistant",
        "chatgpt": "assistant",
        "model": "assistant",
        "function_call": "assistant",
        "observation": "tool",
    },
)

LOSS_WEIGHTS: Final[Mapping[str, str]] = {
    "weight": "OpenAI, Mistral, Fireworks, Together",
    "loss": "ms-swift, XTuner",
    "loss_scale": "ms-swift",
    "loss_weight": "several",
    "loss_mask": "verl",
    "train": "Axolotl",
    "training": "Axolotl",
    "trainable": "Tinker",
}
"""Fields of a turn that say how much it is trained, and who reads them: true or 1 is trained, false or 0 is not."""

MASKED: Final = "masked"
"""torchtune's field for the opposite: true is not trained."""

_PARTS_OF_A_TURN: Final = ("train_detail", "training_detail")
_AMBIGUOUS: Final = ("mask",)
_REASONING: Final = ("reasoning_content", "thinking", "reasoning")


def message_of(turn: object, record: Fields, spelling: Spelling, where: str) -> Message:
    """A turn as a message.

    Args:
        turn: the data set's own.
        record: the row, which is told of fields that are not read.
        spelling: its fields and roles.
        where: the row's place, for errors.

    Raises:
        InputError: a field is missing or of the wrong type, the role is unknown, or the loss weight is not from 0 to 1.
    """
    if not isinstance(turn, Mapping):
        expected = f"a turn with {spelling.role!r} and {spelling.text!r}"
        raise InputError(f"expected {expected}, got {kind(turn)}", where=where)
    fields = record.of_turn(turn)
    role = _role(fields, spelling, where)
    message = Message(role=role, content=_content(fields.get(spelling.text), role, spelling.text, where))
    if fields[spelling.role] == "function_call":
        message = _call_in_text(message["content"] or "", where)
    elif calls := _tool_calls(fields, where):
        message["tool_calls"] = calls
    for key in ("tool_call_id", "name"):
        value = fields.get(key)
        if value is not None:
            message[key] = text(value, key, where)
    reasoning = next((fields[key] for key in _REASONING if fields.peek(key) is not None), None)
    if reasoning is not None:
        message["reasoning_content"] = text(reasoning, "reasoning_content", where)
    weight = _loss_weight(fields, where)
    if role == "assistant" and weight is not None:
        message["weight"] = weight
        if weight < 1:
            fields.notes.add(f"assistant turn {'of a loss weight below 1' if weight else 'marked as not trained'}")
    elif weight:
        fields.notes.add(f"{role} turn marked to be trained; only the assistant's are")
    fields.notes.update(f"field {name!r} of a turn not read" for name in fields.unread())
    return message


def _role(turn: Fields, spelling: Spelling, where: str) -> str:
    """Our role for the one who speaks.

    Raises:
        InputError: the turn does not tell, or names a role that is not known.
    """
    if spelling.role not in turn:
        raise InputError(f"the turn has no {spelling.role!r}; its fields are: {', '.join(map(str, turn))}", where=where)
    theirs = turn[spelling.role]
    if not isinstance(theirs, str) or theirs not in spelling.roles:
        raise InputError(f"unknown role {theirs!r}; known are {', '.join(spelling.roles)}", where=where)
    return spelling.roles[theirs]


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


# --- loss weights ---------------------------------------------------------------------------------------------------


def _loss_weight(turn: Fields, where: str) -> float | None:
    """The turn's loss weight, in [0, 1]: the product of all fields that state one; None where none does.

    Raises:
        InputError: a value is not from 0 to 1, a part of the turn is switched off, or a field's polarity is not known.
    """
    for name in _AMBIGUOUS:
        if turn.peek(name) is not None:
            raise InputError(
                f"the turn has the field {name!r}, which means trained in some tools and not trained in others",
                where=where,
                fix="write weight: 0 (not trained) or weight: 1",
            )
    for name in _PARTS_OF_A_TURN:
        for part in as_list(turn.get(name)) or ():
            if not isinstance(part, Mapping) or part.get("train") is not True:
                raise InputError(
                    f"{name} switches a part of the turn off; a turn is trained whole or not at all",
                    where=where,
                    fix="split the turn's row, or write weight: 0 to train nothing of it",
                )
    stated = [weight_of(turn[name], name, where) for name in LOSS_WEIGHTS if turn.peek(name) is not None]
    if turn.peek(MASKED) is not None:
        stated.append(1 - weight_of(turn[MASKED], MASKED, where))
    return math.prod(stated) if stated else None


def weight_of(value: object, name: str, where: str) -> float:
    """A loss weight in [0, 1]; true is 1, false is 0.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, bool | int | float) or not 0 <= value <= 1:  # a NaN fails both comparisons
        raise InputError(
            f"{name} is {kind(value)}, expected true, false or a loss weight from 0 (not trained) to 1", where=where
        )
    return float(value)


# --- tools ----------------------------------------------------------------------------------------------------------


def _tool_calls(turn: Fields, where: str) -> list[JSON]:
    """The turn's calls, from ``tool_calls`` or the older ``function_call``; empty where it makes none."""
    if turn.holds("tool_calls"):
        value = turn["tool_calls"]
        calls = as_list(value)
        if calls is None:
            raise wrong("tool_calls", "a list", value, where)
        return [tool_call(call, where) for call in calls]
    if turn.holds("function_call"):
        value = turn["function_call"]
        return [tool_call(json_value(value, where) if isinstance(value, str) else value, where)]
    return []


def _call_in_text(content: str, where: str) -> Message:
    """ShareGPT's turn of the role ``function_call``: JSON of one call or several, at times behind the reasoning."""
    reasoning, closing, call = content.rpartition("</think>")
    value = json_value(call, where)
    calls = [tool_call(one, where) for one in (value if isinstance(value, list) else [value])]
    return Message(role="assistant", content=f"{reasoning}{closing}" if closing else None, tool_calls=calls)


def tool_call(call: object, where: str) -> JSON:
    """A call as chat templates take it: arguments as an object, where OpenAI's form has them as a string.

    Raises:
        InputError: it has no function name, or its arguments are no JSON object.
    """
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
    clean: dict[str, JSON] = {"name": function["name"], "arguments": arguments or {}}
    return {**({"id": call["id"]} if isinstance(call.get("id"), str) else {}), "type": "function", "function": clean}


def tools_of(record: Fields, where: str) -> tuple[JSON, ...]:
    """The row's tool definitions in OpenAI's form, from ``tools`` or the older ``functions``; a list or JSON text.

    A bare function (name, description, parameters), as ``functions`` and LLaMA-Factory have it, is put into an object
    of type ``function``, as chat templates see it when the model is used.

    Raises:
        InputError: it is no list of objects.
    """
    name = "tools" if record.holds("tools") or not record.holds("functions") else "functions"
    tools = record.get(name)
    if isinstance(tools, str):
        tools = json_value(tools, where) if tools.strip() else None
    if tools is None:
        return ()
    definitions = [_definition(tool) for tool in as_list(tools) or () if isinstance(tool, Mapping)]
    if not isinstance(tools, Sequence) or len(definitions) < len(tools):
        raise wrong(name, "a list of objects", tools, where)
    return tuple(definitions)


def _definition(tool: Mapping[str, JSON]) -> JSON:
    is_bare = isinstance(tool.get("name"), str) and "function" not in tool and "type" not in tool
    return {"type": "function", "function": dict(tool)} if is_bare else dict(tool)


def is_turns(value: Sequence[object] | None) -> bool:
    """True where a list holds turns, in OpenAI's spelling or ShareGPT's."""
    return bool(value) and all(
        isinstance(turn, Mapping) and ({"role", "content"} <= set(turn) or {"from", "value"} <= set(turn))
        for turn in value or ()
    )
