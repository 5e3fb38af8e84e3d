"""Pairing of a base model's answers with a fine-tuned model's, problem by problem, and what the pairs show."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokensieve import metrics
from tokensieve.comparison.answers import (
    Answer,
    EvaluationAnswers,
    differences_of,
    refuse_unlike,
    task_score,
)
from tokensieve.comparison.readers import answers_of_samples, read_evaluation
from tokensieve.comparison.results import Decision, EvalComparison, Flip, Gate, TaskChange
from tokensieve.comparison.statistics import benjamini_hochberg, paired_difference
from tokensieve.data.dataset import Rows
from tokensieve.errors import InputError
from tokensieve.types import Sample

_Key: TypeAlias = tuple[str, int]
"""Problem and number of the answer."""


class HasSamples(Protocol):
    """An evaluation of this project in memory or in a folder, as ``evaluate`` returns it."""

    @property
    def rows(self) -> Rows[Sample]:
        """One sample an answer."""
        ...


Evaluated: TypeAlias = EvaluationAnswers | HasSamples | str | Path


def compare(
    base: Evaluated,
    tuned: Evaluated | Sequence[Evaluated],
    target: str = "",
    others: Iterable[str] | None = None,
    *,
    max_drop: float | str | None = None,
    cut_off: Literal["as evaluated", "wrong"] = "as evaluated",
    allow_unlike: bool = False,
    metric: str = "",
    group_by: str = "",
    seed: int = 0,
    level: float = 0.95,
) -> EvalComparison:
    """Compare a fine-tuned model's evaluation with its base's, problem by problem.

    Args:
        base: the base model's evaluation: the result of ``evaluate``, or a path that ``read_evaluation`` knows.
        tuned: the fine-tuned model's; several are training seeds of the same setting, which the intervals then cover.
        target: the task that was trained, for target improvement and backward transfer.
        others: the other tasks; None is all that the base was evaluated on.
        max_drop: gate on the drop of each task's accuracy, in percentage points: ``2`` or ``"2%"``.
        cut_off: ``wrong`` counts answers that the length limit ended as not right on both sides.
        allow_unlike: compare although the evaluations differ in what was asked: the differences are named, and of
            unlike sets of problems the common ones are taken.
        metric: of logs with several; see ``read_evaluation``, and so is ``group_by``.
        group_by: field whose equal values make a group of problems that are not independent.
        seed: of the bootstrap.
        level: coverage of the intervals.

    Raises:
        InputError: a path without an evaluation, a task that is missing or no task at all, two answers under one
            number, settings or problems that differ, or a gate or a coverage that is none.
    """
    listed = list(tuned) if isinstance(tuned, Sequence) and not isinstance(tuned, str) else [tuned]
    if not listed:
        raise InputError("no evaluation to compare with the base")
    if not 0 < level < 1:
        raise InputError(f"expected a coverage between 0 and 1, got {level}", where="level", fix="level=0.95")
    allowed = None if max_drop is None else parse_max_drop(max_drop)
    before = _answers(base, metric, group_by)
    after = [_answers(one, metric, group_by) for one in listed]
    if cut_off == "wrong":
        before, after = before.strict(), [one.strict() for one in after]
    names = _tasks(before, after, target, None if others is None else tuple(others))
    differences = differences_of(before, after, names)
    if not allow_unlike:
        refuse_unlike(before, after, names)
    notes = _notes(before, after, names)
    pairs = {}
    for task in names:
        pairs[task], skipped = _paired(task, before, after, allow_unlike=allow_unlike)
        notes += [f"{task}: {skipped:,} answers without a partner are left out"] if skipped else []
    changes = _changes(pairs, seed, level, grouped=any(row.group for row in before.rows))
    notes += [
        f"{c.task}: the base solves none of its problems, so no drop can be seen" for c in changes if c.base_is_zero
    ]
    return EvalComparison(
        base=before.source,
        tuned=tuple(one.source for one in after),
        target=target,
        changes=changes,
        forgetting=_forgetting(pairs, target, seed, level) if target else None,
        differences=differences,
        gate=None if allowed is None else _gate(changes, allowed),
        notes=tuple(dict.fromkeys(notes)),
    )


def parse_max_drop(value: float | str) -> float:
    """The largest drop allowed in percentage points of accuracy, from ``2``, ``"2"`` or ``"2%"``.

    Raises:
        InputError: it is something else, or lies outside of 0 to 100.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%?\s*", str(value))
    if match is None or float(match[1]) > 100:
        raise InputError(
            f"expected percentage points of accuracy from 0 to 100, got {value!r}",
            where="max_drop",
            fix="--max-drop 2%",
        )
    return float(match[1])


@dataclass(frozen=True, slots=True)
class _Pairs:
    """The answers to one task that all evaluations have, in the order of ``keys``."""

    keys: tuple[_Key, ...]
    before: tuple[Answer, ...]
    runs: tuple[tuple[Answer, ...], ...]

    def shares(self) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
        """Share of correct answers to each problem before [P] and after [P, S], and the problems' groups."""
        problems = {problem: place for place, problem in enumerate(dict.fromkeys(id_ for id_, _ in self.keys))}
        place_A = np.array([problems[id_] for id_, _ in self.keys])
        counts_P = np.bincount(place_A)
        columns = [
            np.bincount(place_A, weights=[answer.correct for answer in side]) / counts_P
            for side in (self.before, *self.runs)
        ]
        groups = {id_: answer.group for (id_, _), answer in zip(self.keys, self.before, strict=True)}
        return columns[0], np.stack(columns[1:], axis=1), tuple(groups.values())

    def flips(self) -> tuple[Flip, ...]:
        """The answers that changed sides, those lost first."""
        found = [
            Flip(was, now, number)
            for number, run in enumerate(self.runs)
            for was, now in zip(self.before, run, strict=True)
            if was.correct != now.correct
        ]
        return tuple(sorted(found, key=lambda flip: flip.kind, reverse=True))


