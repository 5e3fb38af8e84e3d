"""The two resumable phases: draw and keep every answer, then check every answer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tokensieve.config import GenerateSettings, SampleSettings
from tokensieve.data.dataset import Rows, ShardRun
from tokensieve.data.manifest import Counts, Manifest, package_versions
from tokensieve.generation.choose import correct_ones
from tokensieve.sampling import Request, Sampler
from tokensieve.sampling.grading import judge_samples, with_progress
from tokensieve.tasks import Task
from tokensieve.types import Problem, Progress, Sample

SHARD_PROMPTS: Final = 64
"""Prompts in one file; a kill costs at most the answers to as many."""


def draw_all(
    sampler: Sampler,
    task: Task,
    problems: Sequence[Problem],
    requests: Sequence[Request],
    sampling: SampleSettings,
    stop_at: int | None,
    run: ShardRun[Sample],
    progress: Progress | None,
) -> Rows[Sample]:
    """Draw the answers and keep all of them as they came; the first phase.

    Args:
        sampler: draws the answers.
        task: judges in between where drawing stops at a number of correct answers.
        problems: the problems.
        requests: one a problem, in the same order.
        sampling: sampling rule.
        stop_at: correct answers to a prompt that end its drawing; None draws all.
        run: of the samples' folder.
        progress: told of every answer.
    """
    total, done = sum(request.n for request in requests), 0

    def answered() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(min(done, total), total)

    def draw(shard: slice) -> list[Sample]:
        drawn = _draw_shard(sampler, task, problems[shard], requests[shard], sampling, stop_at, answered)
        return _in_order(drawn, problems[shard])

    def passed(shard: slice) -> None:
        nonlocal done
        done = sum(request.n for request in requests[: shard.stop])
        if progress is not None:
            progress(done, total)

    with run:
        if run.finished is not None:
            return run.finished
        run.make(
            (slice(n, n + SHARD_PROMPTS) for n in range(0, len(problems), SHARD_PROMPTS)),
            draw,
            passed=passed,
            write_behind=False,
        )
        return run.finish(Counts(rows_in=total))


def check_all(task: Task, problems: Sequence[Problem], samples: Rows[Sample], run: ShardRun[Sample]) -> Rows[Sample]:
    """Give every answer its verdict, shard by shard; the second phase's first half."""
    with run:
        if run.finished is not None:
            return run.finished
        run.make(samples.shards(), lambda read: judge_samples(task, problems, read()))
        return run.finish(Counts(rows_in=len(samples)))


def draft_of(
    settings: GenerateSettings, sampling: SampleSettings, inputs: Mapping[str, str], sampler: Sampler
) -> Manifest:
    """The manifest of the result, as far as it is known at the start."""
    # How many answers are drawn at a time, on which machine, and how a server is asked, changes no answer.
    asking = {"workers", "concurrency", "retries", "timeout_s", "requests_per_minute"}
    left_out = {"sampling": {"batch_size"}, "answerer": asking}
    if settings.answerer.backend == "ray":
        here = settings.answerer.model_copy(update={"backend": "transformers"})
        settings = settings.model_copy(update={"answerer": here})
    kept = settings.model_dump(mode="json", exclude=left_out)
    kept["sampling"]["n"] = sampling.n
    return Manifest(
        stage="examples",
        settings=kept,
        inputs=dict(inputs),
        model=sampler.identity,
        versions=dict(package_versions()),
        seed=settings.sampling.seed,
    )


def by_problem(samples: Rows[Sample]) -> Iterator[tuple[str, list[Sample]]]:
    """The samples of each problem together, in the order in which they lie."""
    group: list[Sample] = []
    for sample in samples:
        if group and group[0].problem_id != sample.problem_id:
            yield group[0].problem_id, group
            group = []
        group.append(sample)
    if group:
        yield group[0].problem_id, group


def phase_run(out: Path, name: str, draft: Manifest, stage: str) -> ShardRun[Sample]:
    """The run of a phase in a folder of its own inside the result's."""
    return ShardRun(out / name, draft.model_copy(update={"stage": stage, "facts": {}}))


def _draw_shard(
    sampler: Sampler,
    task: Task,
    problems: Sequence[Problem],
    requests: Sequence[Request],
    sampling: SampleSettings,
    stop_at: int | None,
    answered: Callable[[], None],
) -> list[Sample]:
    if stop_at is None:
        return list(with_progress(sampler.draw(requests, sampling), answered))
    return _draw_until(sampler, task, problems, requests, stop_at, sampling, answered)


def _in_order(samples: list[Sample], problems: Sequence[Problem]) -> list[Sample]:
    order = {problem.id: place for place, problem in enumerate(problems)}
    return sorted(samples, key=lambda sample: (order[sample.problem_id], sample.index))


def _draw_until(
    sampler: Sampler,
    task: Task,
    problems: Sequence[Problem],
    requests: Sequence[Request],
    stop_at: int,
    sampling: SampleSettings,
    answered: Callable[[], None],
) -> list[Sample]:
    """Rounds of ``stop_at`` answers, twice as many each time, for the prompts that do not have enough correct ones."""
    kept: list[Sample] = []
    correct = dict.fromkeys((request.id for request in requests), 0)
    first, width = 0, stop_at
    while first < sampling.n:
        width = min(width, sampling.n - first)
        open_ones = [_part(request, first, width) for request in requests if correct[request.id] < stop_at]
        if not open_ones:
            break
        for sample in judge_samples(task, problems, with_progress(sampler.draw(open_ones, sampling), answered)):
            correct[sample.problem_id] += bool(correct_ones([sample]))
            kept.append(sample)
        first, width = first + width, 2 * width
    return kept


def _part(request: Request, first: int, count: int) -> Request:
    return Request(
        request.id,
        request.messages,
        request.max_new_tokens,
        n=count,
        first=first,
        task=request.task,
        prompt_T=request.prompt_T,
    )
