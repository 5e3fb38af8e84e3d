"""The checkers that a task from a YAML file can name as its ``check.kind``: the registry ``CHECKERS``."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeAlias, TypeVar

from pydantic import BaseModel, Field

from tokensieve.config import STRICT
from tokensieve.errors import InputError
from tokensieve.tasks.answer_choice import check_choice
from tokensieve.tasks.answer_code import check_json
from tokensieve.tasks.answer_number import check_number
from tokensieve.tasks.benchmark_io import Row, texts
from tokensieve.tasks.execution import (
    ResultComparison,
    UserFunction,
    called,
    check_by_function,
    judge_program,
    judge_query,
)
from tokensieve.tasks.math import check_math
from tokensieve.types import JSON, Outcome, Problem, Verdict
from tokensieve.user_code import load_function

Render: TypeAlias = Callable[[str, Row], str]
"""``render(template, row)``: the template with the row's fields filled in."""

SettingsT = TypeVar("SettingsT", bound=BaseModel)
PreparedT = TypeVar("PreparedT")


@dataclass(frozen=True, slots=True)
class RowFacts:
    """The part of a row that its check reads.

    Attributes:
        facts: templates filled in.
        files: files beside the task's rows, by name.
    """

    facts: dict[str, JSON]
    files: dict[str, Path]


@dataclass(frozen=True, slots=True)
class Checker(Generic[SettingsT, PreparedT]):
    """One kind of check.

    Attributes:
        does: the check in one line, for people.
        settings: the keys that ``check`` takes in the YAML file; one of them is ``kind``, the name in ``CHECKERS``.
        facts: ``facts(settings, row, render, folder)`` is the part of a row that the check reads; paths are relative
            to the folder. Raises InputError on a missing field or file.
        prepare: ``prepare(settings, path)`` is done once a task: settings as the check uses them; ``path`` is the YAML
            file. Raises InputError on a setting that cannot be used.
        check: ``check(prepared, problem, answer)`` judges one answer, as in ``Task.checker``.
    """

    does: str
    settings: type[SettingsT]
    facts: Callable[[SettingsT, Row, Render, Path], RowFacts]
    prepare: Callable[[SettingsT, Path], PreparedT]
    check: Callable[[PreparedT, Problem, str], Verdict]


def _as_it_is(settings: SettingsT, _: Path) -> SettingsT:
    return settings


class TextCheck(BaseModel):
    """Settings of a comparison with one text."""

    model_config = STRICT

    kind: str
    answer: str
    """Template of what is compared with."""


class ExactCheck(BaseModel):
    """Settings of a comparison of the whole answer with a text."""

    model_config = STRICT

    kind: str
    answer: str
    """Template of what is compared with."""
    ignore_case: bool = False
    """True where upper and lower case are the same."""


class LetterCheck(BaseModel):
    """Settings of a comparison of the chosen label with a text."""

    model_config = STRICT

    kind: str
    answer: str
    """Template of what is compared with."""
    labels: tuple[str, ...] = ("A", "B", "C", "D", "E")
    """Labels of the choices."""


class NumberCheck(BaseModel):
    """Settings of a comparison of the final number with a text's."""

    model_config = STRICT

    kind: str
    answer: str
    """Template of what is compared with."""
    tolerance: float = Field(0.0, ge=0)
    """The largest difference that still counts as equal."""


def _answer_facts(
    settings: TextCheck | ExactCheck | LetterCheck | NumberCheck, row: Row, render: Render, _: Path
) -> RowFacts:
    return RowFacts({"answer": render(settings.answer, row)}, {})


def _gold(problem: Problem) -> str:
    return str(problem.facts["answer"])


def _exact(settings: ExactCheck, problem: Problem, answer: str) -> Verdict:
    """Compare whole texts, white space at both ends set aside."""
    found, expected = answer.strip(), _gold(problem).strip()
    if not found:
        return Verdict(Outcome.NO_ANSWER, reason="the answer is empty")
    equal = found.casefold() == expected.casefold() if settings.ignore_case else found == expected
    return Verdict(Outcome.CORRECT, found) if equal else Verdict(Outcome.WRONG, found, f"expected {expected}")


def _letter(settings: LetterCheck, problem: Problem, answer: str) -> Verdict:
    return check_choice(answer, _gold(problem), settings.labels)


def _number(settings: NumberCheck, problem: Problem, answer: str) -> Verdict:
    return check_number(answer, _gold(problem), tolerance=settings.tolerance)


def _math(_: TextCheck, problem: Problem, answer: str) -> Verdict:
    return check_math(answer, _gold(problem))


def _json(_: TextCheck, problem: Problem, answer: str) -> Verdict:
    return check_json(answer, _gold(problem))


class RegexCheck(BaseModel):
    """Settings of a check of what a pattern finds."""

    model_config = STRICT

    kind: str
    pattern: str
    """A Python regular expression; its first group, or the whole match, is the answer."""
    answer: str | None = None
    """Template of what is compared with; without it a match is enough."""


def _regex_facts(settings: RegexCheck, row: Row, render: Render, _: Path) -> RowFacts:
    return RowFacts({"answer": render(settings.answer, row) if settings.answer is not None else None}, {})


