"""The Python code, SQL query or JSON value of a model's answer: fenced, marked, or among prose. Nothing is run."""

import ast
import builtins
import json
import re
import textwrap
import warnings
from collections.abc import Sequence
from typing import Final

from tokensieve.tasks.answer_blocks import CODE_START, PYTHON, QUERY_START, SQL, blocks, parses
from tokensieve.types import JSON, Outcome, Verdict

PROSE_LINES: Final = 100
"""Lines behind unfenced code that are tried as prose; each try parses all that stands before."""
_LANGUAGE_LINE: Final = re.compile(r"\A\s*(?:python3?|py)[ \t]*\r?\n", re.IGNORECASE)
INVISIBLE: Final = {**dict.fromkeys((0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF)), 0xA0: " ", 0x202F: " ", 0x3000: " "}
_MARKED: Final = re.compile(
    r"^[ \t]*\[(?:BEGIN|PYTHON)\][ \t\r]*\n(.*?)(?:^[ \t]*\[(?:DONE|/PYTHON)\]|\Z)", re.MULTILINE | re.DOTALL
)
_PROMPT: Final = re.compile(r"^[ \t]*(?:>>>|\.\.\.) ?", re.MULTILINE)
_NOTEBOOK: Final = re.compile(r"^[ \t]*[!%].*$", re.MULTILINE)
"""A notebook's commands to the shell and to IPython: ``!pip install``, ``%matplotlib inline``."""
_QUERY_SPAN: Final = re.compile(r"(?<!`)`(?!`)\s*((?:SELECT|WITH)\b[^`]*)`(?!`)", re.IGNORECASE)
_QUERY_END: Final = re.compile(
    r"\n[ \t]*\r?\n|</\w+>|<\||\n(?=(?:This|It|The|Here|Note|Explanation|In this|We|You|I)\b[^\n]*[a-z.:!]\s*(?:\n|\Z))"
)
_SQL_TOKEN: Final = re.compile(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|--[^\n]*|/\*.*?\*/|;", re.DOTALL)


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
    python = [source for language, source in listed if language in PYTHON]
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
        return source if not CODE_START.search(source) else textwrap.dedent(source)
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
    start = CODE_START.search(text)
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


def query(text: str) -> str | None:
    """The SQL query of an answer: of the last fenced block that holds one, else from its first SELECT or WITH on.

    It ends at the first semicolon, or, where it is not fenced, at a blank line.
    """
    text = text.translate(INVISIBLE)
    fenced = [block.text for block in blocks(text) if block.language in SQL]
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
    matches = (pattern.search(text) for pattern in QUERY_START)
    return next((match.start() for match in matches if match), None)


def check_json(answer: str, gold: str) -> Verdict:
    """Compare as JSON values: the last fenced block, else the first value in the text; order of keys does not count."""
    fenced = blocks(answer)
    found = next((value for block in reversed(fenced) if (value := _first_json(block.text)) is not None), None)
    found = _first_json(answer) if found is None else found
    if found is None:
        if fenced and not fenced[-1].closed:
            return Verdict(Outcome.CUT_OFF, reason="the code block is never closed and does not parse")
        return Verdict(Outcome.NO_ANSWER, reason="no JSON object or array in the answer")
    written = json.dumps(found, ensure_ascii=False)
    try:
        expected = json.loads(gold)
    except json.JSONDecodeError as error:
        return Verdict(Outcome.NOT_JUDGED, written, f"the gold answer is no JSON: {error.msg}")
    if found == expected:
        return Verdict(Outcome.CORRECT, written)
    return Verdict(Outcome.WRONG, written, f"expected {gold}")


def _first_json(text: str) -> JSON:
    """The first JSON object or array of a text; None where there is none."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"[{\[]", text):
        try:
            value: JSON = decoder.raw_decode(text, match.start())[0]
        except (json.JSONDecodeError, RecursionError):
            continue
        return value
    return None
