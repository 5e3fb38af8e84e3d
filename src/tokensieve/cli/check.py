"""``tokensieve check``: gold answers through their own checker, and given answers."""

import os
from pathlib import Path

from tokensieve.cli.console import Work, err, out
from tokensieve.config import CutOff
from tokensieve.errors import InputError
from tokensieve.tasks import get_task
from tokensieve.tasks.judging import check_gold, judge_file

_SHOWN = 20
"""Failures that are printed; all are counted."""


def take_weak_sandbox(allowed: bool) -> None:
    """Where it is said so, go on also where the machine cannot isolate generated code as well as promised."""
    if allowed:
        from tokensieve.sandbox import allow_weak_sandbox

        allow_weak_sandbox()


def check(
    name: str,
    data: Path | None,
    answers: Path | None,
    verdicts: Path | None,
    limit: int | None,
    *,
    cut_off: CutOff = "judge",
    allow_weak_sandbox: bool,
) -> int:
    """Check a task's gold answers, or judge a file of answers; 1 where a gold answer fails."""
    take_weak_sandbox(allow_weak_sandbox)
    task = get_task(name)
    workers = os.cpu_count() or 1
    if answers is not None:
        if verdicts is None:
            raise InputError("expected a file for the verdicts", where="--answers", fix="--out VERDICTS.jsonl")
        with Work(f"check {task.name}", "answers") as work:
            judged = judge_file(
                task, data, answers, verdicts, limit=limit, cut_off=cut_off, workers=workers, progress=work.advanced
            )
        counted = ", ".join(f"{outcome.value} {number:,}" for outcome, number in judged.outcomes.items() if number)
        limited = f"; {judged.cut_off:,} cut off, of them {judged.cut_off_correct:,} correct" if judged.cut_off else ""
        out.print(f"{judged.answers:,} answers to {judged.problems:,} problems: {counted}{limited}")
        out.print(f"wrote {verdicts}")
        return 0
    with Work(f"check {task.name}", "answers") as work:
        gold = check_gold(task, data, limit=limit, workers=workers, progress=work.advanced)
    for split, rows in gold.rows.items():
        out.print(f"{task.name} {split}: {gold.correct[split]:,} of {rows:,} gold answers pass their own checker")
    for failure in gold.failures[:_SHOWN]:
        verdict = failure.verdict
        err.print(f"{failure.id}: {verdict.outcome.value}: {verdict.reason or verdict.extracted}")
    if len(gold.failures) > _SHOWN:
        err.print(f"and {len(gold.failures) - _SHOWN:,} more")
    return 0 if gold.ok else 1
