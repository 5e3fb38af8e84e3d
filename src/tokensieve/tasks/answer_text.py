"""The part of a model's text that states its answer: behind its reasoning, in boxes, after "the answer is"; formulas.

A function here takes a text and gives the part that counts, or None where there is none; nothing is run.
"""

import re
import unicodedata
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

_BOX: Final = re.compile(r"\\(?:boxed|fbox|framebox)\s*|(?:\x08o|(?<![\\\w])bo)xed\s*(?=\{)")
"""A box, also one whose backslash was lost or, with its letter, taken for a backspace."""
_BETWEEN_BOXES: Final = re.compile(
    r"(?:[\s,;$&]|\\[,;:!()\[\]]|\\q?quad\b|\\(?:text|mbox|mathrm)\s*\{\s*(?:and|or)?\s*\}|(?:and|or)\b)+"
)
_FINALLY: Final = re.compile(r"final\s+answer\s*(?:is|:|=)", re.IGNORECASE)
_STATED: Final = re.compile(
    r"\banswers?(?:\s+(?:to|for|of)\s[^\n.:]{1,60}?)?[\s)\]]{0,3}"
    r"(?:(?:is|was|are|equals|becomes|(?:would|should|must|will|has\sto)\sbe)\b|:|=|\u2192|->)"
    r"(?!\s{1,3}(?:found|obtained|derived|reached)\b)"
    r"[\s:]{0,9}(?:(?:therefore|thus|then|simply|approximately|about|clearly|indeed|likely|most likely)\b[\s,:]{1,3})?"
    r"\s*(?=(?P<stated>[^\n]{1,200}))",
    re.IGNORECASE,
)
_SUPERSCRIPTS: Final = dict(
    zip("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207b\u207a", "0123456789-+", strict=True)
)
_COMMANDS: Final = {
    "\u00d7": "times", "\u00b7": "cdot", "\u22c5": "cdot", "\u00f7": "div", "\u221e": "infty",
    "\u2264": "le", "\u2265": "ge", "\u2260": "ne", "\u222a": "cup", "\u2229": "cap", "\u2208": "in",
    "\u2205": "emptyset", "\u03c0": "pi", "\u03b8": "theta", "\u03b1": "alpha", "\u03b2": "beta",
}  # fmt: skip
_IN_LATEX: Final = {
    **{ord(sign): f"\\{command} " for sign, command in _COMMANDS.items()},
    **dict.fromkeys(map(ord, "\u00b0\u00ba\u02da"), "^\\circ "),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2212\ufe63"), "-"),
    **dict.fromkeys(map(ord, "\u00a0\u2007\u2009\u200a\u202f\u205f\u3000"), " "),
    **dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff"), ""),
    **dict.fromkeys(map(ord, "\u2044\u2215"), "/"),
    **{0xFF01 + place: chr(0x21 + place) for place in range(94)},
}
"""LaTeX for the signs of plain text, by code point."""
_ROOT: Final = re.compile(r"\u221a\s?(?:\(([^()]{1,200})\)|\{([^{}]{1,200})\}|(\d+(?:\.\d+)?|[A-Za-z]))")
_GROUPED: Final = re.compile(r"(?<![\d.,^])\d{1,3}(?:(?:\\[,;: !]|~| |\{,\}|')\d{3}){1,9}(?![\d.,]*\d)")
_MIXED: Final = re.compile(r"(?<![\d.^}])(\d{1,9}) (\d{1,9})/(\d{1,9})(?![\d.])")
_UNIT: Final = re.compile(
    r"(?<=\d)\s{1,3}((?:(?:square|cubic|sq\.?|cu\.?) )?(?:[cmk]m|ft|inch(?:es)?|f[oe]{2}t|units?|met(?:er|re)s?|"
    r"miles?|yards?|degrees?|dollars?|cents?|hours?|minutes?|seconds?|days?|weeks?|years?|kg|grams?|percent)\b)(?=\s?(?:[\^}$\\]|\.?\s*\Z))"
)
_RAISED: Final = re.compile(f"[{''.join(_SUPERSCRIPTS)}]+")
_MARKDOWN: Final = re.compile(r"(?<![\w)])(?:\*\*\*?|__)|(?:\*\*\*?|__)(?![\w(])|`+")
_SPACE_RUN: Final = re.compile(r"\s{2,}")
_BULLET: Final = re.compile(r"[-*\u2022]\s+")


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


def without_markdown(text: str) -> str:
    """A text without bold marks and backticks; ``2**3`` stays."""
    return _MARKDOWN.sub("", text)


