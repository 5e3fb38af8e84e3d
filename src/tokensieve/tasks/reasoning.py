"""The answer behind a model's reasoning, for every way in which models mark reasoning."""

import re
from collections.abc import Callable
from typing import Final

from tokensieve.types import Outcome, Verdict

_TAGS: Final = (
    "think", "thinking", "thought", "thoughts", "reasoning", "reason", "analysis", "reflection", "scratchpad",
    "seed:think", "longcat_think", "inner_monologue", "cot", "chain_of_thought", "thought_process", "rationale",
)  # fmt: skip
"""Names of ``<think>`` and its like, in any case."""
_NAME: Final = "|".join(_TAGS)

# A tag in quotes or backticks is spoken of, not used; three backticks are the fence of a code block beside it.
_UNQUOTED: Final = r"(?<!['\"\\])(?:(?<=```)|(?<!`))"
_NOT_QUOTED: Final = r"(?!['\"]|`(?!``))"
_OPEN: Final = re.compile(
    rf"{_UNQUOTED}(?:<(?:{_NAME})\s*>|\[THINK\]|\u25c1think\u25b7|<\|begin_of_thought\|>|<\|START_THINKING\|>"
    rf"|<\|channel>thought|<unused94>thought|<\|inner_prefix\|>){_NOT_QUOTED}",
    re.IGNORECASE,
)
_CLOSE: Final = re.compile(
    rf"{_UNQUOTED}(?:</(?:{_NAME})\s*>|\[/THINK\]|\u25c1/think\u25b7|<\|end_of_thought\|>|<\|END_THINKING\|>"
    rf"|<channel\|>|<unused95>|<\|inner_suffix\|>){_NOT_QUOTED}",
    re.IGNORECASE,
)
_CHANNEL: Final = re.compile(r"<\|channel\|>\s*(\w+)[^<]{0,100}(?:<\|constrain\|>[^<]{0,100})?<\|message\|>")
_END_OF_MESSAGE: Final = re.compile(r"<\|(?:end|return|call|start)\|>")
# gpt-oss's channels, where its special tokens were left out of the text.
_BARE_CHANNELS: Final = re.compile(r"\A\s*analysis.*assistant\s?final", re.DOTALL)
_ENVELOPE: Final = re.compile(
    r"\s*(?:<answer>(?P<tags>(?:(?!</answer>).)*)(?:</answer>|\Z)"
    r"|<\|begin_of_box\|>(?P<box>.*?)(?:<\|end_of_box\|>|\Z)"
    r"|<\|begin_of_solution\|>(?P<solution>.*?)(?:<\|end_of_solution\|>|\Z)"
    r"|<\|START_RESPONSE\|>(?P<response>.*?)(?:<\|END_RESPONSE\|>|\Z))\s*",
    re.DOTALL | re.IGNORECASE,
)
_BLANK_LINES: Final = re.compile(r"\A(?:[ \t]*\r?\n)+")


def behind_reasoning(text: str) -> str | None:
    """The part of a response that answers, without the reasoning before it.

    Known are ``<think>``, ``<thinking>``, ``<reasoning>`` and their like, ``[THINK]``, the channels of gpt-oss, and the
    marks of Apertus, Command A, Gemma, Kimi, MedGemma and OpenThinker. A closing mark alone will do, since many chat
    templates put the opening one into the prompt; the last one counts, since reasoning may speak of it. An ``<answer>``
    around all that is left is taken off, and so is GLM-V's box. A text without reasoning comes back as it is.

    Returns:
        The answer, white space at its ends kept but for blank lines right behind the reasoning; None where reasoning
        was begun and did not end.
    """
    if "<|channel|>" in text:
        return _final_channel(text)
    bare = _BARE_CHANNELS.match(text)
    if bare:
        return _unwrapped(text[bare.end() :])
    closed = [mark.end() for mark in _CLOSE.finditer(text)]
    rest = text[closed[-1] :] if closed else text
    if _OPEN.search(rest):
        return None
    return _unwrapped(_BLANK_LINES.sub("", rest) if closed else rest)


def judge_behind_reasoning(answer: str, judge: Callable[[str], Verdict]) -> Verdict:
    """The verdict on what stands behind an answer's reasoning; ``no_answer`` where the reasoning does not end.

    Args:
        answer: a raw response.
        judge: judges the rest.
    """
    final = behind_reasoning(answer)
    if final is None:
        return Verdict(Outcome.NO_ANSWER, reason="the reasoning does not end, so no answer stands behind it")
    return judge(final)


def _final_channel(text: str) -> str | None:
    """The last message of gpt-oss's final channel; None where there is none yet."""
    messages = [mark for mark in _CHANNEL.finditer(text) if mark[1] == "final"]
    if not messages:
        return None
    begin = messages[-1].end()
    end = _END_OF_MESSAGE.search(text, begin)
    return text[begin : end.start() if end else len(text)]


def _unwrapped(text: str) -> str:
    """A text without an ``<answer>`` around all of it."""
    around = _ENVELOPE.fullmatch(text)
    if around is None:
        return text
    return next(part for part in around.groups() if part is not None)