def _answers(evaluated: Evaluated, metric: str, group_by: str) -> EvaluationAnswers:
    found = _read(evaluated, metric, group_by)
    for (task, problem, sample), count in Counter((r.task, r.id, r.sample) for r in found.rows).most_common(1):
        if count > 1:
            raise InputError(
                f"task {task!r}: problem {problem!r} has {count} answers with the number {sample}",
                where=found.source,
                fix="number several answers to a problem from 0; of several runs of a task name one, or each as a seed",
            )
    return found


def _read(evaluated: Evaluated, metric: str, group_by: str) -> EvaluationAnswers:
    if isinstance(evaluated, EvaluationAnswers):
        return evaluated
    if isinstance(evaluated, str | Path):
        return read_evaluation(evaluated, metric=metric, group_by=group_by)
    rows = getattr(evaluated, "rows", None)
    if not isinstance(rows, Rows) or rows.manifest.stage != "evaluated":
        raise InputError(
            f"expected an evaluation, got {type(evaluated).__name__}",
            fix="the result of tokensieve.evaluate, a folder of it, or another harness' log by its path",
        )
    return answers_of_samples(rows, "memory" if rows.folder is None else str(rows.folder))


def _tasks(
    before: EvaluationAnswers, after: Sequence[EvaluationAnswers], target: str, others: tuple[str, ...] | None
) -> tuple[str, ...]:
    there = list(dict.fromkeys(row.task for row in before.rows))
    if not there:
        raise InputError("the evaluation has no answer", where=before.source)
    rest = others if others is not None else tuple(task for task in there if task != target)
    names = tuple(dict.fromkeys((target, *rest) if target else rest))
    if not names:
        raise InputError("no task to compare", fix="name a target, or tasks in others")
    for one, side in ((before, "before"), *((one, "after") for one in after)):
        known = {row.task for row in one.rows}
        for task in names:
            if task not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise InputError(
                    f"task {task!r} was not evaluated {side}; there are: {listed}",
                    where=one.source,
                    fix="--others names the tasks to compare",
                )
    return names


def _notes(before: EvaluationAnswers, after: Sequence[EvaluationAnswers], names: Sequence[str]) -> list[str]:
    notes = [*before.notes, *(note for one in after for note in one.notes)]
    known = {row.task for row in before.rows}
    for one in after:
        alone = dict.fromkeys(row.task for row in one.rows if row.task not in known)
        if alone:
            notes.append(f"{one.source}: not compared, since the base was not evaluated on them: {', '.join(alone)}")
        if before.model and before.model == one.model:
            notes.append(f"{before.source} and {one.source} are evaluations of the same model")
    left_out = [task for task in known if task not in names]
    if left_out:
        notes.append(f"not compared: {', '.join(sorted(left_out))}")
    return notes


def _paired(
    task: str, before: EvaluationAnswers, after: Sequence[EvaluationAnswers], *, allow_unlike: bool
) -> tuple[_Pairs, int]:
    """The pairs of a task, and the number of answers that have none."""
    sides = [{(r.id, r.sample): r for r in one.rows if r.task == task} for one in (before, *after)]
    common = set(sides[0]).intersection(*sides[1:])
    keys = tuple(sorted(common))
    if not keys:
        raise InputError(
            "the evaluations have no problem in common",
            where=f"task {task}",
            fix="evaluate both models on the same problems" if allow_unlike else None,
        )
    ours, *theirs = (tuple(side[key] for key in keys) for side in sides)
    return _Pairs(keys, ours, tuple(theirs)), sum(len(side) - len(keys) for side in sides)


def _changes(pairs: Mapping[str, _Pairs], seed: int, level: float, *, grouped: bool) -> tuple[TaskChange, ...]:
    made = []
    for task, paired in pairs.items():
        before_P, after_PS, groups = paired.shares()
        found = paired_difference(
            before_P, after_PS, groups if grouped and any(groups) else None, seed=seed, level=level
        )
        made.append(
            TaskChange(
                before=task_score(task, paired.before),
                after=task_score(task, [answer for run in paired.runs for answer in run]),
                difference=found,
                adjusted_p=found.p_value,
                problems=len(before_P),
                flips=paired.flips(),
            )
        )
    adjusted = benjamini_hochberg([change.difference.p_value for change in made])
    return tuple(replace(change, adjusted_p=p) for change, p in zip(made, adjusted, strict=True))


def _forgetting(pairs: Mapping[str, _Pairs], target: str, seed: int, level: float) -> metrics.Forgetting:
    shares = {task: paired.shares() for task, paired in pairs.items()}
    runs = next(iter(shares.values()))[1].shape[1]
    before = {task: before_P for task, (before_P, _, _) in shares.items()}
    after = [{task: after_PS[:, run] for task, (_, after_PS, _) in shares.items()} for run in range(runs)]
    return metrics.forgetting(before, after, target, seed=seed, level=level)


def _gate(changes: Sequence[TaskChange], max_drop: float) -> Gate:
    decisions: dict[str, Decision] = {}
    for change in changes:
        low, high = change.difference.interval
        if low >= -max_drop or change.base_is_zero:
            decisions[change.task] = "passed"
        else:
            decisions[change.task] = "failed" if high < -max_drop else "undecided"
    return Gate(max_drop, decisions)
