"""Caveats of a study, computed from its numbers: what its intervals do not cover."""

from collections.abc import Sequence
from typing import Final

from tokensieve.report.schema import EvaluatedSubset, Report

_ENOUGH_SEEDS: Final = 5
"""With fewer the bootstrap over seeds covers less than it says; see metrics."""


def caveats(report: Report) -> tuple[str, ...]:
    """Reasons to doubt a study's numbers, in sentences: few seeds, parts of a task, unpaired or unlike arms."""
    found = []
    if len(report.seeds) == 1:
        found.append(
            "One seed. The intervals cover the choice of test problems, not the chance in training; "
            "a difference between two arms may change with the seed."
        )
    elif len(report.seeds) < _ENOUGH_SEEDS:
        found.append(
            f"{len(report.seeds)} seeds. That is too few to know how much chance there is in training: "
            "the intervals are somewhat too narrow."
        )
    parts = [s for s in report.subsets if s.available is not None and s.evaluated < s.available]
    if parts:
        found.append(f"Evaluated on a part of the problems: {_told_subsets(parts)}.")
    for target in report.targets:
        name = target.title or target.task
        if target.dropped_from_transfer:
            found.append(
                f"{name}: {', '.join(target.dropped_from_transfer)} is left out of BWT, "
                "because the base model solves none of its problems."
            )
        if target.reference and not any(arm.against_reference for arm in target.arms):
            found.append(
                f"{name}: arms are told apart by whether their intervals are apart, "
                "which misses differences that a paired comparison would find."
            )
        small = [arm for arm in target.arms if 0 < arm.rows_out < 0.5 * arm.rows_in]
        found.extend(
            f"{name}: {arm.name} was trained on {arm.rows_out} of {arm.rows_in} rows, so it also saw less data."
            for arm in small
        )
    return tuple(found)


def _told_subsets(parts: Sequence[EvaluatedSubset]) -> str:
    """The same numbers said once: "100 of 200 each of arithmetic and words"."""
    tasks: dict[tuple[int, int | None, str], list[str]] = {}
    for part in parts:
        tasks.setdefault((part.evaluated, part.available, part.split), []).append(part.task)
    return "; ".join(
        f"{evaluated} of {available} ({split}) {'each ' if len(names) > 1 else ''}of {', '.join(names)}"
        for (evaluated, available, split), names in tasks.items()
    )
