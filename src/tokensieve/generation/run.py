"""From a task's training problems to a model's own training data."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from tokensieve.config import GenerateSettings, as_settings
from tokensieve.data.dataset import Rows, ShardRun, in_memory, in_shards
from tokensieve.errors import InputError
from tokensieve.generation.arms import ARMS, Arm, arm_of, sampling_of
from tokensieve.generation.choose import CandidateChoice, write_yields
from tokensieve.generation.dialogue import generate_dialogues
from tokensieve.generation.sample_and_check import by_problem, check_all, draft_of, draw_all, phase_run
from tokensieve.models import LoadedModel, ModelLike, load_model
from tokensieve.sampling import LocalSampler, RaySampler, Sampler, ServerSampler, VllmSampler
from tokensieve.sampling.grading import load_problems, problems_digest, requests_of
from tokensieve.tasks import Task, get_task
from tokensieve.tasks.benchmark_io import hub_commits
from tokensieve.types import JSON, Example, Progress

_SHARD_ROWS: Final = 512


def generate(
    task: str | Task,
    model: ModelLike,
    settings: GenerateSettings | Mapping[str, object] | str | None = None,
    out: str | Path | None = None,
    *,
    limit: int | None = None,
    data: Path | None = None,
    sampler: Sampler | None = None,
    progress: Progress | None = None,
) -> Rows[Example]:
    """Make training data for a task's train split with a model (paper section 4: Self-Output, Rephrase).

    Every prompt is answered ``n`` times; every answer is kept in ``out/samples`` as it was sampled, then judged into
    ``out/checked``; one of the correct answers becomes the prompt's training row, with its sampled token ids. An
    answer that was cut off never does, also where its text is found correct: it has no end-of-turn token, so it would
    teach not to stop. ``out/yield.jsonl`` tells what each prompt gave. A killed call goes on where it stopped, and a
    finished one does nothing.

    Args:
        task: whose problems are answered, and whose checker judges; empty for self-dialogue, which has no task.
        model: the model that is to be trained; it answers, unless the settings name another one.
        settings: arm, sampling rule and choice; the name of an arm stands for its defaults.
        out: folder of the result; None keeps the rows in memory, and neither samples nor verdicts.
        limit: the first N problems.
        data: folder with local copies of the benchmarks, one folder a task.
        sampler: answers in place of the model, in tests for example.
        progress: called with the answers drawn and the answers in all.

    Returns:
        One example a prompt that gave one; dropped prompts are counted by reason.

    Raises:
        InputError: unknown task or split, settings that contradict each other, a folder of another run.
        EnvironmentProblem: no sandbox for generated code, a server that cannot be reached, no memory or disk space.
    """
    given = as_settings(GenerateSettings, {"arm": settings} if isinstance(settings, str) else settings, "settings")
    arm = arm_of(given)
    _check_task(task, given, arm, data)
    if out is None:
        with tempfile.TemporaryDirectory() as folder:
            made = generate(task, model, given, folder, limit=limit, data=data, sampler=sampler, progress=progress)
            return in_memory(list(made), made.manifest)
    out = Path(out)
    base = load_model(model)
    if sampler is None:
        with sampler_of_settings(given, base) as own:
            return generate(task, base, given, out, limit=limit, data=data, sampler=own, progress=progress)
    if not arm.from_task:
        return generate_dialogues(base, sampler, given, out, limit=limit, progress=progress)
    task = get_task(task) if isinstance(task, str) else task
    with hub_commits() as commits:
        problems = load_problems(task, "train", data, limit)
    sampling = sampling_of(given)
    draft = draft_of(given, sampling, {task.name: problems_digest(problems, task.rules)}, sampler)
    with ShardRun[Example](out, draft) as run:
        if run.finished is not None:
            return run.finished
        requests = requests_of(task, arm.shown(task, problems), sampling)
        drawing = phase_run(out, "samples", draft, "samples")
        samples = draw_all(sampler, task, problems, requests, sampling, given.stop_at, drawing, progress)
        checked = check_all(task, problems, samples, phase_run(out, "checked", draft, "evaluated"))
        # Where a task names texts that end an answer, the ids go on behind them.
        same_tokens = task.ended is None and sampler.identity.tokenizer_digest in ("", base.identity.tokenizer_digest)
        choice = CandidateChoice(problems, given, arm, base, same_tokens=same_tokens)
        examples = choice.examples(dict(by_problem(checked)))
        write_yields(out, choice.yields)
        run.make(in_shards(examples, _SHARD_ROWS), list)
        facts: dict[str, JSON] = {**choice.facts(), **({"benchmarks": dict(commits)} if commits else {})}
        return run.finish(choice.tally.counts, facts)


def _check_task(task: str | Task, settings: GenerateSettings, arm: Arm, data: Path | None) -> None:
    """Refuse a task that an arm does not read, and an arm without the task that it reads.

    Raises:
        InputError: either of them, or something that is no task.
    """
    if not isinstance(task, str | Task):
        raise InputError(f"expected a task or its name, got {type(task).__name__}", where="task")
    if arm.from_task and not task:
        raise InputError(f"expected the name of a task: {settings.arm} answers its training problems", where="task")
    if not arm.from_task and (task or data is not None):
        named = f"task {task if isinstance(task, str) else task.name!r}" if task else f"data {data}"
        raise InputError(f"the arm {settings.arm} reads no task, got {named}", fix="leave it out")


@contextmanager
def sampler_of_settings(settings: GenerateSettings, base: LoadedModel) -> Iterator[Sampler]:
    """The sampler that the settings ask for: the model itself or another one, here, on Ray, or behind a server.

    Raises:
        InputError: a larger model's answers are wanted but none is named, another model's where the arm is of the model
            itself, or a server without an address.
        EnvironmentProblem: vLLM or Ray is not installed, or as in ``load_model``.
    """
    answerer, arm = settings.answerer, arm_of(settings)
    if arm.another_model and answerer.model is None:
        raise InputError(
            f"the arm {settings.arm} needs another model", where="generate.answerer.model", fix="--answerer.model NAME"
        )
    if not arm.another_model and answerer.model is not None and answerer.backend != "server":
        others = " or ".join(f"--arm {name}" for name, other in ARMS.items() if other.another_model)
        raise InputError(
            f"the arm {settings.arm} is of the model itself, not of another one",
            where="generate.answerer.model",
            fix=f"{others}, or --model {answerer.model}",
        )
    if answerer.backend == "server":
        yield ServerSampler(answerer, base.tokenizer, base.settings.template_kwargs)
        return
    other = base.settings
    if answerer.model is not None:
        other = other.model_copy(update={"model": answerer.model, "revision": None, "adapter": None, "tokenizer": None})
    if answerer.backend == "vllm":
        with closing(VllmSampler(other)) as sampler:
            yield sampler
    elif answerer.backend == "ray":
        yield RaySampler(other, workers=answerer.workers)
    else:
        yield LocalSampler(base if answerer.model is None else load_model(other))
