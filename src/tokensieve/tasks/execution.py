"""Judging answers by running code: a model's Python and SQL in the sandbox, and the user's own function.

The function (``file.py:name``) runs in this process, since it is the user's.
"""

import ast
import builtins
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeAlias, cast

from tokensieve.sandbox import SQL_LIMITS, Ending, Limits, SqlRun, run_parts, run_sql
from tokensieve.tasks.answer_blocks import parses, unclosed_block
from tokensieve.tasks.answer_code import code, query
from tokensieve.tasks.answer_text import judge_behind_reasoning
from tokensieve.types import JSON, Message, Outcome, Verdict
from tokensieve.user_code import function_digest, load_function

UserFunction: TypeAlias = Callable[[Mapping[str, JSON], str], object]
"""``function(row, answer)``: True where the answer is right, or a verdict; None where it cannot tell."""

PromptCheck: TypeAlias = Callable[[Sequence[Message], str], Verdict]
"""Judges an answer to the turns before it; not judged where it does not fit them."""

PROGRAM_LIMITS = Limits(wall_s=30.0, cpu_s=8.0)
"""For the published benchmarks: one reference (mbpp/123) takes two seconds, and four on a busy machine."""


def judge_program(
    answer: str,
    *,
    names: Sequence[str],
    before: Sequence[str] = (),
    before_tests: Sequence[str] = (),
    tests: Sequence[str],
    limits: Limits = PROGRAM_LIMITS,
    own_equality: bool = False,
) -> Verdict:
    """Run an answer's code with its tests.

    Args:
        answer: the raw response.
        names: functions that the code is to define, to find it by.
        before: parts that run before the answer's code.
        before_tests: parts that run between it and the tests.
        tests: the tests, one part each; all must run to their end.
        limits: limits of the whole program.
        own_equality: whether an object of the answer's own class may decide that it equals what a test compares it
            with; it passes every test if it wants to.

    Raises:
        EnvironmentProblem: the sandbox cannot run here.
    """
    source = code(answer, names)
    if source is None:
        return Verdict(Outcome.NO_ANSWER, reason="no Python code in the answer")
    if unclosed_block(answer) and not parses(source):
        return Verdict(Outcome.CUT_OFF, source, "the code block is never closed and does not parse")
    run = run_parts(
        [*before, source, *before_tests, *tests], limits, checks_from=len(before) + 1, own_equality=own_equality
    )
    if run.ok:
        return Verdict(Outcome.CORRECT, source)
    first_test = len(before) + 1 + len(before_tests)
    if run.reached >= first_test:
        place = f"test {run.reached - first_test + 1} of {len(tests)}: "
    else:
        place = "before the tests: " if run.reached > len(before) else ""
    return Verdict(Outcome.WRONG, source, place + run.reason)


def called(tests: Sequence[str]) -> tuple[str, ...]:
    """The names of the functions that tests call and Python does not have itself; how the answer's code is found."""
    names: dict[str, None] = {}
    for test in tests:
        try:
            tree = ast.parse(test)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not hasattr(builtins, node.func.id):
                names[node.func.id] = None
    return tuple(names)


class ResultComparison(StrEnum):
    """When two results are the same: as sets of rows (the official rule of BIRD) or counting equal rows too."""

    SET = "set"
    MULTISET = "multiset"


@lru_cache(maxsize=256)
def _gold_run(query: str, database: Path | None, script: str | None, limits: Limits) -> SqlRun:
    return run_sql(query, database=database, script=script, limits=limits)


def judge_query(
    answer: str,
    gold: str,
    *,
    database: Path | None = None,
    script: str | None = None,
    comparison: ResultComparison = ResultComparison.SET,
    limits: Limits = SQL_LIMITS,
) -> Verdict:
    """Compare the result of an answer's query with that of the gold query.

    Where the two rules differ on a result, the reason says so. Not judged where the gold query itself fails.

    Raises:
        EnvironmentProblem: the sandbox cannot run here.
    """
    found = query(answer)
    if found is None:
        return Verdict(Outcome.NO_ANSWER, reason="no SQL query in the answer")
    expected = _gold_run(gold, database, script, limits)
    if expected.rows is None:
        return Verdict(Outcome.NOT_JUDGED, found, f"the gold query failed: {expected.reason}")
    run = run_sql(found, database=database, script=script, limits=limits)
    if run.rows is None:
        if unclosed_block(answer) and run.ending is Ending.RAISED:
            return Verdict(Outcome.CUT_OFF, found, f"the code block is never closed; {run.reason}")
        return Verdict(Outcome.WRONG, found, run.reason)
    as_sets = set(run.rows) == set(expected.rows)
    as_multisets = Counter(run.rows) == Counter(expected.rows)
    equal = as_sets if comparison is ResultComparison.SET else as_multisets
    counts = f"{len(run.rows)} rows, expected {len(expected.rows)}"
    reason = f"{counts}: the same as a set, not as a multiset" if as_sets and not as_multisets else ""
    if equal:
        return Verdict(Outcome.CORRECT, found, reason)
    return Verdict(Outcome.WRONG, found, reason or f"another result: {counts}")


def check_by_function(function: UserFunction, row: Mapping[str, JSON], answer: str) -> Verdict:
    """Call the user's function; an error of its own is theirs to see, but must not end a long evaluation."""
    try:
        found = function(row, answer)
    except Exception as error:  # noqa: BLE001 - reported in the verdict
        return Verdict(Outcome.NOT_JUDGED, reason=f"the checker raised {type(error).__name__}: {error}")
    if isinstance(found, Verdict):
        return found
    if found is None:
        return Verdict(Outcome.NOT_JUDGED, answer.strip(), "the checker cannot tell")
    return Verdict(Outcome.CORRECT if found else Outcome.WRONG, answer.strip())


def prompt_check(name: str) -> tuple[PromptCheck, str]:
    """The check of a name, ``shown-tests`` or a function of the user's as ``file.py:name``, and the digest of its code.

    An answer is judged without the reasoning before it. The function is called with ``{"messages": [...], "prompt":
    the last user's turn}`` and the answer; it returns True, False, a verdict, or None where it cannot tell. The digest
    is empty for the shipped check.

    Raises:
        InputError: no such file or function.
    """
    check: PromptCheck = by_shown_tests
    code = ""
    if name != "shown-tests":
        check = partial(_by_function, load_function(name, Path(), "generate.dialogue.verify"))
        code = function_digest(name, Path())
    return lambda messages, answer: judge_behind_reasoning(answer, partial(check, messages)), code


def by_shown_tests(messages: Sequence[Message], answer: str) -> Verdict:
    """Run the answer's code with the ``assert`` lines of the last turn, in the sandbox."""
    tests = _asserts(str(messages[-1]["content"]))
    if not tests:
        return Verdict(Outcome.NOT_JUDGED, reason="the prompt shows no tests")
    return judge_program(answer, names=called(tests), tests=tests)


def _asserts(text: str) -> list[str]:
    """The lines of a text that are Python assertions."""
    found = []
    for line in text.splitlines():
        try:
            parsed = ast.parse(line.strip()).body
        except (SyntaxError, ValueError):  # ValueError: null bytes
            continue
        if len(parsed) == 1 and isinstance(parsed[0], ast.Assert):
            found.append(line.strip())
    return found


def _by_function(function: UserFunction, messages: Sequence[Message], answer: str) -> Verdict:
    turns: list[JSON] = [cast("dict[str, JSON]", dict(message)) for message in messages]
    return check_by_function(function, {"messages": turns, "prompt": messages[-1]["content"]}, answer)
