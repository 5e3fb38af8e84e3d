"""Spans of the assistant's turns in a rendered conversation."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from tokensieve.data.chat.render import Rendered, split_reasoning
from tokensieve.types import JSON, Message

TAIL: Final = 40
"""Characters of a message's end that are looked for in the text."""

Borders: TypeAlias = Mapping[int, tuple[int, int]]
"""Begin and end of messages' visible texts, by the message's index; see ``locate.message_borders``."""


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
        at = shared_length(self.expected, self.got)
        return f"{self.problem}\n    expected: {_around(self.expected, at)}\n    got:      {_around(self.got, at)}"


@dataclass(frozen=True, slots=True)
class Ends:
    """End-of-turn tokens of a template, and the header of the assistant's turn.

    Attributes:
        names: the end-of-turn tokens.
        header: what a prompt ends with, before the model begins.
        opener: the part of the header that opens a reasoning block, such as ``<think>``, where the template leaves it
            out before a turn without reasoning; empty where the whole header is before every turn.
    """

    names: "re.Pattern[str]"
    header: str
    opener: str = ""


@dataclass(slots=True)
class SpanFinder:
    """Finds the spans of one conversation's assistant turns.

    A turn begins where its prompt ends, which must be the beginning of the conversation. Rendering a prompt for every
    turn would take time quadratic in the turns, so that it is done once for each kind of message before a turn: between
    two messages' texts the template writes the same again, which is compared.

    Attributes:
        whole: the conversation's text.
        messages: its turns.
        ends: the template's end-of-turn tokens and headers.
        prompt_of: renders the prompt of the turn with an index.
        prompt_borders_of: the borders of the messages' texts in that prompt.
        borders: of the messages' texts in the whole; None where they are not known.
        exact: the last turn must begin where its prompt ends; otherwise it may lack the prompt's opener.
        lacks_opener: True once the last turn was found to lack it.
    """

    whole: Rendered
    messages: Sequence[Message]
    ends: Ends
    prompt_of: Callable[[int], Rendered]
    prompt_borders_of: Callable[[int, Rendered], Borders | None]
    borders: Borders | None = None
    exact: bool = True
    lacks_opener: bool = False
    _between: dict[tuple[str, bool], str] = field(default_factory=dict)

    def by_prompts(self, places: Sequence[int]) -> list[Turn] | Mismatch:
        """The turns with the given ascending indices by their prompts, the last one's rendered in any case."""
        found: dict[int, Turn] = {}
        for place in (places[-1], *places[:-1]):
            start = self._start(place, verify=place == places[-1])
            if isinstance(start, Mismatch):
                return start
            turn = self._close(place, start)
            if isinstance(turn, Mismatch):
                return turn
            found[place] = turn
        return self._checked([found[place] for place in places])

    def by_markers(self, places: Sequence[int]) -> list[Turn] | Mismatch:
        """The turns by what the template marks as generated, the last one verified against its prompt.

        Marks may begin inside the header and end behind the end-of-turn token: what the prompt holds is not the
        model's to write, and what follows the end-of-turn token is never trained.
        """
        answers = [i for i, message in enumerate(self.messages) if message["role"] == "assistant"]
        spans = [span for span in _joined(self.whole.spans) if self.whole.text[slice(*span)].strip()]
        if len(spans) != len(answers):
            return Mismatch(f"the template marks {len(spans)} generated turns of {len(answers)}")
        last = self._start(places[-1], verify=True)
        if isinstance(last, Mismatch):
            return last
        found = []
        for place, (start, stop) in zip(answers, spans, strict=True):
            if place not in places:
                continue
            begin = start + _header_left(self.whole.text, start, self.ends)
            if place == places[-1]:
                if not start <= last <= stop and begin != last:
                    return Mismatch("the last marked turn does not begin where its prompt ends")
                begin = last
            turn = self._close(place, begin)
            if isinstance(turn, Mismatch):
                return turn
            if self.whole.text[stop : turn.end].strip():
                return Mismatch("the template's marks leave a part of a turn out")
            found.append(turn)
        return self._checked(found)

    def _start(self, place: int, *, verify: bool) -> int | Mismatch:
        """Begin of a turn: by its own prompt, or by what an earlier prompt has behind the same kind of message."""
        before = self._end_of_text(place - 1, self.whole, self.borders)
        earlier = self.messages[place - 1] if place else None
        kind = (earlier["role"], bool(earlier.get("tool_calls"))) if earlier else ("", False)
        if not verify and before is not None and kind in self._between:
            for between in self._with_and_without_opener(self._between[kind], may_lack=True):
                if self.whole.text.startswith(between, before):
                    return before + len(between)
        prompt = self.prompt_of(place)
        if before is not None and before <= len(prompt.text) and prompt.text[:before] == self.whole.text[:before]:
            self._between.setdefault(kind, prompt.text[before:])
        for text in self._with_and_without_opener(prompt.text, may_lack=not (verify and self.exact)):
            if self.whole.starts_with(prompt.until(len(text))):
                self.lacks_opener |= verify and len(text) < len(prompt.text)
                return len(text)
        if not verify and before is not None and self._learn_between(place, kind, prompt):
            return self._start(place, verify=False)
        return Mismatch("the prompt is not the beginning of the conversation", prompt.text, self.whole.text)

    def _learn_between(self, place: int, kind: tuple[str, bool], prompt: Rendered) -> bool:
        """Take what a prompt has behind its last message where the prompt itself is not the conversation's beginning.

        Some templates write earlier turns otherwise once more turns follow, so that a prompt in the middle differs in
        what is before it, but not in how its last message ends and the model's turn begins.

        Returns:
            True where the conversation goes on in the same way behind that message.
        """
        end = self._end_of_text(place - 1, prompt, self.prompt_borders_of(place, prompt))
        before = self._end_of_text(place - 1, self.whole, self.borders)
        if end is None or before is None:
            return False
        self._between[kind] = prompt.text[end:]
        texts = self._with_and_without_opener(self._between[kind], may_lack=True)
        return any(self.whole.text.startswith(text, before) for text in texts)

    def _with_and_without_opener(self, text: str, *, may_lack: bool) -> Iterator[str]:
        yield text
        if may_lack and self.ends.opener and text.endswith(self.ends.opener):
            yield text.removesuffix(self.ends.opener)

    def _end_of_text(self, place: int, text: Rendered, borders: Borders | None) -> int | None:
        """End of a message's text, with the white space that the message itself has there."""
        if borders is None or place not in borders:
            return None
        end = borders[place][1]
        content = self.messages[place]["content"] or ""
        space = content[len(content.rstrip()) :]
        return end + len(space) if text.text.startswith(space, end) else end

    def _close(self, place: int, start: int) -> Turn | Mismatch:
        """The turn from its start to the first end-of-turn token that the template wrote behind all its parts."""
        text, message = self.whole.text, self.messages[place]
        reach = start
        later = (self.borders[i][0] for i in range(place + 1, len(self.messages)) if self.borders and i in self.borders)
        bound = next(later, len(text))
        if self.borders is not None and split_reasoning(message)[1].strip():
            if place in self.borders:
                begin, reach = self.borders[place]
                if begin < start:
                    return Mismatch("a response begins in its header", text[start:], text[begin:])
            elif not message.get("tool_calls"):
                tail = split_reasoning(message)[1].strip()[-TAIL:]
                return Mismatch("a response does not hold its message's text", tail, text[start:bound])
        named = start
        for name in function_names(message.get("tool_calls", [])):
            at = text.find(name, named, bound)
            if at < 0:
                return Mismatch("the template leaves a tool call out", name, text[start:bound])
            named = at + len(name)
        reach = max(reach, named)
        if reach > bound:
            return Mismatch("another turn's text lies inside a response")
        for match in self.ends.names.finditer(text, reach):
            end, after = match.start(), match.start() + len(match.group(1))
            if end >= bound:
                break
            if self.whole.is_written(end, after):
                return Turn(start, end, after)
        return Mismatch("no end-of-turn token follows a response", "", text[reach : reach + TAIL])

    def _checked(self, found: list[Turn]) -> list[Turn] | Mismatch:
        """The turns, if they follow one another."""
        reached = 0
        for turn in found:
            if turn.start < reached:
                return Mismatch("two turns overlap")
            reached = turn.after
        return found


def function_names(calls: Sequence[JSON]) -> list[str]:
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


def _header_left(text: str, start: int, ends: Ends) -> int:
    """Number of characters behind ``start`` that still belong to the assistant's header, with or without its opener."""
    for header in (ends.header, ends.header.removesuffix(ends.opener)):
        for taken in range(len(header), 0, -1):
            if text[max(0, start - taken) : start] == header[:taken] and text.startswith(header[taken:], start):
                return len(header) - taken
        if header and text.startswith(header, start):
            return len(header)
    return 0


def shared_length(a: str, b: str) -> int:
    """Length of two texts' common beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _around(text: str, place: int) -> str:
    begin = max(0, place - 30)
    shown = repr(text[begin : place + 50])
    return f"{'…' if begin else ''}{shown}{'…' if place + 50 < len(text) else ''}"
