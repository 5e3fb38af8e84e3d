r"""Numbers in a model's answer: their value however they are written, and the one that is the answer.

Read are thousands by comma, space, apostrophe or point, decimal commas where nothing else is possible, fractions
(``1/2``, ``2 1/2``, ``\frac{1}{2}``, a vulgar fraction), percentages, scientific notation, thousand to trillion, signs
of every sort, full-width and other digits, currency signs and units.
"""

import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from tokensieve.tasks.answer_text import boxed, statements, without_markdown
from tokensieve.types import Outcome, Verdict

_DIGITS: Final = 1000
"""Longer runs of digits are no answer, and slow to compare."""

_BASE: Final = 10**6
"""Powers of larger numbers are not worked out."""

_SPACES: Final = "\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_INVISIBLE: Final = "\u200b\u200c\u200d\u2060\u2061\u2062\u2063\ufeff\u00ad"
_MINUSES: Final = "\u2010\u2011\u2012\u2013\u2212\ufe63"
_CHARACTERS: Final = {
    **dict.fromkeys(map(ord, _SPACES), " "),
    **dict.fromkeys(map(ord, _INVISIBLE), ""),
    **dict.fromkeys(map(ord, _MINUSES), "-"),
    **{0xFF01 + place: chr(0x21 + place) for place in range(94)},
    **{ord(sign): "/" for sign in "\u2044\u2215"},
    **{ord(sign): "'" for sign in "\u2019\u02bc"},
    **{ord(sign): "\u00d7" for sign in "\u00b7\u22c5\u2219"},
    **{
        ord(digit): f"^{{{value}}}"
        for value, digit in enumerate("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")
    },
    0x066B: ".",
    0x066C: ",",
}
_LATEX: Final = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"<<[^<>\n]{0,200}>>", ""),  # GSM8K's notes to its calculator
        (r"\{,\}", ","),
        (r"\\!|\\(?:left|right|displaystyle)\b", ""),
        (r"\\[,;: ]|~|\\(?:thinspace|quad)\b", " "),
        (r"\\([$%])", r"\1"),
        (r"\\(?:times|cdot)\b", "\u00d7"),
        (r"\\div\b", "/"),
        (r"\\approx\b", "\u2248"),
        (r"\\(?:text|textbf|mathrm|mathbf|mbox)\s{0,3}\{([^{}]{0,200})\}", r" \1 "),
        (r"(\d)\s{0,3}\\[dtc]?frac(?=[\s{\d])", r"\1 \\frac"),
        (
            r"\\[dtc]?frac\s{0,3}\{\s{0,3}(-?\d[\d.,]{0,99})\s{0,3}\}\s{0,3}\{\s{0,3}(\d[\d.,]{0,99})\s{0,3}\}",
            r"\1/\2 ",
        ),
        (r"\\[dtc]?frac\s{0,3}(\d)\s{0,3}(\d)", r"\1/\2 "),
        (r"\\[dtc]?frac\s{0,3}\{\s{0,3}(-?\d{1,99})\s{0,3}\}\s{0,3}(\d)", r"\1/\2 "),
        (r"\\[dtc]?frac\s{0,3}(\d)\s{0,3}\{\s{0,3}(\d{1,99})\s{0,3}\}", r"\1/\2 "),
        (r"(?<=\d)_(?=\d{3}(?!\d))", ""),
        (r"(?<![^\W_])_{1,3}(?=[-+$\d])", " "),
    )
)
_NUMBER: Final = re.compile(
    r"""(?<![\^_])(?<![\^_]\{)(?<!\d\.)(?:(?<![A-Za-z0-9_])|(?<=USD)|(?<=EUR)|(?<=Rs))
    (?P<sign>(?<![A-Za-z0-9_)\]}%])[-+]
        |(?:^|(?<=[=:($\u2248])|(?<=[=:($\u2248]\ )|(?<=\bis\ ))[-+]\ {1,2}
        |\bnegative\ |(?:^|(?<=\bis\ ))minus\ )?
    (?:[$\u20ac\u00a3\u00a5\u20b9]\ ?)?(?P<inner>-(?=\d))?
    (?:(?P<mixed>\d{1,99}+)\s{1,3}(?=\d++\s{0,3}/\s{0,3}\d))?
    (?:
        (?P<power>10)(?=\s?\^)
        |(?<!\d,)(?P<european>\d{1,3}(?:\.\d{3})++,\d{1,2}(?![\d,])|\d{1,3}(?:\.\d{3}){2,}+(?![.,]?\d))
        |(?<!\d,)(?P<grouped>(?!0,)(?:\d{1,3}(?:,\d{3})++|\d{1,2}(?:,\d{2}(?=,))++,\d{3})(?:\.\d++)?(?!,?\d))
        |(?<!\d,)(?P<spaced>\d{1,3}(?P<by>[\ '])\d{3}(?:(?P=by)\d{3})*+(?:[.,]\d++)?(?!['.]?\d|-\w|\s{0,3}/\s{0,3}\d))
        |(?<!\d,)(?P<comma>\d++,\d++(?![.,]?\d))
        |(?P<plain>\d++(?:\.\d++)?|(?<![A-Za-z])\.\d++)
    )
    (?P<exponent>[eE][-+]?\d{1,3}(?!\w))?
    (?(power)|(?:\^\s?\{?\s?(?P<raised>\d{1,2})(?!\d)\s?\}?)?)
    (?:\s{0,3}/\s{0,3}(?P<below>\d[\d,]{0,99}(?:\.\d{1,99})?))?
    (?:(?(power)|\s{0,3}(?:\u00d7|x|\*)\s{0,3}10)\s?\^\s?\{?\s?(?P<ten>[-+]?\d{1,3})(?!\d)\s?\}?)?
    (?:\s{0,3}(?P<percent>%|per\ ?cent\b)
        |\s{0,3}(?P<scale>thousand|million|billion|trillion)\b
        |(?P<kilo>[kK])\b(?!\S*/))?""",
    re.VERBOSE,
)
_SCALES: Final = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

