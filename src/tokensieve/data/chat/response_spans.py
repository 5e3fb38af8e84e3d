"""Where the assistant's turns lie in a rendered conversation."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tokensieve.data.chat.render import Rendered
from tokensieve.types import JSON, Example, Message, is_trained

_TAIL = 40


@dataclass(frozen=True, slots=True)
class Turn:
    """One assistant turn in the text, in characters.

    Attributes:
        start: where what the model writes begins, behind the header.
        end: where the end-of-turn token begins.
        after: behind the end-of-turn token.
    """

    start: int
    end: int
    after: int


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Why a way of finding the turns is not right for a conversation."""

    problem: str
    expected: str = ""
    got: str = ""

    def __str__(self) -> str:
        if not (self.expected or self.got):
            return self.problem
        at = _first_difference(self.expected, self.got)
        return f"{self.problem}\n    expected: {_around(self.expected, at)}\n    got:      {_around(self.got, at)}"


@dataclass(frozen=True, slots=True)
class Ends:
    """The end-of-turn tokens of a template, and the header before an assistant's turn."""

    names: "re.Pattern[str]"
    header: str


def by_markers(whole: Rendered, prompt: Rendered, turns: Sequence[Message], ends: Ends) -> list[Turn] | Mismatch:
    """The turns by what the template marks as generated, the last one verified against its prompt.

    Marks may begin inside the header and end behind the end-of-turn token: what the prompt holds is not the
    model's to write, and what follows the first end-of-turn token is never trained.
    """
    if not whole.starts_with(prompt):
        return Mismatch("the prompt is not the beginning of the conversation", prompt.text, whole.text)
    found = []
    for start, stop in _joined(whole.spans):
        begin = start + _header_left(whole.text, start, ends.header)
        if start <= len(prompt.text) <= stop:
            begin = len(prompt.text)
        turn = _close(whole, begin, ends)
        if turn is not None and not whole.text[stop : turn.end].strip():
            found.append(turn)
    if len(found) != len(turns):
        return Mismatch(f"the template marks {len(found)} generated turns of {len(turns)}")
    if found[-1].start != len(prompt.text):
        return Mismatch("the last marked turn does not begin where its prompt ends")
    return _checked(whole, found, turns)


def by_prefixes(
    whole: Rendered, prompts: Sequence[Rendered], turns: Sequence[Message], ends: Ends
) -> list[Turn] | Mismatch:
    """The turns by their prompts, each verified to be a prefix of the whole conversation."""
    found = []
    for prompt in prompts:
        if not whole.starts_with(prompt):
            return Mismatch("the prompt is not the beginning of the conversation", prompt.text, whole.text)
        turn = _close(whole, len(prompt.text), ends)
        if turn is None:
            return Mismatch("no end-of-turn token follows a response")
        found.append(turn)
    return _checked(whole, found, turns)


def _close(whole: Rendered, start: int, ends: Ends) -> Turn | None:
    """The turn from its start to the first end-of-turn token that the template wrote."""
    for match in ends.names.finditer(whole.text, start):
        end, after = match.start(), match.start() + len(match.group(1))
        if whole.is_written(end, after):
            return Turn(start, end, after)
    return None


def _checked(whole: Rendered, found: list[Turn], turns: Sequence[Message]) -> list[Turn] | Mismatch:
    """The turns, if they follow one another and each holds the end of its message's text."""
    reached = 0
    for turn, message in zip(found, turns, strict=True):
        if turn.start < reached:
            return Mismatch("two turns overlap")
        reached = turn.after
        text = whole.text[turn.start : turn.end]
        tail = (message["content"] or "").rpartition("</think>")[2].strip()[-_TAIL:]
        if tail not in text:
            return Mismatch("a response does not hold its message's text", tail, text)
        for name in _named(message.get("tool_calls", [])):
            if name not in text:
                return Mismatch("the template leaves a tool call out", name, text)
    return found


def left_out(whole: Rendered, found: Sequence[Turn], example: Example, last_turn_only: bool) -> Iterator[str]:
    """What a template leaves out of a conversation without an error: reasoning, tools, what others said.

    Args:
        whole: the conversation's text.
        found: its trained turns in the text.
        example: the conversation.
        last_turn_only: they are the last one alone.
    """
    turns = [message for message in example.messages if is_trained(message)][-1 if last_turn_only else 0 :]
    if any(
        _reasoning(message)[-_TAIL:] not in whole.text[turn.start : turn.end]
        for turn, message in zip(found, turns, strict=True)
    ):
        yield "reasoning"  # as some do in all turns but the last
    if any(name not in whole.text for tool in example.tools for name in _named([tool])):
        yield "tools"
    for role in ("system", "user"):
        said = (message["content"] or "" for message in example.messages if message["role"] == role)
        if any(text.strip()[-_TAIL:] not in whole.text for text in said):
            yield f"a {role} turn"


def _reasoning(message: Message) -> str:
    before, mark, _ = (message["content"] or "").rpartition("</think>")
    return message.get("reasoning_content", before if mark else "").strip()


def _named(calls: Sequence[JSON]) -> list[str]:
    """Names of the functions in tool calls, or in definitions of tools."""
    names = []
    for call in calls:
        function = call.get("function", call) if isinstance(call, dict) else None
        if isinstance(function, dict) and isinstance(name := function.get("name"), str):
            names.append(name)
    return names


def _joined(spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans with those that touch made one: a mark around a closing token belongs to the turn before it."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(spans):
        if start == stop:
            continue
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def _header_left(text: str, start: int, header: str) -> int:
    """Number of characters behind ``start`` that still belong to the assistant's header."""
    for taken in range(len(header), 0, -1):
        if text[max(0, start - taken) : start] == header[:taken] and text.startswith(header[taken:], start):
            return len(header) - taken
    return 0


def _first_difference(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _around(text: str, place: int) -> str:
    begin = max(0, place - 30)
    shown = repr(text[begin : place + 50])
    return f"{'…' if begin else ''}{shown}{'…' if place + 50 < len(text) else ''}"