def statements(text: str) -> list[str]:
    """The texts behind each "the answer is", "Answer:" and the like, to the line's end, at most 200 characters each.

    In order. ``text`` may be Markdown. Where the answer follows on a line of its own, its bullet is taken off.
    """
    # Long runs of white space say nothing, and several patterns in a row would try them in every way.
    plain = _SPACE_RUN.sub(lambda run: "\n" if "\n" in run[0] else " ", without_markdown(text))
    found = []
    for match in _STATED.finditer(plain):
        begin = match.start("stated")
        alone = "\n" in plain[match.start() : begin]
        found.append(_BULLET.sub("", match["stated"], count=1) if alone else match["stated"])
    return found


def latex_of_signs(text: str) -> str:
    r"""A text with LaTeX for signs that math-verify cannot read: degrees, roots, powers, fractions, minus signs.

    ``90°`` is ``90^\circ``, ``2√3`` is ``2\sqrt{3}``, ``½`` is ``\frac{1}{2}``.
    """
    if not text.isascii():
        text = _ROOT.sub(lambda root: f"\\sqrt{{{root[1] or root[2] or root[3]}}}", text)
        text = _RAISED.sub(lambda run: f"^{{{''.join(_SUPERSCRIPTS[sign] for sign in run[0])}}}", text)
        text = "".join(map(_vulgar, text)).translate(_IN_LATEX)
    text = re.sub(r"\s?\\degrees?\b", r"^\\circ", text)
    text = _GROUPED.sub(lambda digits: re.sub(r"\D", "", digits[0]), text)
    text = _MIXED.sub(r"\1\\frac{\2}{\3}", text)
    return _UNIT.sub(lambda unit: f"\\text{{ {unit[1].strip()}}}", text)


def _vulgar(character: str) -> str:
    parts = unicodedata.normalize("NFKC", character).split("\u2044") if ord(character) > 127 else []
    return f"\\frac{{{parts[0]}}}{{{parts[1]}}}" if len(parts) == 2 and all(parts) else character


def boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{…}`` (or ``\fbox``), braces balanced; None where it is never closed."""
    opened = [match.end() for match in _BOX.finditer(text)]
    found = _content(text, opened[-1]) if opened else None
    return None if found is None else found[0]


def boxed_together(text: str) -> str | None:
    r"""The contents of the last boxes, where nothing but commas, ``and`` and the like stands between them.

    ``\boxed{1} and \boxed{-2}`` is ``1, -2``. None where there is one box, or none.
    """
    parts: list[str] = []
    begin = len(text)
    for match in reversed(list(_BOX.finditer(text))):
        found = _content(text, match.end())
        if found is None or (parts and not _BETWEEN_BOXES.fullmatch(text, found[1], begin)):
            break
        parts.insert(0, found[0])
        begin = match.start()
    return ", ".join(parts) if len(parts) > 1 else None


def said_after_boxes(text: str) -> str | None:
    """A final answer that is named behind the last box, from "final answer is" on; None where there is none."""
    opened = [match.end() for match in _BOX.finditer(text)]
    found = list(_FINALLY.finditer(text, opened[-1])) if opened else []
    return text[found[-1].end() :] if found else None


def _content(text: str, begin: int) -> tuple[str, int] | None:
    """Content of the box that opens here, and the index behind it; None where it is never closed."""
    if not text.startswith("{", begin):
        match = re.compile(r"[^\s$.,]+").match(text, begin)
        return (match[0], match.end()) if match else None
    depth = 0
    for place in range(begin, len(text)):
        character = text[place]
        escaped = place > begin and text[place - 1] == "\\"
        if character in "{}" and not escaped:
            depth += 1 if character == "{" else -1
            if depth == 0:
                return text[begin + 1 : place].strip(), place + 1
    return None


def plain_math(text: str) -> str:
    """A formula with what never changes its meaning taken out, for comparison as text."""
    for before, after in (
        ("\\left", ""), ("\\right", ""), ("\\!", ""), ("\\,", ""), ("\\;", ""), ("\\ ", ""), ("~", ""), ("$", ""),
        ("\\dfrac", "\\frac"), ("\\tfrac", "\\frac"), ("\\%", "%"), ("^{\\circ}", ""), ("^\\circ", ""),
        ("\\cdot", "*"), ("{,}", ","),
    ):  # fmt: skip
        text = text.replace(before, after)
    text = re.sub(r"\\(?:text|mbox|mathrm|textbf)\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\\frac(\d)(\d)", r"\\frac{\1}{\2}", text)
    text = re.sub(r"\\sqrt(\d)", r"\\sqrt{\1}", text)
    return re.sub(r"\s+", "", text).rstrip(".")
