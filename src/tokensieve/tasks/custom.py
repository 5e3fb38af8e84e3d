"""The user's own task from a YAML file: rows, a prompt template, and a checker by name.

    name: capitals
    rows: {test: capitals.jsonl}
    prompt: "What is the capital of {{ country }}?"
    gold: "{{ capital }}"
    check: {kind: exact, answer: "{{ capital }}", ignore_case: true}

Paths are relative to the YAML file; templates are Jinja with a row's fields as variables.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError

from tokensieve.config import STRICT
from tokensieve.errors import InputError
from tokensieve.tasks import checkers
from tokensieve.tasks.benchmark_io import Row, read_rows, require_split, texts
from tokensieve.tasks.execution import ResultComparison, judge_program, judge_query
from tokensieve.tasks.task import Task
from tokensieve.tasks.user_function import UserFunction, check_by_function, user_function
from tokensieve.types import JSON, Message, Problem, Verdict

Checker = Callable[[Problem, str], Verdict]


class _Answer(BaseModel):
    """A checker that compares with one text."""

    model_config = STRICT

    kind: Literal["exact", "letter", "number", "math", "json"]
    """Kind of comparison."""
    answer: str
    """Template of what is compared with."""
    ignore_case: bool = False
    """exact: whether upper and lower case are the same."""
    tolerance: float = Field(0.0, ge=0)
    """number: the largest difference that still counts as equal."""
    labels: tuple[str, ...] = ("A", "B", "C", "D", "E")
    """letter: the labels of the choices."""


class _Regex(BaseModel):
    """A checker that takes what a pattern finds."""

    model_config = STRICT

    kind: Literal["regex"]
    pattern: str
    """A Python regular expression; its first group, or the whole match, is the answer."""
    answer: str | None = None
    """Template of what is compared with; without it a match is enough."""


class _Python(BaseModel):
    """A checker that runs tests in the sandbox."""

    model_config = STRICT

    kind: Literal["python"]
    tests: str
    """The field with the tests: a list of statements, or one text."""
    setup: str = ""
    """Template of code that runs between the answer's code and the tests."""


class _Sql(BaseModel):
    """A checker that runs a query in the sandbox."""

    model_config = STRICT

    kind: Literal["sql"]
    query: str
    """Template of the gold query."""
    database: str | None = None
    """Template of the path of a SQLite file."""
    script: str | None = None
    """Template of statements that build the database in memory instead."""
    comparison: ResultComparison = ResultComparison.SET
    """Equal rows count once (set) or each (multiset)."""


class _Function(BaseModel):
    """A checker that is the user's own function ``(row, answer) -> bool or Verdict``."""

    model_config = STRICT

    kind: Literal["function"]
    function: str
    """The function as file.py:name."""


class CustomTask(BaseModel):
    """A task as its YAML file has it."""

    model_config = STRICT

    name: str = Field(pattern=r"^[\w.-]+$")
    """Its name, also the first part of its problems' ids."""
    title: str = ""
    """One line for people."""
    rows: dict[Literal["train", "validation", "test"], Path]
    """File of each split: JSON lines (also .gz), or one JSON array."""
    prompt: str
    """Template of the user's turn."""
    system: str | None = None
    """Template of a system turn before it."""
    gold: str
    """Template of the reference response."""
    id: str | None = None
    """Template of a problem's id; by default name, split and line number from 0."""
    check: Annotated[_Answer | _Regex | _Python | _Sql | _Function, Field(discriminator="kind")]
    """The checker of its answers."""
    max_new_tokens: int = Field(512, gt=0)
    """Length limit of an answer, in tokens."""