def _compiled(settings: RegexCheck, path: Path) -> re.Pattern[str]:
    try:
        return re.compile(settings.pattern)
    except re.error as error:
        raise InputError(f"check.pattern: {error}", where=str(path)) from None


def _regex(pattern: re.Pattern[str], problem: Problem, answer: str) -> Verdict:
    """Take the pattern's last match (its first group where it has one) and compare it with the gold, if any."""
    matches = list(pattern.finditer(answer))
    if not matches:
        return Verdict(Outcome.NO_ANSWER, reason=f"nothing matches {pattern.pattern}")
    found = (matches[-1][1] if pattern.groups else matches[-1][0]) or ""
    gold = problem.facts["answer"]
    if gold is None or found.strip() == str(gold).strip():
        return Verdict(Outcome.CORRECT, found)
    return Verdict(Outcome.WRONG, found, f"expected {str(gold).strip()}")


class PythonCheck(BaseModel):
    """Settings of a check by tests that run in the sandbox."""

    model_config = STRICT

    kind: str
    tests: str
    """The field with the tests: a list of statements, or one text."""
    setup: str = ""
    """Template of code that runs between the answer's code and the tests."""


def _python_facts(settings: PythonCheck, row: Row, render: Render, _: Path) -> RowFacts:
    tests = row.fields.get(settings.tests)
    listed = [tests] if isinstance(tests, str) else [*texts(tests, settings.tests, row.where)]
    return RowFacts({"tests": list(listed), "setup": render(settings.setup, row)}, {})


def _python(_: PythonCheck, problem: Problem, answer: str) -> Verdict:
    tests = texts(problem.facts["tests"], "tests", problem.id)
    before_tests = [str(problem.facts["setup"])] if problem.facts["setup"] else []
    # A task of one's own may well ask for a class that compares by a rule of its own.
    return judge_program(answer, names=called(tests), before_tests=before_tests, tests=tests, own_equality=True)


class SqlCheck(BaseModel):
    """Settings of a check by the result of a query that runs in the sandbox."""

    model_config = STRICT

    kind: str
    query: str
    """Template of the gold query."""
    database: str | None = None
    """Template of the path of a SQLite file."""
    script: str | None = None
    """Template of statements that build the database in memory instead."""
    comparison: ResultComparison = ResultComparison.SET
    """Equal rows count once (set) or each (multiset)."""


def _sql_facts(settings: SqlCheck, row: Row, render: Render, folder: Path) -> RowFacts:
    database = render(settings.database, row) if settings.database is not None else None
    script = render(settings.script, row) if settings.script is not None else None
    facts: dict[str, JSON] = {"query": render(settings.query, row), "script": script}
    if database is None:
        return RowFacts(facts, {})
    path = folder / database
    if not path.is_file():
        raise InputError("no such database", where=f"{row.where}: {path}", fix="check.database in the YAML file")
    return RowFacts(facts | {"database": database, "bytes": path.stat().st_size}, {"database": path})


def _one_source(settings: SqlCheck, path: Path) -> SqlCheck:
    if (settings.database is None) == (settings.script is None):
        raise InputError("check: expected one of database and script", where=str(path))
    return settings


def _sql(settings: SqlCheck, problem: Problem, answer: str) -> Verdict:
    script = problem.facts["script"]
    return judge_query(
        answer,
        str(problem.facts["query"]),
        database=problem.files.get("database"),
        script=None if script is None else str(script),
        comparison=settings.comparison,
    )


class FunctionCheck(BaseModel):
    """Settings of a check by the user's own function ``(row, answer) -> bool or Verdict``."""

    model_config = STRICT

    kind: str
    function: str
    """The function as file.py:name."""


def _function_facts(_: FunctionCheck, row: Row, __: Render, ___: Path) -> RowFacts:
    return RowFacts({"row": dict(row.fields)}, {})


def _loaded(settings: FunctionCheck, path: Path) -> UserFunction:
    return load_function(settings.function, path.parent, f"{path}: check.function")


def _function(function: UserFunction, problem: Problem, answer: str) -> Verdict:
    row = problem.facts["row"]
    return check_by_function(function, row if isinstance(row, dict) else {}, answer)


CHECKERS: Final[Mapping[str, Checker[Any, Any]]] = {
    "exact": Checker(
        "the whole answer is the text, white space at both ends aside", ExactCheck, _answer_facts, _as_it_is, _exact
    ),
    "letter": Checker("the chosen label is the text", LetterCheck, _answer_facts, _as_it_is, _letter),
    "number": Checker("the final number equals the text's", NumberCheck, _answer_facts, _as_it_is, _number),
    "math": Checker("the final formula equals the text's by value", TextCheck, _answer_facts, _as_it_is, _math),
    "json": Checker("the answer's JSON equals the text's by value", TextCheck, _answer_facts, _as_it_is, _json),
    "regex": Checker("a pattern's last match is the text, or is there", RegexCheck, _regex_facts, _compiled, _regex),
    "python": Checker("the answer's code passes tests in the sandbox", PythonCheck, _python_facts, _as_it_is, _python),
    "sql": Checker("the answer's query gives the gold query's rows", SqlCheck, _sql_facts, _one_source, _sql),
    "function": Checker("your own function says so", FunctionCheck, _function_facts, _loaded, _function),
}
"""Checkers by their ``check.kind``."""
