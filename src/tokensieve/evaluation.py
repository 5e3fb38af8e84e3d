"""Answer the problems of benchmarks, judge and keep every answer, and compare two models on the same problems."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final, TypeAlias, cast

import numpy as np

from tokensieve import metrics
from tokensieve.config import EvaluateSettings, ModelSettings
from tokensieve.data.dataset import FolderWriter, Rows, in_memory, open_rows
from tokensieve.data.manifest import Counts, Manifest, package_versions
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel
from tokensieve.sampling import Sampler
from tokensieve.sampling.grading import judge_samples, load_problems, problems_digest, requests_of, sampler_of, told
from tokensieve.sampling.loglikelihood import weigh
from tokensieve.tasks import Task
from tokensieve.tasks.lookup import get_task
from tokensieve.types import BoolArray, Outcome, Problem, Sample

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the answers done and the answers in all."""

_SHARD_PROBLEMS: Final = 512
"""Problems in one file of the result; a kill costs at most the answers to as many."""


@dataclass(frozen=True, slots=True)
class TaskScore:
    """How one task went.

    Attributes:
        task: its name.
        accuracy: share of correct answers, a fraction, with a Wilson interval; NaN without answers.
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


@dataclass(frozen=True)
class EvalResult:
    """Every answer with its verdict, and what they come to.

    Attributes:
        rows: one sample an answer, in the order of the problems.
    """

    rows: Rows[Sample]

    @cached_property
    def scores(self) -> tuple[TaskScore, ...]:
        """One entry a task, in the order in which they were evaluated."""
        samples: dict[str, list[tuple[Outcome, bool]]] = {}
        for sample in self.rows:
            samples.setdefault(sample.task, []).append((_outcome(sample), sample.finished))
        return tuple(_task_score(task, found) for task, found in samples.items())

    def __iter__(self) -> Iterator[TaskScore]:
        return iter(self.scores)

    def accuracies(self) -> dict[str, float]:
        """Task to accuracy, a fraction."""
        return {score.task: score.accuracy.value for score in self.scores}

    def flags(self) -> dict[str, dict[tuple[str, int], bool]]:
        """Task to (problem id, number of the answer) to whether it is correct."""
        found: dict[str, dict[tuple[str, int], bool]] = {}
        for sample in self.rows:
            found.setdefault(sample.task, {})[sample.problem_id, sample.index] = _outcome(sample) is Outcome.CORRECT
        return found


@dataclass(frozen=True, slots=True)
class Change:
    """One task before and after, on the same problems.

    Attributes:
        before: the base model's score.
        after: the trained model's.
        gained: answers that are correct only after.
        lost: answers that were correct only before.
    """

    before: TaskScore
    after: TaskScore
    gained: int
    lost: int


@dataclass(frozen=True, slots=True)
class EvalComparison:
    """A trained model against its base.

    Attributes:
        target: the task that was trained.
        changes: the target first, then the tasks of backward transfer.
        forgetting: TI and BWT with intervals by a paired bootstrap over problems.
    """

    target: str
    changes: tuple[Change, ...]
    forgetting: metrics.Forgetting


def evaluate(
    model: ModelSettings | LoadedModel | Sampler | str,
    settings: EvaluateSettings,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> EvalResult:
    """Answer and judge the problems of all tasks; greedy unless the settings say otherwise.

    Answers and verdicts do not depend on the batch size. An answer that the length limit cut off is judged by the text
    there is and keeps the flag; with ``settings.cut_off = "wrong"`` its outcome is ``cut_off`` unread. With several
    samples a problem, accuracy is the mean over all of them. Of a task that compares likelihoods there is one sample a
    problem, whatever the settings say.

    Args:
        model: the model, or any sampler.
        settings: tasks, split, limit and sampling rule.
        out: folder of the result; the same call goes on where a killed one stopped. None keeps all in memory.
        progress: called with the answers done and the answers in all.

    Raises:
        InputError: no tasks, an unknown task, or as in loading the model and the tasks' data.
        EnvironmentProblem: no sandbox for generated code, no harness for ``lm-eval:`` tasks, no memory, no disk space.
    """
    tasks = {name: get_task(name) for name in dict.fromkeys(settings.tasks)}
    if not tasks:
        raise InputError("no tasks to evaluate", where="evaluate.tasks", fix="name at least one task")
    problems = {n: load_problems(task, settings.split, settings.data, settings.limit) for n, task in tasks.items()}
    sampler = sampler_of(model)
    draft = _draft(sampler, settings, problems)
    total = settings.sampling.n * sum(len(listed) for listed in problems.values())
    count = _Counter(total, progress)
    shards = [
        (tasks[name], listed[first : first + _SHARD_PROBLEMS])
        for name, listed in problems.items()
        for first in range(0, len(listed), _SHARD_PROBLEMS)
    ]
    if out is None:
        made = [sample for task, shard in shards for sample in _answers(sampler, task, shard, settings, count)]
        return EvalResult(in_memory(made, draft))
    with FolderWriter(Path(out), draft) as writer:
        for index, (task, shard) in enumerate(shards):
            if writer.has(index):
                count.add(len(shard) * settings.sampling.n)
            else:
                writer.write(index, _answers(sampler, task, shard, settings, count))
        return EvalResult(cast("Rows[Sample]", writer.finish(Counts(rows_in=total))))


class _Counter:
    """Answers done so far, told to whoever wants to know."""

    def __init__(self, total: int, progress: Progress | None) -> None:
        self._total = total
        self._progress = progress
        self._done = 0

    def add(self, number: int = 1) -> None:
        self._done += number
        if self._progress is not None:
            self._progress(self._done, self._total)


def _answers(
    sampler: Sampler, task: Task, problems: Sequence[Problem], settings: EvaluateSettings, count: _Counter
) -> list[Sample]:
    if task.weighing is not None:
        weighed = weigh(task, task.weighing, problems, sampler)
        count.add(len(problems) * settings.sampling.n)
        return weighed
    drawn = sampler.draw(requests_of(task, problems, settings.sampling), settings.sampling)
    return judge_samples(task, problems, told(drawn, count.add), settings.cut_off)


def open_evaluation(folder: str | Path) -> EvalResult:
    """The result in a folder that ``evaluate`` has finished.

    Raises:
        InputError: there is none.
    """
    rows = open_rows(folder)
    if rows.manifest.stage != "evaluated":
        raise InputError(
            f"this is the folder of a stage {rows.manifest.stage!r}, expected an evaluation",
            where=str(folder),
            fix="tokensieve evaluate … makes one",
        )
    return EvalResult(cast("Rows[Sample]", rows))


def compare(
    before: EvalResult, after: EvalResult, target: str, others: Iterable[str] | None = None, *, seed: int = 0
) -> EvalComparison:
    """What a training run gained on its target and forgot elsewhere, problem by problem.

    Args:
        before: the base model's evaluation.
        after: the trained model's, of the same problems.
        target: the task that was trained.
        others: the tasks of backward transfer; None is all that the base was evaluated on.
        seed: of the bootstrap.

    Raises:
        InputError: a task is missing, or the problems before and after are not the same.
    """
    ours, theirs = before.flags(), after.flags()
    names = (target, *(others if others is not None else (task for task in ours if task != target)))
    pairs = {task: _paired(task, ours, theirs) for task in names}
    scores = [{score.task: score for score in result} for result in (before, after)]
    changes = tuple(
        Change(scores[0][task], scores[1][task], int((~was & now).sum()), int((was & ~now).sum()))
        for task, (was, now) in pairs.items()
    )
    found = metrics.forgetting(
        {task: was for task, (was, _) in pairs.items()},
        [{task: now for task, (_, now) in pairs.items()}],
        target,
        seed=seed,
    )
    return EvalComparison(target, changes, found)


def _task_score(task: str, answers: Sequence[tuple[Outcome, bool]]) -> TaskScore:
    """A task's score from the outcome of each answer and whether it was finished."""
    counts = Counter(outcome for outcome, _ in answers)
    cut_off = Counter(outcome for outcome, finished in answers if not finished)
    return TaskScore(
        task=task,
        accuracy=metrics.accuracy(counts[Outcome.CORRECT], len(answers)),
        outcomes={outcome: counts[outcome] for outcome in Outcome},
        cut_off=cut_off.total(),
        cut_off_correct=cut_off[Outcome.CORRECT],
    )


