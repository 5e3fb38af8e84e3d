"""Fenced code blocks of a model's answer, read as models write them, and the signs by which code is told from prose."""

import ast
import re
import textwrap
import warnings
from dataclasses import dataclass
from typing import Final

PYTHON: Final = frozenset({"", "py", "python", "python2", "python3", "py3", "ipython", "pycon", "code"})
"""Languages of a fence that may hold Python, in lower case."""
SQL: Final = frozenset({"", "sql", "sqlite", "sqlite3", "mysql", "postgresql", "postgres", "code"})
"""Languages of a fence that may hold SQL."""
CODE_START: Final = re.compile(
    r"^(?P<indent>[ \t]*)(?:def |async def |class |import |from \w[\w.]* import |@\w|[A-Za-z_]\w*\s*=[^=])",
    re.MULTILINE,
)
"""The first line of Python among prose."""
QUERY_START: Final = (
    re.compile(
        r"^[ \t]*(?:SELECT\b|WITH\s+(?:RECURSIVE\s+)?[\w\"`\[\]]+\s*(?:\([^)]*\)\s*)?AS\s*\()",
        re.IGNORECASE | re.MULTILINE,
    ),
    re.compile(r"\b(?:SELECT\b|WITH\s+(?:RECURSIVE\s+)?[\w\"`\[\]]+\s*(?:\([^)]*\)\s*)?AS\s*\()"),
    re.compile(r"\b(?:SELECT|WITH)\b", re.IGNORECASE),
)
"""Beginnings of a query, the surest first."""

_OPENING: Final = re.compile(r"(?P<before>(?:(?!```|~~~).)*)(?P<fence>`{3,}|~{3,})(?P<info>[^`~]*)\Z")
_FENCE: Final = re.compile(r"`{3,}|~{3,}")
_LONE_FENCE: Final = re.compile(r"[`~]{3,}[ \t]*\r?$", re.MULTILINE)
_ONE_LINE: Final = re.compile(r"[^`]*```(?:(?:python3?|py|sql|sqlite)[ \t]+)?(?P<code>[^`]+)```", re.IGNORECASE)
_LIST_MARK: Final = re.compile(r"(?:[-*+]|\d{1,3}[.)])(?=\s)")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of Markdown.

    Attributes:
        language: its info string in lower case; empty where there is none.
        text: its lines, without the indent of its fence.
        closed: False where the text ends before the block does.
    """

    language: str
    text: str
    closed: bool


def blocks(text: str) -> list[Block]:
    r"""The fenced blocks of a text, in order.

    Read as models write them: fences of backticks or tildes, in list items and quotes, with ``\r\n``, behind words on
    the same line, closed by a fence with words behind it or at the end of a code line, and blocks of one line.
    """
    found: list[Block] = []
    opened: tuple[str, str, str] | None = None
    body: list[str] = []

    def close(closed: bool) -> None:
        if opened is not None:
            found.append(Block(opened[2], "".join(body), closed))
        body.clear()

    for line in _with_lost_fence(text).splitlines(keepends=True):
        bare = line.rstrip("\r\n")
        if opened is None:
            opened = _opening(bare)
            single = _ONE_LINE.match(bare) if opened is None else None
            if single:
                found.append(Block("", f"{single['code']}\n", closed=True))
            continue
        indent, fence, _ = opened
        content = _without_indent(line, indent)
        if _closes(content, fence):
            close(closed=True)
            # "```python" right behind code: the one before was never closed.
            following = _opening(bare)
            opened = following if following and following[2] and following[2] in PYTHON | SQL else None
        elif content.rstrip().endswith(fence) and not content.strip().startswith(fence) and fence[0] == "`":
            body.append(f"{content.rstrip().removesuffix(fence)}\n")
            close(closed=True)
            opened = None
        else:
            body.append(content)
    if opened is not None:
        close(closed=False)
    return found


def _with_lost_fence(text: str) -> str:
    """The text with the opening fence that a prompt may have held, where it begins with code that a lone fence ends."""
    fences = list(_FENCE.finditer(text))
    before = text[: fences[0].start()] if fences else ""
    if len(fences) % 2 == 0 or not before.strip() or not _LONE_FENCE.match(text, fences[0].start()):
        return text
    if before.rstrip(" \t")[-1:] != "\n":
        return text
    if parses(textwrap.dedent(before)):
        return f"```\n{text}"
    start = CODE_START.search(before) or QUERY_START[0].search(before)
    return text if start is None else f"{text[: start.start()]}```\n{text[start.start() :]}"


def _opening(line: str) -> tuple[str, str, str] | None:
    """Indent, fence and language of a line that opens a block; None where it opens none."""
    match = _OPENING.match(line)
    if match is None:
        return None
    # A list item's mark counts as indent, a quote's is taken off each line.
    indent = _LIST_MARK.sub(lambda mark: " " * len(mark[0]), match["before"], count=1)
    words = match["info"].split()
    language = words[0].strip("{}.").lower() if words else ""
    if indent.strip(" \t>"):
        # Behind words only what is clearly a block: "Here it is: ```python".
        return ("", match["fence"], language) if len(words) < 2 and language in PYTHON | SQL else None
    return indent, match["fence"], language


def _without_indent(line: str, indent: str) -> str:
    """A line without at most the indent of its block's fence."""
    kept = line
    for mark in indent:
        if kept[:1] not in (" ", "\t", mark):
            break
        kept = kept[1:]
    return kept


def _closes(line: str, fence: str) -> bool:
    """True for a line that ends the block: a fence after at most three blanks; a docstring's own fence has more."""
    bare = line.lstrip(" ")
    return len(line) - len(bare) <= 3 and bare.startswith(fence)


def unclosed_block(text: str) -> bool:
    """True where the last fenced block is never closed, as in an answer that was cut off."""
    found = blocks(text)
    return bool(found) and not found[-1].closed


def parses(source: str) -> bool:
    """True for a text that is Python code."""
    try:
        # Nothing is executed; warnings about odd escapes in the text are not ours to show.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True
