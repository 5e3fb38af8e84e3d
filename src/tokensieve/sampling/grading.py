"""Answers to the problems of a task, each with its verdict: what evaluation counts and generation chooses from."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from tokensieve.config import CutOff, SampleSettings
from tokensieve.data.manifest import digest_of
from tokensieve.models import ModelLike, load_model
from tokensieve.sampling.local import LocalSampler
from tokensieve.sampling.request import Request, Sampler
from tokensieve.tasks import Task
from tokensieve.tasks.judging import judge
from tokensieve.types import Outcome, Problem, Sample, Verdict

CUT_OFF: Final = Verdict(Outcome.CUT_OFF, reason="the length limit cut the answer off")
"""Verdict of the strict rule."""

_JUDGES: Final = 2


def sampler_of(model: "ModelLike | Sampler") -> Sampler:
    """A sampler as it is, or one of this process for a model in any form.

    Raises:
        InputError: as in ``load_model``.
        EnvironmentProblem: as in ``load_model``.
    """
    return model if isinstance(model, Sampler) else LocalSampler(load_model(model))


def load_problems(task: Task, split: str, data: Path | None, limit: int | None) -> list[Problem]:
    """The problems of a task's split, up to the limit.

    Args:
        task: the task.
        split: one of its splits.
        data: local copies, one folder a benchmark, or the one benchmark's own folder; None for the default source.
        limit: at most so many; None for all.

    Raises:
        InputError: an unknown split, or data that is missing or malformed.
    """
    return list(task.problems(split, data, limit))


def problems_digest(problems: Iterable[Problem], rules: str = "") -> str:
    """SHA-256 of problems as they are: prompt, gold answer and facts, 64 hex digits.

    Args:
        problems: in their order.
        rules: ``Task.rules``, so that changed judging counts as changed problems.
    """
    listed = [[p.id, list(p.prompt), p.gold, dict(p.facts)] for p in problems]
    return digest_of([listed, rules] if rules else listed)


def requests_of(task: Task, problems: Iterable[Problem], sampling: SampleSettings) -> list[Request]:
    """One request a problem, under the settings' length limit or else the task's."""
    limit = sampling.max_new_tokens or task.max_new_tokens
    return [Request(p.id, p.prompt, limit, n=sampling.n, task=task.name) for p in problems]


def judge_samples(
    task: Task, problems: Sequence[Problem], samples: Iterable[Sample], cut_off: CutOff = "judge"
) -> list[Sample]:
    """The samples with their verdicts, ordered by problem and number.

    The samples are read as they come, so that answers are judged while others are still being drawn. One that has a
    verdict keeps it. Where the task names texts that end an answer, the sample's text ends there (its ids stay as they
    were drawn). A text that ends inside its answer (an open code block or box) has no answer.

    Args:
        task: whose checker judges.
        problems: the problems that the samples answer.
        samples: the answers.
        cut_off: ``judge`` gives the checker the text of an answer that the length limit ended; ``wrong`` does not, its
            outcome is then ``CUT_OFF``.
    """
    by_id = {problem.id: problem for problem in problems}
    waiting: list[Sample] = []
    judged: list[Sample] = []

    def pairs() -> Iterator[tuple[Problem, str]]:
        for sample in (_ended(task, by_id, drawn) for drawn in samples):
            if sample.verdict is not None:
                judged.append(sample)
            elif not sample.finished and cut_off == "wrong":
                judged.append(replace(sample, verdict=CUT_OFF))
            else:
                waiting.append(sample)
                yield by_id[sample.problem_id], sample.text

    verdicts = [_without_cut_off(verdict) for verdict in judge(task, pairs(), workers=_JUDGES)]
    judged += [replace(sample, verdict=verdict) for sample, verdict in zip(waiting, verdicts, strict=True)]
    order = {problem.id: place for place, problem in enumerate(problems)}
    return sorted(judged, key=lambda sample: (order[sample.problem_id], sample.index))


def _without_cut_off(verdict: Verdict) -> Verdict:
    """A checker's finding on a text that ends inside its answer as what it is to the count: there is no answer."""
    return replace(verdict, outcome=Outcome.NO_ANSWER) if verdict.outcome is Outcome.CUT_OFF else verdict


def _ended(task: Task, problems: Mapping[str, Problem], sample: Sample) -> Sample:
    text = None if task.ended is None else task.ended(problems[sample.problem_id], sample.text)
    return sample if text is None else replace(sample, text=text, finished=True)


def with_progress(samples: Iterable[Sample], answered: Callable[[], None]) -> Iterator[Sample]:
    """The samples as they come, with a call of ``answered`` for each."""
    for sample in samples:
        answered()
        yield sample
