"""Judging an answer that is a SQL query: find it, run it and the gold query in the sandbox, compare the results."""

from collections import Counter
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

from tokensieve.sandbox import SQL_LIMITS, Ending, Limits, SqlRun, run_sql
from tokensieve.tasks import answer_code
from tokensieve.types import Outcome, Verdict


class Comparison(StrEnum):
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
    comparison: Comparison = Comparison.SET,
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
    equal = as_sets if comparison is Comparison.SET else as_multisets
    counts = f"{len(run.rows)} rows, expected {len(expected.rows)}"
    reason = f"{counts}: the same as a set, not as a multiset" if as_sets and not as_multisets else ""
    if equal:
        return Verdict(Outcome.CORRECT, found, reason)
    return Verdict(Outcome.WRONG, found, reason or f"another result: {counts}")
