"""Evaluation: a model answers the problems of benchmarks; every answer is judged and kept."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from tokensieve.comparison.answers import TaskScore, by_task, task_score
from tokensieve.comparison.harness_logs import as_object
from tokensieve.comparison.readers import answers_of_samples, open_evaluated
from tokensieve.config import EvaluateSettings, ScoreSettings, as_settings
from tokensieve.data.dataset import Rows, ShardRun
from tokensieve.data.manifest import Counts, Manifest, package_versions
from tokensieve.data.shards import FinishedShard
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel, ModelLike
from tokensieve.sampling import Sampler
from tokensieve.sampling.grading import (
    judge_samples,
    load_problems,
    problems_digest,
    requests_of,
    sampler_of,
    with_progress,
)
from tokensieve.sampling.loglikelihood import choose_by_likelihood, score_references, score_texts
from tokensieve.scoring import score
from tokensieve.tasks import Likelihood, Task, get_task
from tokensieve.tasks.benchmark_io import hub_commits
from tokensieve.types import JSON, FloatArray, Problem, Progress, Sample, Tokens

_SHARD_PROBLEMS: Final = 512
"""Problems in one file of the result; a kill costs at most the answers to as many."""


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
        answers = answers_of_samples(self.rows, "").rows
        return tuple(task_score(task, listed) for task, listed in by_task(answers).items())

    def __iter__(self) -> Iterator[TaskScore]:
        return iter(self.scores)

    @property
    def figures(self) -> dict[str, dict[str, float]]:
        """Task to its figures beside accuracy, by name, of those tasks that have any."""
        return {
            task: {name: value for name, value in as_object(found).items() if isinstance(value, int | float)}
            for task, found in as_object(self.rows.manifest.facts.get("figures")).items()
        }

    def accuracies(self) -> dict[str, float]:
        """Task to accuracy, a fraction; NaN for a task without answers."""
        return {score.task: math.nan if score.accuracy.value is None else score.accuracy.value for score in self.scores}


def evaluate(
    model: "ModelLike | Sampler",
    settings: EvaluateSettings | Mapping[str, object] | Sequence[str] | str,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> EvalResult:
    """Answer and judge the problems of all tasks; greedy unless the settings say otherwise.

    Answers and verdicts do not depend on the batch size. An answer that the length limit cut off is judged by the text
    there is and keeps the flag; with ``settings.cut_off = "wrong"`` its outcome is ``cut_off`` unread. With several
    samples a problem, accuracy is the mean over all of them. Of a task that compares likelihoods there is one sample a
    problem, whatever the settings say.

    Args:
        model: the model in any form that ``load_model`` takes, or any sampler.
        settings: tasks, split, limit and sampling rule; the name of a task, or several, stand for the defaults.
        out: folder of the result; the same call goes on where a killed one stopped. None keeps all in memory.
        progress: called with the answers done and the answers in all.

    Raises:
        InputError: no tasks, an unknown task, or as in loading the model and the tasks' data.
        EnvironmentProblem: no sandbox for generated code, no harness for ``lm-eval:`` tasks, no memory, no disk space.
    """
    settings = _settings(settings)
    tasks = {name: get_task(name) for name in dict.fromkeys(settings.tasks)}
    if not tasks:
        raise InputError("no tasks to evaluate", where="evaluate.tasks", fix="name at least one task")
    with hub_commits() as commits:
        problems = {n: load_problems(task, settings.split, settings.data, settings.limit) for n, task in tasks.items()}
    sampler = sampler_of(model)
    draft = _draft(sampler, settings, problems, commits)
    total = settings.sampling.n * sum(len(listed) for listed in problems.values())
    count = _Counter(total, progress)
    shards = [
        (tasks[name], listed[first : first + _SHARD_PROBLEMS])
        for name, listed in problems.items()
        for first in range(0, len(listed), _SHARD_PROBLEMS)
    ]
    with ShardRun[Sample](None if out is None else Path(out), draft) as run:
        if run.finished is None:
            figures = _Figures(tasks, problems)
            known: dict[bytes, Likelihood] = {}

            def answer(shard: tuple[Task, list[Problem]]) -> list[Sample]:
                return figures.noted(shard[0], _answers(sampler, *shard, settings, count, known))

            def recall(shard: tuple[Task, list[Problem]], done: FinishedShard[Sample]) -> None:
                count.add(len(shard[1]) * settings.sampling.n)
                figures.recalled(shard[0], done)

            run.make(shards, answer, recall=recall, write_behind=False)
            return EvalResult(run.finish(Counts(rows_in=total), figures.facts()))
        return EvalResult(run.finished)


class _Figures:
    """The answers of those tasks that have figures beside accuracy, gathered until all are there."""

    def __init__(self, tasks: Mapping[str, Task], problems: Mapping[str, Sequence[Problem]]) -> None:
        self._tasks = {task.name: task for task in tasks.values() if task.figures is not None}
        self._problems = {tasks[name].name: {one.id: one for one in listed} for name, listed in problems.items()}
        self._samples: dict[str, list[Sample]] = {name: [] for name in self._tasks}

    def noted(self, task: Task, samples: list[Sample]) -> list[Sample]:
        if task.name in self._tasks:
            self._samples[task.name] += samples
        return samples

    def recalled(self, task: Task, shard: FinishedShard[Sample]) -> None:
        if task.name in self._tasks:
            self._samples[task.name] += shard.read()

    def facts(self) -> dict[str, JSON]:
        """The figures for the manifest; none where no task has any."""
        found: dict[str, JSON] = {}
        for name, task in self._tasks.items():
            if task.figures is not None and self._samples[name]:
                found[name] = dict(task.figures(self._problems[name], self._samples[name]))
        return {"figures": found} if found else {}


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
    sampler: Sampler,
    task: Task,
    problems: Sequence[Problem],
    settings: EvaluateSettings,
    count: _Counter,
    known: dict[bytes, Likelihood],
) -> list[Sample]:
    scored: list[Sample] | None = None
    if task.likelihood_choice is not None:
        scored = choose_by_likelihood(task, task.likelihood_choice, problems, sampler, known)
    elif task.windows is not None:
        scored = score_texts(task, task.windows, problems, sampler)
    elif task.scores_gold:
        scored = score_references(task, problems, sampler)
    if scored is not None:
        count.add(len(problems) * settings.sampling.n)
        return scored
    drawn = sampler.draw(requests_of(task, problems, settings.sampling), settings.sampling)
    return judge_samples(task, problems, with_progress(drawn, count.add), settings.cut_off)


def open_evaluation(folder: str | Path) -> EvalResult:
    """The result in a folder that ``evaluate`` has finished.

    Raises:
        InputError: there is none.
    """
    return EvalResult(open_evaluated(folder))


def _settings(given: EvaluateSettings | Mapping[str, object] | Sequence[str] | str) -> EvaluateSettings:
    if isinstance(given, str):
        given = {"tasks": (given,)}
    elif isinstance(given, list | tuple):
        given = {"tasks": tuple(given)}
    return as_settings(EvaluateSettings, given, "settings")


def _draft(
    sampler: Sampler,
    settings: EvaluateSettings,
    problems: Mapping[str, Sequence[Problem]],
    commits: Mapping[str, str],
) -> Manifest:
    # Where the problems lie and how many are answered at a time changes no answer.
    kept = settings.model_dump(mode="json", exclude={"data": True, "sampling": {"batch_size"}})
    return Manifest(
        stage="evaluated",
        settings=kept,
        inputs={name: problems_digest(listed, get_task(name).rules) for name, listed in problems.items()},
        model=sampler.identity,
        versions=dict(package_versions()),
        seed=settings.sampling.seed,
        facts={"benchmarks": dict(commits)} if commits else {},
    )


def response_nll(rows: Rows[Tokens], model: LoadedModel) -> FloatArray:
    """Nll [N] in nats of the scored response tokens of all rows, in their order.

    Raises:
        InputError: no row has a response token that something precedes, or as in ``score``.
    """
    settings = ScoreSettings(entropy=False, rank=False, use_store=False)
    parts = [row.nll_T()[row.tokens.in_response_T] for row in score(rows, model, settings)]
    nll_N = np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
    nll_N = nll_N[~np.isnan(nll_N)]
    if not len(nll_N):
        raise InputError("the rows have no response token to take the nll of", where=rows.manifest.stage)
    return nll_N


def mean_nll(rows: Rows[Tokens], model: LoadedModel) -> float:
    """Mean nll in nats of the rows' response tokens, all tokens pooled; the validation loss of a fine-tuning run.

    Raises:
        InputError: as ``response_nll``.
    """
    return float(response_nll(rows, model).mean(dtype=np.float64))
