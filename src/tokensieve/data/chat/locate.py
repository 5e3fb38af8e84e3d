"""Trained turns of a conversation in the text that a chat template makes of it, and what the template leaves out."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tokensieve.data.chat.render import THINK_END, RefusedRow, Rendered, Renderer, split_reasoning, strings
from tokensieve.data.chat.response_spans import TAIL, Borders, Ends, Mismatch, SpanFinder, Turn, function_names
from tokensieve.types import JSON, Example, Message, is_trained

NOT_FOUND: Final = "the response cannot be found for certain"
NOTHING_TRAINED: Final = "every turn that could be trained is marked as not trained"
_OWN_MARKERS: Final = "the template's generation markers"
_PROMPTS: Final = "verified prompts"
_KEPT_REASONING: Final = "verified prompts, the last turn's reasoning kept from the chat template"

_FIRST_MARK: Final = 0xF0000
_MARKS: Final = 0x10FFFF - _FIRST_MARK
_ANY_MARK: Final = re.compile("[\U000f0000-\U0010ffff]")
"""Private-use planes, whose characters carry the borders of messages through a template, one for each message."""


@dataclass(frozen=True, slots=True)
class Found:
    """A conversation whose responses were found in its text.

    Attributes:
        example: the conversation.
        whole: its text.
        turns: the spans of its trained turns.
        messages: those turns' messages.
        borders: of all messages' texts, where they were needed.
        lacks_opener: the last turn lacks the reasoning block that its prompt opens.
    """

    example: Example
    whole: Rendered
    turns: Sequence[Turn]
    messages: Sequence[Message]
    borders: Borders | None
    lacks_opener: bool

    @property
    def prompt(self) -> Rendered:
        """The text before the last response."""
        return self.whole.until(self.turns[-1].start)


@dataclass(frozen=True)
class Locator:
    """Finds the assistant's turns in the text of a conversation.

    Attributes:
        renderer: the model's own template.
        tool_renderer: the template for conversations with tools, which is another one in some models.
        ends: the end-of-turn tokens and the assistant's header.
        closing: what a complete conversation lacks behind its last turn, by whether that turn calls tools: the token
            that begins the next turn, where a template ends turns by it; empty where turns have an end of their own.
    """

    renderer: Renderer
    tool_renderer: Renderer
    ends: Ends
    closing: Mapping[bool, str]

    def locate(self, example: Example, last_turn_only: bool) -> tuple[Found, str]:
        """The conversation's text with its trained turns, and the way in which they were found.

        Raises:
            RefusedRow: no way is right.
        """
        messages, tools = example.messages, example.tools
        answers = [i for i, message in enumerate(messages) if message["role"] == "assistant"]
        places = [i for i in answers[-1 if last_turn_only else 0 :] if is_trained(messages[i])]
        if not places:
            raise RefusedRow(NOTHING_TRAINED, NOTHING_TRAINED, fix="give one assistant turn a weight above 0")
        turns = [messages[i] for i in places]
        problems = []
        for way in self._ways(turns[-1], tools):
            renderer = self.renderer_of(tools)
            verbatim = places[-1] if way == _KEPT_REASONING else None
            whole = renderer.render(messages, tools, spans=way == _OWN_MARKERS, verbatim=verbatim)
            borders = None
            if len(places) > 1 or any(split_reasoning(turn)[0] or turn.get("tool_calls") for turn in turns):
                borders = message_borders(renderer, messages, tools, whole, verbatim=verbatim)
            if messages[-1]["role"] == "assistant":
                whole = whole.followed_by(self.closing[bool(messages[-1].get("tool_calls"))])
            finder = SpanFinder(
                whole=whole,
                messages=messages,
                ends=self.ends,
                prompt_of=lambda place: self.prompt(messages[:place], tools),
                prompt_borders_of=lambda place, prompt: message_borders(
                    self.renderer_of(tools), messages[:place], tools, prompt, generation_prompt=True
                ),
                borders=borders,
                exact=bool(split_reasoning(turns[-1])[0]),
            )
            spans = finder.by_markers(places) if way == _OWN_MARKERS else finder.by_prompts(places)
            if borders is None and not isinstance(spans, Mismatch):
                spans = holds_answers(whole, spans, turns) or spans
            if not isinstance(spans, Mismatch):
                return Found(example, whole, spans, turns, borders, finder.lacks_opener), way
            problems.append(f"  by {way}: {spans}")
        if places[-1] < len(messages) - 1:  # they teach nothing, but some templates move a system turn because of them
            with contextlib.suppress(RefusedRow):
                found, way = self.locate(replace(example, messages=messages[: places[-1] + 1]), last_turn_only)
                return replace(found, example=example), f"{way}, without the turns behind the last response"
        listed = "\n".join(problems)
        raise RefusedRow(
            NOT_FOUND,
            f"{NOT_FOUND} in what the chat template writes:\n{listed}",
            fix="--last-turn-only, other --template-kwargs, or a chat template with {% generation %} markers",
        )

    def _ways(self, last: Message, tools: Sequence[JSON]) -> Iterator[str]:
        if self.renderer_of(tools).has_markers:
            yield _OWN_MARKERS
        yield _PROMPTS
        if split_reasoning(last)[0]:
            yield _KEPT_REASONING

    def renderer_of(self, tools: Sequence[JSON]) -> Renderer:
        """The template for a conversation with such tools."""
        return self.tool_renderer if tools else self.renderer

    def prompt(self, messages: Sequence[Message], tools: Sequence[JSON]) -> Rendered:
        """A prompt's text, the header of the assistant's turn at its end."""
        return self.renderer_of(tools).render(messages, tools, generation_prompt=True)


def message_borders(
    renderer: Renderer,
    messages: Sequence[Message],
    tools: Sequence[JSON],
    whole: Rendered,
    *,
    generation_prompt: bool = False,
    verbatim: int | None = None,
) -> dict[int, tuple[int, int]] | None:
    """Begin and end of each message's visible text in ``whole``, by the message's index.

    One rendering finds all of them: each message carries a private-use character of its own through the template,
    before and behind its text without the white space around it (of an assistant's, without its reasoning).
    Messages without text, and those that the template leaves out or repeats, have no entry.

    Returns:
        None where the borders cannot be found: the template writes another text around them, or the conversation
        uses private-use characters itself.
    """
    if len(messages) >= _MARKS or any(_ANY_MARK.search(text) for m in messages for text in strings(m)):
        return None
    marked = [_marked(message, chr(_FIRST_MARK + number)) for number, message in enumerate(messages)]
    try:
        text = renderer.render(marked, tools, generation_prompt=generation_prompt, verbatim=verbatim).text
    except RefusedRow:
        return None
    if _ANY_MARK.sub("", text) != whole.text:
        return None
    places: dict[int, list[int]] = {}
    for removed, match in enumerate(_ANY_MARK.finditer(text)):
        places.setdefault(ord(match.group()) - _FIRST_MARK, []).append(match.start() - removed)
    return {number: (found[0], found[1]) for number, found in places.items() if len(found) == 2}


def _marked(message: Message, mark: str) -> Message:
    """The message with a mark before and behind its visible text."""
    content = message["content"]
    if not content:
        return message
    begin = content.rfind(THINK_END) + len(THINK_END) if message["role"] == "assistant" and THINK_END in content else 0
    answer = content[begin:]
    visible = answer.strip()
    if not visible:
        return message
    begin += len(answer) - len(answer.lstrip())
    end = begin + len(visible)
    return {**message, "content": f"{content[:begin]}{mark}{visible}{mark}{content[end:]}"}


def holds_answers(whole: Rendered, found: Sequence[Turn], turns: Sequence[Message]) -> Mismatch | None:
    """A mismatch where a turn's span does not hold the end of its message's text; None where all do."""
    for turn, message in zip(found, turns, strict=True):
        tail = split_reasoning(message)[1].strip()[-TAIL:]
        if tail not in whole.text[turn.start : turn.end] and not message.get("tool_calls"):
            return Mismatch("a response does not hold its message's text", tail, whole.text[turn.start : turn.end])
    return None


def left_out(
    whole: Rendered, found: Sequence[Turn], turns: Sequence[Message], example: Example, borders: Borders | None
) -> Iterator[str]:
    """Names of the parts that a template leaves out of a conversation without an error: reasoning, tools, turns.

    Args:
        whole: the conversation's text.
        found: its trained turns in the text.
        turns: their messages.
        example: the conversation.
        borders: of the messages' texts, where they are known; the others are looked for.
    """
    spans = [whole.text[turn.start : turn.end] for turn in found]
    if any(split_reasoning(m)[0][-TAIL:] not in span for m, span in zip(turns, spans, strict=True)):
        yield "reasoning"  # as some do in all turns but the last
    if any(split_reasoning(m)[1].strip()[-TAIL:] not in span for m, span in zip(turns, spans, strict=True)):
        yield "text beside a tool call"
    if any(name not in whole.text for tool in example.tools for name in function_names([tool])):
        yield "tools"
    for role in ("system", "user"):
        listed = ((i, message) for i, message in enumerate(example.messages) if message["role"] == role)
        said = ((m["content"] or "").strip()[-TAIL:] for i, m in listed if borders is None or i not in borders)
        if any(text not in whole.text for text in said):
            yield f"a {role} turn"
