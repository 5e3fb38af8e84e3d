"""Probes of a chat template: short conversations that show what it writes around an assistant's turn."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from tokensieve.data.chat.render import RefusedRow, Renderer, names_pattern
from tokensieve.data.chat.response_spans import shared_length
from tokensieve.errors import InputError
from tokensieve.types import JSON, Message


@dataclass(frozen=True, slots=True)
class Probe:
    """Texts and tokens that a template writes around plain turns.

    Attributes:
        header: what a prompt ends with, before the model begins.
        opener: the part of the header that is not before every turn in a history.
        user_turn: a user's turn with the header behind it.
        ends: names of the tokens that end a turn.
        inner: those of them that stand within an assistant's turn too, between its reasoning and its answer.
        closing: the end that the last turn lacks; empty where it has one.
        call_closing: the same of a turn that calls tools.
    """

    header: str
    opener: str
    user_turn: str
    ends: frozenset[str]
    inner: frozenset[str]
    closing: str = ""
    call_closing: str = ""

    def joined_with(self, other: "Probe") -> "Probe":
        """Itself with the ends of the model's other template."""
        return replace(
            self,
            user_turn=self.user_turn + other.user_turn,
            ends=self.ends | other.ends,
            inner=self.inner | other.inner,
            call_closing=other.call_closing or self.call_closing,
        )


_USERS: Final = ("Wherefore1", "Wherefore2")
_ANSWERS: Final = ("Therefore1", "Therefore2")
_ARGUMENT: Final = "Therefore3"
_CALL: Final[JSON] = {
    "type": "function",
    "id": "a1b2c3d4e",
    "function": {"name": "look", "arguments": {"at": _ARGUMENT}},
}

TOOL: Final[JSON] = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "look",
        "parameters": {"type": "object", "properties": {"at": {"type": "string", "description": "place"}}},
    },
}
"""A tool's definition, for templates that need one."""


def probe_template(
    renderer: Renderer, special: set[str], other: set[str], where: str, tools: Sequence[JSON] = ()
) -> Probe:
    """Learn from a few short conversations what a template writes around an assistant's turn.

    Args:
        renderer: the template, without guards.
        special: names of the special tokens.
        other: names of the other added tokens.
        where: the model, for messages.
        tools: of the conversations; a template for tools may need some.

    Raises:
        InputError: the template refuses a plain conversation, leaves a turn out, or ends no assistant's turn.
    """
    turns = [
        Message(role=role, content=text)
        for pair in zip(_USERS, _ANSWERS, strict=True)
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    try:
        whole = renderer.render(turns, tools).text
        asked = renderer.render(turns[:1], tools, generation_prompt=True).text
        unasked = renderer.render(turns[:1], tools).text
    except RefusedRow as error:
        raise InputError(f"the chat template refuses a plain conversation: {error.problem}", where=where) from None
    _check_shown(whole, where)
    names = names_pattern(special | other)
    shared = shared_length(asked, unasked)
    inside = (
        match.start() for match in names.finditer(asked) if match.start() < shared < match.start() + len(match.group(1))
    )
    header = asked[next(inside, shared) :]
    between = whole[whole.index(_ANSWERS[0]) + len(_ANSWERS[0]) : whole.index(_USERS[1])]
    middle, final = names.search(between), names.search(whole, whole.index(_ANSWERS[1]))
    if middle is None and final is None:
        raise InputError(
            "the chat template writes no end-of-turn token after the assistant's turn: a model trained so never stops",
            where=where,
            fix="add eos_token after the assistant's content in tokenizer.chat_template",
        )
    calls = names_pattern(special)
    call_end, call_next = _call_end(renderer, calls, alone=True), _call_end(renderer, calls, alone=False)
    if final is None:  # the next turn's header ends a turn, and the template leaves it to whoever writes that turn
        closing = str(middle and middle.group(1))
        return Probe(
            header=header,
            opener=_opener(header, asked, whole, special | other),
            user_turn=asked,
            ends=frozenset({closing, call_next} - {""}),
            inner=frozenset(),
            closing=closing,
            call_closing=call_next,
        )
    ends = {str(final.group(1)), call_end} - {""}
    user_end = names.search(unasked, unasked.index(_USERS[0]))
    first_user = whole[: whole.index(_USERS[0])]
    if middle is not None and (
        middle.group(1) not in first_user or (user_end is not None and user_end.group(1) == middle.group(1))
    ):
        ends.add(str(middle.group(1)))
    return Probe(
        header=header,
        opener=_opener(header, asked, whole, special | other),
        user_turn=asked,
        ends=frozenset(ends),
        inner=frozenset(ends & _within_a_turn(renderer, names, tools)),
    )


def _check_shown(whole: str, where: str) -> None:
    missing = [text for text in (*_USERS, *_ANSWERS) if text not in whole]
    if missing:
        role = "assistant" if missing[0] in _ANSWERS else "user"
        raise InputError(
            f"the chat template leaves the {role}'s turn out",
            where=where,
            fix="use the tokenizer of the instruct model, or mend tokenizer.chat_template",
        )


def _opener(header: str, asked: str, whole: str, names: set[str]) -> str:
    """The end of the header from the added token on that not every turn in a history has, such as ``<think>``."""
    prompt = asked[asked.index(_USERS[0]) + len(_USERS[0]) :]
    written = [
        whole[whole.index(user) + len(user) : whole.index(answer)]
        for user, answer in zip(_USERS, _ANSWERS, strict=True)
    ]
    shared = min(shared_length(prompt, text) for text in written)
    if shared == len(prompt):
        return ""
    begin = len(prompt) - len(header)
    found = names_pattern(names | {"<think>"}).finditer(prompt)
    starts = [match.start() for match in found if begin < match.start() <= shared]
    return prompt[starts[-1] :] if starts else ""


def _call_end(renderer: Renderer, special: "re.Pattern[str]", *, alone: bool) -> str:
    """Name of the special token behind a turn that calls a tool; empty where there is none or calls are refused.

    Args:
        renderer: the template.
        special: names of the special tokens.
        alone: the conversation ends with the call, and the token with it; otherwise a tool's answer follows.
    """
    turns = [Message(role="user", content=_USERS[0]), Message(role="assistant", content=None, tool_calls=[_CALL])]
    if not alone:
        turns.append(Message(role="tool", content=_USERS[1], tool_call_id="a1b2c3d4e", name="look"))
    try:
        text = renderer.render(turns, [TOOL]).text
    except RefusedRow:
        return ""
    if _ARGUMENT not in text:
        return ""
    found = list(special.finditer(text, text.rindex(_ARGUMENT)))
    if not found:
        return ""
    if not alone:
        return str(found[0].group(1))
    last = found[-1]
    return str(last.group(1)) if not text[last.start() + len(last.group(1)) :].strip() else ""


def _within_a_turn(renderer: Renderer, names: "re.Pattern[str]", tools: Sequence[JSON]) -> set[str]:
    """Names of the added tokens that a template writes between a turn's reasoning and its answer."""
    turns = [
        Message(role="user", content=_USERS[0]),
        Message(role="assistant", content=_ANSWERS[0], reasoning_content=_ARGUMENT),
    ]
    try:
        text = renderer.render(turns, tools).text
    except RefusedRow:
        return set()
    if not 0 <= text.find(_ARGUMENT) < text.find(_ANSWERS[0]):
        return set()
    return {str(match.group(1)) for match in names.finditer(text, text.find(_ARGUMENT), text.find(_ANSWERS[0]))}