def read_task(path: Path) -> Task:
    """The task that a YAML file describes.

    Raises:
        InputError: the file is missing, no YAML or not a task's (names key and reason), a template or pattern is
            broken, or the user's function cannot be loaded.
    """
    try:
        described = CustomTask.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"cannot read it: {error.strerror}", where=str(path)) from None
    except yaml.YAMLError as error:
        raise InputError(f"broken YAML: {error}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text: {error.reason} at byte {error.start}", where=str(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{key}: {first['msg']}", where=str(path), fix=_nearest_key(key)) from None
    order: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")
    splits = tuple(split for split in order if split in described.rows)
    render = _templates(path)
    load = partial(_load, described, path.parent, splits, render)
    title = described.title or described.name
    return Task(described.name, title, splits, load, _checker(described, path), described.max_new_tokens)


def _nearest_key(key: str) -> str:
    """The valid key that a mistyped one comes nearest to, with all of them."""
    last = key.rpartition(".")[2]
    known = [*CustomTask.model_fields]
    checks = [name for kind in (_Answer, _Regex, _Python, _Sql, _Function) for name in kind.model_fields]
    near = difflib.get_close_matches(last, [*known, *checks], n=1)
    hint = f"did you mean {near[0]!r}? " if near and near[0] != last else ""
    return f"{hint}keys: {', '.join(known)}; in check: {', '.join(dict.fromkeys(checks))}"


_Render = Callable[[str, Row], str]


def _templates(path: Path) -> _Render:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)

    def render(template: str, row: Row) -> str:
        try:
            return environment.from_string(template).render(row.fields)
        except jinja2.UndefinedError as error:
            known = ", ".join(sorted(row.fields))
            raise InputError(
                f"the template {template!r}: {error.message}", where=row.where, fix=f"fields: {known}"
            ) from None
        except jinja2.TemplateError as error:
            raise InputError(f"the template {template!r}: {error.message}", where=str(path)) from None

    return render


def _load(
    task: CustomTask, base: Path, splits: tuple[str, ...], render: _Render, split: str, folder: Path | None
) -> Iterator[Problem]:
    """The problems of a split; ``folder`` stands in for the YAML file's own where it has the rows."""
    require_split(task.name, split, splits)
    name = next(file for key, file in task.rows.items() if key == split)
    root = folder if folder is not None and (folder / name).is_file() else base
    path = root / name
    if not path.is_file():
        raise InputError("no such file", where=str(path), fix=f"rows.{split} in the task's YAML file")
    rows = read_rows(path)
    for number, row in enumerate(rows):
        turns: list[Message] = []
        if task.system is not None:
            turns.append({"role": "system", "content": render(task.system, row)})
        turns.append({"role": "user", "content": render(task.prompt, row)})
        own = render(task.id, row) if task.id is not None else f"{task.name}/{split}/{number}"
        files = _files(task, row, render, root)
        facts = _facts(task, row, render, files)
        yield Problem(own, task.name, tuple(turns), render(task.gold, row), facts, files)


def _files(task: CustomTask, row: Row, render: _Render, base: Path) -> dict[str, Path]:
    """The files that the task's checker reads for a row."""
    if not isinstance(task.check, _Sql) or task.check.database is None:
        return {}
    return {"database": base / render(task.check.database, row)}


def _facts(task: CustomTask, row: Row, render: _Render, files: Mapping[str, Path]) -> dict[str, JSON]:
    """The facts of a row for the task's checker, templates filled in."""
    check = task.check
    if isinstance(check, _Function):
        return {"row": dict(row.fields)}
    if isinstance(check, _Python):
        tests = row.fields.get(check.tests)
        listed = [tests] if isinstance(tests, str) else [*texts(tests, check.tests, row.where)]
        return {"tests": list(listed), "setup": render(check.setup, row)}
    if isinstance(check, _Sql):
        script = render(check.script, row) if check.script is not None else None
        facts: dict[str, JSON] = {"query": render(check.query, row), "script": script}
        if check.database is not None:
            path = files["database"]
            if not path.is_file():
                raise InputError(
                    "no such database", where=f"{row.where}: {path}", fix="check.database in the YAML file"
                )
            facts |= {"database": render(check.database, row), "bytes": path.stat().st_size}
        return facts
    return {"answer": render(check.answer, row) if check.answer is not None else None}


def _checker(task: CustomTask, path: Path) -> Checker:
    check = task.check
    if isinstance(check, _Function):
        return partial(_check_by_function, user_function(check.function, path.parent, f"{path}: check.function"))
    if isinstance(check, _Python):
        return _check_python
    if isinstance(check, _Sql):
        if (check.database is None) == (check.script is None):
            raise InputError("check: expected one of database and script", where=str(path))
        return partial(_check_sql, check.comparison)
    if isinstance(check, _Regex):
        try:
            return partial(_check_regex, re.compile(check.pattern))
        except re.error as error:
            raise InputError(f"check.pattern: {error}", where=str(path)) from None
    return partial(_check_answer, check)


def _check_answer(check: _Answer, problem: Problem, answer: str) -> Verdict:
    gold = str(problem.facts["answer"])
    match check.kind:
        case "exact":
            return checkers.check_exact(answer, gold, ignore_case=check.ignore_case)
        case "letter":
            return checkers.check_letter(answer, gold, check.labels)
        case "number":
            return checkers.check_number(answer, gold, tolerance=check.tolerance)
        case "math":
            return checkers.check_math(answer, gold)
        case "json":
            return checkers.check_json(answer, gold)


def _check_regex(pattern: re.Pattern[str], problem: Problem, answer: str) -> Verdict:
    gold = problem.facts["answer"]
    return checkers.check_regex(answer, None if gold is None else str(gold), pattern)


def _check_by_function(function: UserFunction, problem: Problem, answer: str) -> Verdict:
    row = problem.facts["row"]
    return check_by_function(function, row if isinstance(row, dict) else {}, answer)


def _check_python(problem: Problem, answer: str) -> Verdict:
    from tokensieve.tasks.mbpp import called

    tests = texts(problem.facts["tests"], "tests", problem.id)
    before_tests = [str(problem.facts["setup"])] if problem.facts["setup"] else []
    # A task of one's own may well ask for a class that compares by a rule of its own.
    return judge_program(answer, names=called(tests), before_tests=before_tests, tests=tests, own_equality=True)


def _check_sql(comparison: ResultComparison, problem: Problem, answer: str) -> Verdict:
    script = problem.facts["script"]
    return judge_query(
        answer,
        str(problem.facts["query"]),
        database=problem.files.get("database"),
        script=None if script is None else str(script),
        comparison=comparison,
    )
