"""Finding the answer in a model's text, and comparing what was found: numbers, letters, boxes, code, queries.

Every function here takes a text and gives the part that counts, or None where there is none; nothing is run.
"""

import ast
import re
import warnings
from collections.abc import Mapping, Sequence
from fractions import Fraction

_DIGITS = 1000
"""Longer runs of digits are no answer, and slow to compare."""

_PROSE_LINES = 100
"""Lines behind unfenced code that are tried as prose; each try parses all that stands before."""

_NUMBER = r"[-+\u2212]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d{1,3}(?!\w))?"
_FRACTION = rf"(?P<whole>{_NUMBER})(?:\s{{0,3}}(?P<slash>/)\s{{0,3}}(?P<below>\d[\d,]*(?:\.\d+)?))?"
_QUANTITY = re.compile(
    rf"(?<![\w.])(?:(?P<mixed>[-\u2212]?\d++)\s{{1,3}}(?=\d++\s{{0,3}}/\s{{0,3}}\d))?{_FRACTION}(?P<percent>\s{{0,3}}\\?%)?"
)
_LATEX_FRACTION = re.compile(r"(?<!\d)([-\u2212]?\d*+)\s{0,3}\\[dt]?frac\s*\{?(-?\d+)\}?\s*\{?(\d+)\}?")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
_BETWEEN_BOXES = re.compile(
    r"(?:[\s,;$&]|\\[,;:!()\[\]]|\\q?quad\b|\\(?:text|mbox|mathrm)\s*\{\s*(?:and|or)?\s*\}|(?:and|or)\b)+"
)
_FINALLY = re.compile(r"final\s+answer\s*(?:is|:|=)", re.IGNORECASE)
_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_PAPER_HASHES = re.compile(r"#### (\-?[0-9\.\,]+)")
_SAID = re.compile(r"(?:final\s+)?answer\s*(?:is|was|:|=|would be|to .{1,60}? is)\s*:?\s*(.{1,200})", re.IGNORECASE)
_FENCE = re.compile(
    r"^[ \t]*(```+|~~~+)[ \t]*([\w+#.-]*)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.MULTILINE | re.DOTALL
)
_MARKED = re.compile(
    r"^[ \t]*\[(?:BEGIN|PYTHON)\][ \t\r]*\n(.*?)(?:^[ \t]*\[(?:DONE|/PYTHON)\]|\Z)", re.MULTILINE | re.DOTALL
)
_CODE_START = re.compile(
    r"^(?:def |async def |class |import |from \w[\w.]* import |@\w|[A-Za-z_]\w*\s*=[^=])", re.MULTILINE
)
_QUERY_START = re.compile(r"\b(?:SELECT|WITH)\b", re.IGNORECASE)


def parse_number(text: str) -> Fraction | None:
    r"""A number's exact value: commas, currency signs, units, fractions, mixed numbers and percentages are read.

    ``$1,234.50``, ``1/2``, ``2 1/2``, ``\frac{3}{4}``, ``12 apples``, ``25%`` (which is 25: a benchmark's gold
    says percentages as plain numbers). None where there is no number or more than one.
    """
    found = numbers(text)
    return found[0][1] if len(found) == 1 else None


def numbers(text: str) -> list[tuple[str, Fraction]]:
    """Every number of a text as written and as a value, in order."""
    plain = _LATEX_FRACTION.sub(r" \1 \2/\3 ", text).replace("{,}", ",").replace("\\!", "").replace("\u2044", "/")
    found: list[tuple[str, Fraction]] = []
    for match in _QUANTITY.finditer(plain.replace("\\$", "$")):
        value = _value(match)
        if value is not None:
            found.append((match[0].strip(), value))
    return found


def _value(match: re.Match[str]) -> Fraction | None:
    whole = match["whole"].replace(",", "").replace("\u2212", "-")
    if not any(character.isdigit() for character in whole):
        return None
    if len(whole) > _DIGITS:
        return None
    value = Fraction(whole)
    if match["slash"]:
        below = Fraction(match["below"].replace(",", ""))
        if below == 0:
            return None
        value /= below
    if match["mixed"]:
        mixed = Fraction(match["mixed"].replace("\u2212", "-"))
        value = mixed - value if match["mixed"][0] in "-\u2212" else mixed + value
    return value


def number_after_hashes(text: str) -> str | None:
    """What follows ``####``, by the rule of GSM8K's authors: digits, points and commas after one space."""
    match = _PAPER_HASHES.search(text)
    return match[1].replace(",", "") if match else None


