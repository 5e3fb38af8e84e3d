"""Judged answers in one form, whichever tool judged them; a task's score, and whether two evaluations may be paired."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from tokensieve import metrics
from tokensieve.errors import InputError
from tokensieve.types import JSON, Outcome

CUT_OFF_RULE: Final = "cut-off answers"
"""Name of the rule for cut-off answers among the settings that were asked."""
_NAMED: Final = 3
"""Settings or problems that an error names; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One judged answer to one problem.

    Attributes:
        task: name of the task.
        id: the problem's id; with the task and the sample it pairs the answers of two evaluations.
        outcome: finding of the checker.
        sample: number of the answer among those to its problem, from 0.
        text: the answer; empty where the log has none.
        gold: the reference; empty where the log has none.
        group: problems of one group, such as the questions on one passage, are not independent; empty for none.
        prompt_digest: digest of the prompt; empty where the log has neither it nor the prompt.
        finished: False where the length limit ended the answer.
    """

    task: str
    id: str
    outcome: Outcome
    sample: int = 0
    text: str = ""
    gold: str = ""
    group: str = ""
    prompt_digest: str = ""
    finished: bool = True

    @property
    def correct(self) -> bool:
        """True for the outcome ``CORRECT`` alone."""
        return self.outcome is Outcome.CORRECT


@dataclass(frozen=True, slots=True)
class EvaluationAnswers:
    """All answers of one evaluation and the settings that they were made under.

    Attributes:
        source: path or name, for messages.
        rows: the answers.
        asked: settings that decide which answer is given and whether it counts as right (split, sampling rule, prompts,
            length-limit rule), by name. Two evaluations that are compared must agree in them.
        computed: settings of the model's run (dtype, backend, tokenizer, versions), by name. Where they differ it is
            said.
        model: digest of the weights and the adapter; empty where not known.
        notes: remarks on this evaluation, printed with the comparison.
    """

    source: str
    rows: tuple[Answer, ...]
    asked: Mapping[str, JSON] = field(default_factory=dict)
    computed: Mapping[str, JSON] = field(default_factory=dict)
    model: str = ""
    notes: tuple[str, ...] = ()

    def strict(self) -> "EvaluationAnswers":
        """The same answers, those that the length limit ended counted as not right."""
        rows = tuple(r if r.finished else replace(r, outcome=Outcome.CUT_OFF) for r in self.rows)
        return replace(self, rows=rows, asked={**self.asked, CUT_OFF_RULE: "wrong"})


@dataclass(frozen=True, slots=True)
class TaskScore:
    """Score of one model on one task.

    Attributes:
        task: its name.
        accuracy: share of correct answers, a fraction, with a Wilson interval over problems; NaN without answers.
        outcomes: number of answers by outcome; each outcome is there.
        cut_off: answers that the length limit ended, whatever their outcome.
        cut_off_correct: those of them that are correct.
    """

    task: str
    accuracy: metrics.Estimate
    outcomes: Mapping[Outcome, int]
    cut_off: int = 0
    cut_off_correct: int = 0

    @property
    def answers(self) -> int:
        """All answers of the task."""
        return sum(self.outcomes.values())


def task_score(task: str, answers: Iterable[Answer]) -> TaskScore:
    """A task's score from its answers."""
    listed = list(answers)
    counts = Counter(answer.outcome for answer in listed)
    cut_off = Counter(answer.outcome for answer in listed if not answer.finished)
    problems = len({answer.id for answer in listed})
    return TaskScore(
        task=task,
        accuracy=metrics.accuracy(counts[Outcome.CORRECT], len(listed), problems=problems),
        outcomes={outcome: counts[outcome] for outcome in Outcome},
        cut_off=cut_off.total(),
        cut_off_correct=cut_off[Outcome.CORRECT],
    )


def by_task(rows: Iterable[Answer]) -> dict[str, Sequence[Answer]]:
    """The answers by task, in the order of the tasks' first answers."""
    found: dict[str, list[Answer]] = {}
    for row in rows:
        found.setdefault(row.task, []).append(row)
    return dict(found)


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that the two evaluations do not share.

    Attributes:
        setting: its name.
        before: its value in the base's evaluation.
        after: its value in the other one.
    """

    setting: str
    before: str
    after: str


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
