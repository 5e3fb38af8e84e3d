"""Judging answers by running them in the sandbox: Python code with its tests, a SQL query beside the gold query."""

from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from tokensieve.sandbox import SQL_LIMITS, Ending, Limits, SqlRun, run_parts, run_sql
from tokensieve.tasks import answer_code
from tokensieve.types import Outcome, Verdict

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
    source = answer_code.code(answer, names)
    if source is None:
        return Verdict(Outcome.NO_ANSWER, reason="no Python code in the answer")
    if answer_code.unclosed_block(answer) and not answer_code.parses(source):
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
    found = answer_code.query(answer)
    if found is None:
        return Verdict(Outcome.NO_ANSWER, reason="no SQL query in the answer")
    expected = _gold_run(gold, database, script, limits)
    if expected.rows is None:
        return Verdict(Outcome.NOT_JUDGED, found, f"the gold query failed: {expected.reason}")
    run = run_sql(found, database=database, script=script, limits=limits)
    if run.rows is None:
        if answer_code.unclosed_block(answer) and run.ending is Ending.RAISED:
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
