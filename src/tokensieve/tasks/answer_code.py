"""The Python code or SQL query of a model's answer: fenced blocks, marks, or code among prose. Nothing is run."""

import ast
import builtins
import re
import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

PROSE_LINES: Final = 100
"""Lines behind unfenced code that are tried as prose; each try parses all that stands before."""

_PYTHON: Final = frozenset({"", "py", "python", "python2", "python3", "py3", "ipython", "pycon", "code"})
_SQL: Final = frozenset({"", "sql", "sqlite", "sqlite3", "mysql", "postgresql", "postgres", "code"})

_OPENING: Final = re.compile(r"(?P<before>(?:(?!```|~~~).)*)(?P<fence>`{3,}|~{3,})(?P<info>[^`~]*)\Z")
_FENCE: Final = re.compile(r"`{3,}|~{3,}")
_LONE_FENCE: Final = re.compile(r"[`~]{3,}[ \t]*\r?$", re.MULTILINE)
_LANGUAGE_LINE: Final = re.compile(r"\A\s*(?:python3?|py)[ \t]*\r?\n", re.IGNORECASE)
INVISIBLE: Final = {**dict.fromkeys((0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF)), 0xA0: " ", 0x202F: " ", 0x3000: " "}
_ONE_LINE: Final = re.compile(r"[^`]*```(?:(?:python3?|py|sql|sqlite)[ \t]+)?(?P<code>[^`]+)```", re.IGNORECASE)
_LIST_MARK: Final = re.compile(r"(?:[-*+]|\d{1,3}[.)])(?=\s)")
_MARKED: Final = re.compile(
    r"^[ \t]*\[(?:BEGIN|PYTHON)\][ \t\r]*\n(.*?)(?:^[ \t]*\[(?:DONE|/PYTHON)\]|\Z)", re.MULTILINE | re.DOTALL
)
_CODE_START: Final = re.compile(
    r"^(?P<indent>[ \t]*)(?:def |async def |class |import |from \w[\w.]* import |@\w|[A-Za-z_]\w*\s*=[^=])",
    re.MULTILINE,
)
_PROMPT: Final = re.compile(r"^[ \t]*(?:>>>|\.\.\.) ?", re.MULTILINE)
_NOTEBOOK: Final = re.compile(r"^[ \t]*[!%].*$", re.MULTILINE)
"""A notebook's commands to the shell and to IPython: ``!pip install``, ``%matplotlib inline``."""
_QUERY_START: Final = (
    re.compile(
        r"^[ \t]*(?:SELECT\b|WITH\s+(?:RECURSIVE\s+)?[\w\"`\[\]]+\s*(?:\([^)]*\)\s*)?AS\s*\()",
        re.IGNORECASE | re.MULTILINE,
    ),
    re.compile(r"\b(?:SELECT\b|WITH\s+(?:RECURSIVE\s+)?[\w\"`\[\]]+\s*(?:\([^)]*\)\s*)?AS\s*\()"),
    re.compile(r"\b(?:SELECT|WITH)\b", re.IGNORECASE),
)
_QUERY_SPAN: Final = re.compile(r"(?<!`)`(?!`)\s*((?:SELECT|WITH)\b[^`]*)`(?!`)", re.IGNORECASE)
_QUERY_END: Final = re.compile(
    r"\n[ \t]*\r?\n|</\w+>|<\||\n(?=(?:This|It|The|Here|Note|Explanation|In this|We|You|I)\b[^\n]*[a-z.:!]\s*(?:\n|\Z))"
)
_SQL_TOKEN: Final = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|--[^\n]*|/\*.*?\*/|;", re.DOTALL)


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
            opened = following if following and following[2] and following[2] in _PYTHON | _SQL else None
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
    start = _CODE_START.search(before) or _QUERY_START[0].search(before)
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
        return ("", match["fence"], language) if len(words) < 2 and language in _PYTHON | _SQL else None
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


def code(text: str, names: Sequence[str] = ()) -> str | None:
    """The Python code of an answer.

    The last fenced block that defines one of ``names``, with what other blocks define and it uses (so that of two
    versions of a function the later one counts); else all fenced Python blocks together; else what stands between the
    marks of MBPP's published prompts (``[BEGIN]`` and ``[DONE]``, or ``[PYTHON]``); else the whole text where it is
    code; else the longest run of lines that is.

    Args:
        text: the answer.
        names: functions or classes that the code is to define.
    """
    listed = [(block.language, _runnable(block.text)) for block in blocks(text)]
    defining = [place for place, (_, source) in enumerate(listed) if _defines(source, names)]
    defining = [place for place in defining if not _only_sketches(listed[place][1], names)] or defining
    if defining:
        chosen = defining[-1]
        others = [source for place, (_, source) in enumerate(listed) if place != chosen]
        return _completed(listed[chosen][1], others, names)
    python = [source for language, source in listed if language in _PYTHON]
    if python:
        return "\n".join([source for source in python if parses(source)] or python)
    if listed and all(language for language, _ in listed) and not _MARKED.search(text):
        return None
    if parts := _MARKED.findall(text):
        text = parts[-1]
    text = _LANGUAGE_LINE.sub("", text)
    if parses(text):
        return text if text.strip() else None
    text = text.translate(INVISIBLE)
    return text if parses(text) else _among_prose(text)