def _draft(sampler: Sampler, settings: EvaluateSettings, problems: Mapping[str, Sequence[Problem]]) -> Manifest:
    # Where the problems lie and how many are answered at a time changes no answer.
    kept = settings.model_dump(mode="json", exclude={"data": True, "sampling": {"batch_size"}})
    return Manifest(
        stage="evaluated",
        settings=kept,
        inputs={name: problems_digest(listed) for name, listed in problems.items()},
        model=sampler.identity,
        versions=dict(package_versions()),
        seed=settings.sampling.seed,
    )


def _outcome(sample: Sample) -> Outcome:
    return Outcome.NOT_JUDGED if sample.verdict is None else sample.verdict.outcome


def _paired(
    task: str,
    before: Mapping[str, Mapping[tuple[str, int], bool]],
    after: Mapping[str, Mapping[tuple[str, int], bool]],
) -> tuple[BoolArray, BoolArray]:
    """One flag an answer before and after, in the order of the problems' ids."""
    for name, flags in (("before", before), ("after", after)):
        if task not in flags:
            known = ", ".join(sorted(flags)) or "none"
            raise InputError(f"task {task!r} was not evaluated {name}; there are: {known}")
    if before[task].keys() != after[task].keys():
        alone = len(before[task].keys() ^ after[task].keys())
        raise InputError(
            f"the problems before and after are not the same: {alone:,} answers have no partner",
            where=f"task {task}",
            fix="evaluate both models with the same --split, --limit and number of samples",
        )
    keys = sorted(before[task])
    return tuple(np.array([flags[task][key] for key in keys], dtype=np.bool_) for flags in (before, after))  # type: ignore[return-value]
