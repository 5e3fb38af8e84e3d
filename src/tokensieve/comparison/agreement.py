"""Agreement of two evaluations: the settings and problems that must be the same before answers are paired."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from tokensieve.comparison.answers import CUT_OFF_RULE, EvaluationAnswers, by_task
from tokensieve.comparison.results import Difference
from tokensieve.errors import InputError
from tokensieve.types import JSON

_NAMED: Final = 3
"""Settings or problems that an error names; the rest is counted."""


def differences_of(
    before: EvaluationAnswers, after: Sequence[EvaluationAnswers], names: Sequence[str]
) -> tuple[Difference, ...]:
    """Every setting in which an evaluation differs from the base's, each once."""
    found: dict[Difference, None] = {}
    for one in after:
        left_out = _left_out((before, one), names)
        unlike = [*_unlike(before.asked, one.asked, left_out), *_unlike_prompts(before, one, names)]
        found |= dict.fromkeys([*unlike, *_unlike(before.computed, one.computed, left_out)])
    return tuple(found)


def _unlike(ours: Mapping[str, JSON], theirs: Mapping[str, JSON], left_out: Iterable[str]) -> list[Difference]:
    """Settings that differ; those of tasks that are not compared do not count."""
    return [
        Difference(name, _shown(ours.get(name)), _shown(theirs.get(name)))
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name) != theirs.get(name) and not any(name.endswith(f" of {task}") for task in left_out)
    ]


def _left_out(sides: Iterable[EvaluationAnswers], names: Sequence[str]) -> set[str]:
    """Tasks that some side has and that are not compared."""
    return {row.task for side in sides for row in side.rows}.difference(names)


def _unlike_prompts(before: EvaluationAnswers, after: EvaluationAnswers, names: Sequence[str]) -> list[Difference]:
    """Tasks whose prompts or references differ although the problems are the same."""
    ours = {(row.task, row.id): row for row in before.rows}
    found = []
    for task, rows in by_task(after.rows).items():
        pairs = [(ours[task, row.id], row) for row in rows if task in names and (task, row.id) in ours]
        for name in ("prompt_digest", "gold"):
            both = [(getattr(was, name), getattr(now, name)) for was, now in pairs]
            unlike = sum(bool(was and now) and was != now for was, now in both)
            if unlike:
                words = "prompts" if name == "prompt_digest" else "references"
                found.append(Difference(f"{words} of {task}", "", f"{unlike:,} of {len(pairs):,} differ"))
    return found


def refuse_unlike(before: EvaluationAnswers, after: Sequence[EvaluationAnswers], names: Sequence[str]) -> None:
    """Refuse settings that change answers or verdicts by themselves.

    Raises:
        InputError: names them with both values.
    """
    for one in after:
        for task in names:
            _check_same_problems(task, before, one)
        left_out = _left_out((before, one), names)
        unlike = [*_unlike(before.asked, one.asked, left_out), *_unlike_prompts(before, one, names)]
        if not unlike:
            continue
        words = "; ".join(f"{d.setting}: {d.before or 'not said'} and {d.after or 'not said'}" for d in unlike[:_NAMED])
        more = f"; and {len(unlike) - _NAMED} more" if len(unlike) > _NAMED else ""
        fix = "evaluate both in the same way; --allow-unlike compares all the same and names the differences"
        if {d.setting for d in unlike} == {CUT_OFF_RULE}:
            fix = "--cut-off wrong counts cut-off answers as not right on both sides"
        raise InputError(
            f"the evaluations differ in settings that change answers: {words}{more}",
            where=f"{before.source} and {one.source}",
            fix=fix,
        )


def _check_same_problems(task: str, before: EvaluationAnswers, after: EvaluationAnswers) -> None:
    ours, theirs = ({(r.id, r.sample) for r in one.rows if r.task == task} for one in (before, after))
    if ours == theirs:
        return
    alone = sorted(ours ^ theirs)
    examples = ", ".join(f"{id_}" if not sample else f"{id_} (answer {sample})" for id_, sample in alone[:_NAMED])
    raise InputError(
        f"the problems before and after are not the same: {len(alone):,} answers have no partner, such as {examples}",
        where=f"task {task}",
        fix="evaluate both models with the same --split, --limit and samples; --allow-unlike takes the common ones",
    )


def _shown(value: JSON) -> str:
    return "" if value is None else str(value)