def _runnable(source: str) -> str:
    """A block's code without an interpreter's prompts, a notebook's commands, and an indent that all of it has."""
    if not parses(source):
        source = source.translate(INVISIBLE)
    if ">>>" in source and not parses(source):
        source = _PROMPT.sub("", "".join(line for line in source.splitlines(keepends=True) if _PROMPT.match(line)))
    if not parses(source) and parses(without := _NOTEBOOK.sub("", source)):
        source = without
    if not parses(source) and parses(textwrap.dedent(source)):
        # A function's body keeps its indent: it is no program by itself, but would be one without it.
        return source if not _CODE_START.search(source) else textwrap.dedent(source)
    return source


def _defines(source: str, names: Sequence[str]) -> bool:
    return any(
        re.search(rf"^\s*(?:(?:async )?def|class) {re.escape(name)}\b|^{re.escape(name)}\s*=[^=]", source, re.MULTILINE)
        for name in names
    )


def _only_sketches(source: str, names: Sequence[str]) -> bool:
    """True where every function of these names has ``...`` or ``pass`` for a body, perhaps behind a docstring."""
    functions = [
        node
        for node in ast.walk(syntax_tree(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in names
    ]
    empty = (ast.Pass, ast.Expr)
    return bool(functions) and all(
        isinstance(part, empty) and (isinstance(part, ast.Pass) or isinstance(part.value, ast.Constant))
        for node in functions
        for part in node.body
    )


def _completed(source: str, others: Sequence[str], names: Sequence[str]) -> str:
    """Code with the imports, functions and values of other blocks that it needs in front of it."""
    provided: dict[str, str] = {}
    for other in others:
        found: dict[str, str] = {}
        for node in syntax_tree(other).body:
            # What a block only shows, a call or a test, is not wanted.
            for name in bound_names(node):
                found[name] = found.get(name, "") + segment(other, node)
        provided |= found
    # "from math import *" may give whatever is missing.
    taken = [provided.pop("*")] if "*" in provided else []
    missing = _missing(source, names) & set(provided)
    while missing:
        part = provided[min(missing)]
        if part not in taken:
            taken.insert(0, part)
        whole = "\n".join([*taken, source])
        missing = {name for name in _missing(whole, names) & set(provided) if provided[name] not in taken}
    return "\n".join([*taken, source]) if taken else source


def bound_names(node: ast.stmt) -> list[str]:
    """The names that a statement at the top of a program defines."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).partition(".")[0] for alias in node.names]
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Try):
        inner = (*node.body, *(one for handler in node.handlers for one in handler.body), *node.orelse, *node.finalbody)
        return list(dict.fromkeys(name for one in inner for name in bound_names(one)))
    if isinstance(node, ast.If) and "__name__" not in ast.dump(node.test):
        return list(dict.fromkeys(name for one in (*node.body, *node.orelse) for name in bound_names(one)))
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return [
            child.id for child in ast.walk(node) if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store)
        ]
    return []


def segment(source: str, node: ast.stmt) -> str:
    """The lines of a statement, its decorators included."""
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return "".join(source.splitlines(keepends=True)[first - 1 : node.end_lineno]).rstrip() + "\n"


def _missing(source: str, names: Sequence[str]) -> set[str]:
    """Names that a program uses, or is to define, and does not define."""
    tree = syntax_tree(source)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    bound = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    bound |= {name for node in ast.walk(tree) if isinstance(node, ast.stmt) for name in bound_names(node)}
    bound |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    return {name for name in used | set(names) if name not in bound and not hasattr(builtins, name)}


def syntax_tree(source: str) -> ast.Module:
    """A program's syntax tree; an empty one where it is no Python."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return ast.Module([], [])


def _among_prose(text: str) -> str | None:
    """The longest run of lines that is code, from the first that looks like it; indented code loses its indent."""
    start = _CODE_START.search(text)
    if start is None:
        return None
    lines = text[start.start() :].splitlines(keepends=True)
    if start["indent"]:
        end = next(
            (n for n, line in enumerate(lines) if line.strip() and not line.startswith(start["indent"])), len(lines)
        )
        lines = [line.removeprefix(start["indent"]) for line in lines[:end]]
    for end in range(len(lines), max(0, len(lines) - PROSE_LINES), -1):
        part = "".join(lines[:end])
        if parses(part):
            return part
    return "".join(lines)


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


def query(text: str) -> str | None:
    """The SQL query of an answer: of the last fenced block that holds one, else from its first SELECT or WITH on.

    It ends at the first semicolon, or, where it is not fenced, at a blank line.
    """
    text = text.translate(INVISIBLE)
    fenced = [block.text for block in blocks(text) if block.language in _SQL]
    spans = _QUERY_SPAN.findall(text) if not fenced else []
    holding = [body for body in (*fenced, *spans) if _query_start(body) is not None]
    body = holding[-1] if holding else _QUERY_END.split(text[_query_start(text) or 0 :], maxsplit=1)[0]
    begin = _query_start(body)
    if begin is None:
        return None
    found = body[begin:].strip()
    for token in _SQL_TOKEN.finditer(found):
        if token[0] == ";":
            return found[: token.end()]
    if not holding:
        found = found.rstrip(" *") if found.count("`") % 2 == 0 else found.rstrip(" *`")
    while found.endswith(")") and found.count(")") > found.count("("):
        found = found[:-1].rstrip()
    return found


def _query_start(text: str) -> int | None:
    matches = (pattern.search(text) for pattern in _QUERY_START)
    return next((match.start() for match in matches if match), None)