_UNIT: Final = (
    r"[ )\]}$]{0,3}(?:(?!(?:where|when|if|since|because|with|for|as|so|and|or)\b)[A-Za-z\u20ac]{2,20}\.? ?){0,3}"
    r"[ )\]}$]{0,3}"
)
_OPERATOR: Final = re.compile(
    rf"{_UNIT}(?:[-+*\u00d7/\u00f7x^]|\b(?:plus|minus|times|(?:multiplied|divided) by)\b)"
    r"[ ({\[$\u20ac\u00a3]{0,4}|\("
)
_SHARE_OF: Final = re.compile(r"\s{1,3}of\s{1,3}[$\u20ac\u00a3]?")
_EQUALS: Final = re.compile(rf"{_UNIT}(?:=>?|\u2248|\u2192|->|\bequals\b)[ ({{\[$\u20ac\u00a3]{{0,4}}")
_OR: Final = re.compile(
    rf"(?:{_UNIT},? ?\bor| to) [ $\u20ac\u00a3]{{0,2}}(?:maybe |perhaps |possibly )?", re.IGNORECASE
)
_NOT: Final = re.compile(r"\b(?:not|never|n't)\s{1,3}(?:be\s)?$", re.IGNORECASE)

_HASHES: Final = re.compile(r"^.*?####[ \t]*([^\n]*)", re.MULTILINE)
_LEAD: Final = re.compile(
    r"[\s:*_`>(\[$\\=]*(?:(?:so|thus|therefore),?\s)?(?:(?:the\s)?(?:final\s)?answer(?:\sis)?[\s:*_=]*)?[-+$\u20ac\u00a3(\[\\{*=\s]*"
    r"(?:[a-zA-Z]\s?=\s?)?(?=[\d.])",
    re.IGNORECASE,
)
_HEADING: Final = re.compile(
    r"\W*(?:\d+[.):]\s+[A-Za-z]|(?:step|part|case|phase|stage|section|question|problem)\b)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number of a text.

    Attributes:
        written: as the text has it.
        readings: what it may stand for, the likeliest first: 25 % is 25, as benchmarks' golds have percentages, or a
            quarter; 2 million may answer "how many millions".
    """

    written: str
    readings: tuple[Fraction, ...]

    @property
    def value(self) -> Fraction:
        """The likeliest reading."""
        return self.readings[0]

    def equals(self, other: "Number", tolerance: float = 0.0) -> bool:
        """True where both may stand for one value, up to an absolute difference."""
        mine, its = self.readings, other.readings
        if len(mine) > 1 and len(its) > 1:  # both say per cent: 0.25 % is not 25 %
            mine, its = mine[:1], its[:1]
        return any(abs(one - two) <= tolerance for one in mine for two in its)


def parse_number(text: str) -> Number | None:
    """The one number of a text; None where there is none, or more than one."""
    found = numbers(text)
    return found[0] if len(found) == 1 else None


def numbers(text: str) -> list[Number]:
    """Every number of a text, in order."""
    return [number for number, _, _ in _located(_normalized(text))]


def final_number(text: str) -> tuple[Number, str] | None:
    r"""The number that a text gives as its answer, and the rule by which it was found.

    In this order: after the last ``####``, in the last ``\boxed{}``, after the last "the answer is", the last number
    of all. Of a calculation, ``5 + 3 = 8``, its result counts. None where there is no number, or where the place that
    counts leaves a calculation undone or offers several.
    """
    places = (
        ("after ####", _after_hashes(text)),
        ("boxed", boxed(text)),
        ("after 'answer is'", _last_said(text)),
    )
    for rule, place in places:
        located = list(_located(_normalized(place))) if place else []
        if located:
            found = _result(_normalized(place or ""), located)
            return None if found is None else (found, rule)
    found_last = numbers(text)
    return (found_last[-1], "the last number") if found_last else None


def check_number(answer: str, gold: str, *, tolerance: float = 0.0) -> Verdict:
    """Compare the final number by value; ``tolerance`` is the largest absolute difference that counts as equal."""
    expected = parse_number(gold)
    if expected is None:
        return Verdict(Outcome.NOT_JUDGED, reason=f"the gold answer {gold!r} is not one number")
    found = final_number(answer)
    if found is None:
        return Verdict(Outcome.NO_ANSWER, reason="no number, or no single one, in the answer")
    number, rule = found
    if number.equals(expected, tolerance):
        return Verdict(Outcome.CORRECT, number.written, rule)
    return Verdict(Outcome.WRONG, number.written, f"{rule}: expected {gold}")


def _normalized(text: str) -> str:
    """A text with one sort of digit, space, minus and fraction, LaTeX written out."""
    text = without_markdown(html.unescape(text)).translate(_CHARACTERS)
    text = "".join(_plain_character(character) if ord(character) > 127 else character for character in text)
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    return text


def _plain_character(character: str) -> str:
    kind = unicodedata.category(character)
    if kind == "Nd":
        return str(unicodedata.decimal(character))
    if kind == "No" and "\u2044" in (parts := unicodedata.normalize("NFKC", character)):
        return f" {parts.replace(chr(0x2044), '/')} "
    return character


def _located(text: str) -> Iterator[tuple[Number, int, int]]:
    """The numbers of a normalized text, each with where it begins and ends."""
    for match in _NUMBER.finditer(text):
        readings = _readings(match)
        if readings:
            yield Number(match[0].strip(), readings), match.start(), match.end()


def _readings(match: re.Match[str]) -> tuple[Fraction, ...]:
    if len(match[0]) > _DIGITS:
        return ()
    if match["european"]:
        digits = match["european"].replace(".", "").replace(",", ".")
    elif match["spaced"]:
        digits = re.sub(r"[ ']", "", match["spaced"]).replace(",", ".")
    elif match["comma"]:
        digits = match["comma"].replace(",", ".")
    else:
        digits = (match["grouped"] or match["plain"] or "1").replace(",", "")
    value = Fraction(digits + (match["exponent"] or ""))
    if match["raised"]:
        if value > _BASE:
            return ()
        value **= int(match["raised"])
    if match["power"] and not match["ten"]:
        value = Fraction(10)
    if match["below"]:
        below = Fraction(match["below"].replace(",", ""))
        if below == 0:
            return ()
        value /= below
    if match["mixed"]:
        value += Fraction(match["mixed"])
    if match["ten"]:
        value *= Fraction(10) ** int(match["ten"])
    if ((match["sign"] or "").strip() in ("-", "negative", "minus")) != bool(match["inner"]):
        value = -value
    if match["percent"]:
        return value, value / 100
    scale = 1000 if match["kilo"] else _SCALES.get(match["scale"] or "", 1)
    return (value * scale, value) if scale > 1 else (value,)


def _result(text: str, located: list[tuple[Number, int, int]]) -> Number | None:
    """The number that a place gives: the first, or the result of the calculation that begins with it."""
    place = 0
    while place < len(located):
        sides: list[list[Number]] = [[located[place][0]]]
        begin = located[place][1]
        while place + 1 < len(located):
            between = text[located[place][2] : located[place + 1][1]]
            following = located[place + 1][0]
            if _OR.fullmatch(between) and not following.equals(sides[-1][-1]):
                return None
            if _EQUALS.fullmatch(between):
                sides.append([following])
            elif _goes_on(sides[-1][-1], between, following):
                sides[-1].append(following)
            else:
                break
            place += 1
        done = [side[0] for side in sides if len(side) == 1]
        if done and not _NOT.search(text, max(0, begin - 20), begin):
            return done[-1]
        place += 1
    return None


def _goes_on(before: Number, between: str, following: Number) -> bool:
    """True where the text between two numbers makes them one calculation."""
    if _SHARE_OF.fullmatch(between):
        return re.search("[%/]", before.written) is not None
    return _OPERATOR.fullmatch(between) is not None or (not between.strip() and following.written[0] in "-+")


def _after_hashes(text: str) -> str | None:
    """The rest of the last line with ``####`` that is an answer and no heading."""
    marks = list(_HASHES.finditer(text))
    for mark in reversed(marks):
        content, is_last = mark[1], not text[mark.end() :].strip()
        heading = _HEADING.match(content) is not None
        if content.strip() and ((is_last and not heading) or (_LEAD.match(content) and (is_last or not heading))):
            return content
    return None


def _last_said(text: str) -> str | None:
    said = statements(text)
    return said[-1] if said else None