def final_number(text: str) -> tuple[str, Fraction, str] | None:
    r"""The number that a text gives as its answer, its value, and the rule by which it was found.

    In this order: after the last ``####``, in the last ``\boxed{}``, after the last "the answer is", the last
    number of all.
    """
    hashes = _HASHES.findall(text)
    boxes = boxed(text)
    said = _SAID.findall(text)
    places = [
        ("after ####", hashes[-1] if hashes else None, 0),
        ("boxed", boxes, -1),
        ("after 'answer is'", said[-1] if said else None, 0),
        ("the last number", text, -1),
    ]
    for rule, place, which in places:
        found = numbers(place) if place else []
        if found:
            written, value = found[which]
            return written, value, rule
    return None


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
    """What stands in the box that opens here, and where it ends."""
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


def choice(text: str, labels: Sequence[str], choices: Mapping[str, str] | None = None) -> str | None:
    """The label that a text chooses among several; None where it chooses none, or several without a last word.

    In this order: the label alone, boxed, after the last "answer is", at the start, a choice's own words, the one
    label in brackets, the one label that stands alone.
    """
    # Long runs of white space say nothing, and several patterns in a row would try them in every way.
    text = re.sub(r"\s{2,}", lambda run: "\n" if "\n" in run[0] else " ", text)
    one = "|".join(re.escape(label) for label in labels)
    stripped = text.strip().strip("*_`()[].: \n")
    if stripped in labels:
        return stripped
    ways = (
        rf"\\boxed\{{\s*(?:\\text\{{)?\(?({one})\b",
        rf"(?i:answer|choice|option)\s*(?i:is|was|:|=)*\s*:?\s*(?i:option|choice)?\s*[*_`(\[\"']*({one})(?![\w'])",
    )
    for way in ways:
        found = re.findall(way, text)
        if found:
            return str(found[-1])
    start = re.match(rf"[\s*_`(\[\"']*({one})(?:[).:\]*_]|\s*$|\s*\n)", text)
    if start:
        return start[1]
    said = {label for label, words in (choices or {}).items() if words.strip(" .").lower() == stripped.lower()}
    if len(said) == 1:
        return said.pop()
    for way in (rf"[(\[]({one})[)\]]", rf"(?<![\w'])({one})(?![\w'])(?!\s+[a-z])"):
        several = set(re.findall(way, text))
        if len(several) == 1:
            return str(several.pop())
    return None


def code(text: str, names: Sequence[str] = ()) -> str | None:
    """The Python code of an answer.

    The last fenced block that defines one of ``names``, else all fenced Python blocks together, else what stands
    between the marks of MBPP's published prompts (``[BEGIN]`` and ``[DONE]``, or ``[PYTHON]``), else the whole text
    where it is code, else the longest run of lines that is.
    """
    blocks = [(match[2].lower(), match[3]) for match in _FENCE.finditer(text)]
    defining = [
        block for _, block in blocks if any(re.search(rf"^\s*(?:async )?def {name}\b", block, re.M) for name in names)
    ]
    if defining:
        return defining[-1]
    python = [block for language, block in blocks if language in {"", "py", "python", "python3"}]
    if python:
        return "\n".join(python)
    if parts := _MARKED.findall(text):
        text = parts[-1]
    if parses(text):
        return text if text.strip() else None
    start = _CODE_START.search(text)
    if start is None:
        return None
    lines = text[start.start() :].splitlines(keepends=True)
    for end in range(len(lines), max(0, len(lines) - _PROSE_LINES), -1):
        part = "".join(lines[:end])
        if parses(part):
            return part
    return "".join(lines)


def unclosed_block(text: str) -> bool:
    """Whether a fenced block is begun and never closed, as where an answer was cut off."""
    return len(re.findall(r"^[ \t]*(?:```|~~~)", text, re.MULTILINE)) % 2 == 1


def parses(source: str) -> bool:
    """Whether a text is Python code."""
    try:
        # Nothing is executed; warnings about odd escapes in the text are not ours to show.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def query(text: str) -> str | None:
    """The SQL query of an answer: the last fenced block, else the text from its first SELECT or WITH on."""
    blocks = [match[3] for match in _FENCE.finditer(text) if match[2].lower() in {"", "sql", "sqlite"}]
    body = blocks[-1] if blocks else text
    start = _QUERY_START.search(body)
    if start is None:
        return None
    found = body[start.start() :].strip()
    statement, semicolon, _ = found.partition(";\n")
    return statement + semicolon.strip()
