"""From a task's training problems to a model's own training data."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from tokensieve.config import GenerateSettings, ModelSettings
from tokensieve.data.dataset import Rows, ShardRun, in_shards
from tokensieve.data.manifest import Manifest, package_versions
from tokensieve.data.row_counts import Tally
from tokensieve.generation.choose import choose, correct_ones, want_correct, wrong_ones
from tokensieve.generation.perplexity import conditional_nll, unconditional_nll
from tokensieve.generation.rephrase import is_leftover, rephrase_prompt
from tokensieve.generation.sample_and_check import Progress, by_problem, check_all, draw_all, phase_run
from tokensieve.generation.sampler_factory import answerer_of
from tokensieve.generation.yield_stats import PromptYield, write_yields, yield_of
from tokensieve.models import LoadedModel, load_model
from tokensieve.sampling import Sampler
from tokensieve.sampling.grading import load_problems, problems_digest, requests_of
from tokensieve.tasks import Task, get_task
from tokensieve.types import JSON, Example, Origin, Problem, Sample

_ORIGINS: Final = {
    "self-output": Origin.SELF_OUTPUT,
    "rephrase": Origin.REPHRASE,
    "larger-model": Origin.LARGER_MODEL,
}

_SHARD_ROWS: Final = 512


def generate(
    task: str | Task,
    model: ModelSettings | LoadedModel | str,
    settings: GenerateSettings,
    out: str | Path,
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

    The arm self-dialogue needs no task; ``task`` is then not read.

    Args:
        task: whose problems are answered, and whose checker judges.
        model: the model that is to be trained; it answers, unless the settings name another one.
        settings: what is made and how.
        out: folder of the result.
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
    out = Path(out)
    base = model if isinstance(model, LoadedModel) else load_model(model)
    sampler = sampler or answerer_of(settings, base)
    if settings.arm == "self-dialogue":
        from tokensieve.generation.dialogue import generate_dialogues

        return generate_dialogues(base, sampler, settings, out, limit=limit, progress=progress)
    task = get_task(task) if isinstance(task, str) else task
    problems = load_problems(task, "train", data, limit)
    draft = draft_of(settings, {task.name: problems_digest(problems)}, sampler)
    with ShardRun[Example](out, draft) as run:
        if run.finished is not None:
            return run.finished
        asked = problems
        if settings.arm == "rephrase":
            asked = [replace(problem, prompt=rephrase_prompt(task, problem)) for problem in problems]
        requests = requests_of(task, asked, settings.sampling)
        drawing = phase_run(out, "samples", draft, "samples")
        samples = draw_all(sampler, task, problems, requests, settings, drawing, progress)
        checked = check_all(task, problems, samples, phase_run(out, "checked", draft, "evaluated"))
        # Where a task names texts that end an answer, the ids go on behind them.
        same_tokens = task.ended is None and sampler.identity.tokenizer_digest in ("", base.identity.tokenizer_digest)
        choice = _Choice(problems, settings, base, same_tokens=same_tokens)
        examples = choice.examples(dict(by_problem(checked)))
        write_yields(out, choice.yields)
        run.make(in_shards(examples, _SHARD_ROWS), list)
        return run.finish(choice.tally.counts, choice.facts())


def draft_of(settings: GenerateSettings, inputs: Mapping[str, str], sampler: Sampler) -> Manifest:
    """The manifest of the result, as far as it is known at the start."""
    # How many answers are drawn at a time, on which machine, and how a server is asked, changes no answer.
    asking = {"workers", "concurrency", "retries", "timeout_s", "requests_per_minute"}
    left_out = {"sampling": {"batch_size"}, "answerer": asking}
    if settings.answerer.backend == "ray":
        here = settings.answerer.model_copy(update={"backend": "transformers"})
        settings = settings.model_copy(update={"answerer": here})
    return Manifest(
        stage="examples",
        settings=settings.model_dump(mode="json", exclude=left_out),
        inputs=dict(inputs),
        model=sampler.identity,
        versions=dict(package_versions()),
        seed=settings.sampling.seed,
    )


class _Choice:
    """Chooses one answer a prompt and keeps account of it."""

    def __init__(
        self, problems: Sequence[Problem], settings: GenerateSettings, base: LoadedModel, *, same_tokens: bool
    ) -> None:
        self._problems = problems
        self._settings = settings
        self._base = base
        self._same_tokens = same_tokens
        self._origin = _ORIGINS[settings.arm]
        self.tally = Tally()
        self.yields: list[PromptYield] = []
        self._retokenised = self._fallbacks = self._wrong = self._other_ids = self._other_text = 0

    def examples(self, samples: Mapping[str, Sequence[Sample]]) -> list[Example]:
        """The training rows, in the problems' order."""
        correct = {p.id: self._fit(correct_ones(samples.get(p.id, ()))) for p in self._problems}
        wrong = {p.id: self._fit(wrong_ones(samples.get(p.id, ()))) for p in self._problems}
        kinds = {p.id: (bool(correct[p.id]), bool(wrong[p.id])) for p in self._problems}
        wanted = want_correct(kinds, self._settings.correct_share, self._settings.sampling.seed)
        candidates = {p.id: (correct if wanted[p.id] else wrong)[p.id] for p in self._problems}
        nll = self._nlls(candidates)
        rows = []
        for problem in self._problems:
            self.tally.take()
            drawn = samples.get(problem.id, ())
            seed = self._settings.sampling.seed
            chosen = choose(candidates[problem.id], self._settings.choose, seed, nll.get(problem.id, {}))
            self._wrong += chosen is not None and not wanted[problem.id]
            leftovers = len(correct_ones(drawn)) - len(correct[problem.id])
            mean = float("nan") if chosen is None else nll.get(problem.id, {}).get(chosen.index, float("nan"))
            self.yields.append(yield_of(problem.id, drawn, leftovers=leftovers, chosen=chosen, nll=mean))
            row = self._row(problem, chosen, self.yields[-1], wanted=wanted[problem.id])
            if row is not None:
                rows.append(row)
        return rows

    def facts(self) -> dict[str, JSON]:
        """What the manifest tells of the whole."""
        drawn = sum(entry.drawn for entry in self.yields)
        return {
            "answers": drawn,
            "correct_answers": sum(entry.correct for entry in self.yields),
            "cut_off_answers": sum(entry.cut_off for entry in self.yields),
            "correct_cut_off_answers": sum(entry.cut_off_correct for entry in self.yields),
            "prompts_with_a_correct_answer": sum(entry.correct > 0 for entry in self.yields),
            "ground_truth_rows": self._fallbacks,
            "wrong_rows": self._wrong,
            "retokenised_rows": self._retokenised,
            "retokenised_rows_with_another_text": self._other_text,
            "sampled_rows_that_text_would_tokenise_otherwise": self._other_ids,
        }

    def _fit(self, samples: list[Sample]) -> list[Sample]:
        if self._settings.arm != "rephrase":
            return samples
        return [sample for sample in samples if not is_leftover(sample.text)]

    def _nlls(self, candidates: Mapping[str, Sequence[Sample]]) -> dict[str, dict[int, float]]:
        """Prompt id and sample number to mean nll under the model that is to be trained, where the choice needs it."""
        if self._settings.choose != "lowest-perplexity":
            return {}
        listed = [(problem, sample) for problem in self._problems for sample in candidates[problem.id]]
        if self._settings.perplexity == "unconditional":
            values = unconditional_nll([sample.text for _, sample in listed], self._base)
        elif self._same_tokens and self._settings.arm == "self-output" and all(s.nll == s.nll for _, s in listed):
            values = [sample.nll for _, sample in listed]
        else:
            values = conditional_nll([self._example(problem, sample) for problem, sample in listed], self._base)
        found: dict[str, dict[int, float]] = {}
        for (problem, sample), value in zip(listed, values, strict=True):
            found.setdefault(problem.id, {})[sample.index] = value
        return found

    def _row(self, problem: Problem, chosen: Sample | None, found: PromptYield, *, wanted: bool) -> Example | None:
        if chosen is not None:
            row = self._example(problem, chosen)
            self._note_round_trip(row, chosen)
            return row
        if wanted and self._settings.none_correct == "ground-truth":
            self._fallbacks += 1
            return Example(problem.id, (*problem.prompt, {"role": "assistant", "content": problem.gold}), problem.task)
        reason = "no correct answer" if wanted else "no wrong answer"
        if found.leftovers:
            reason = "every correct answer talks about the request"
        elif wanted and found.cut_off_correct:
            reason = "every correct answer was cut off by the length limit"
        self.tally.drop(reason, problem.id)
        return None

    def _note_round_trip(self, row: Example, sample: Sample) -> None:
        """Count what is lost where ids are made from text, and what would be where they are not."""
        tokenizer = self._base.tokenizer
        ids = tokenizer(sample.text, add_special_tokens=False)["input_ids"]
        if row.sampled_ids is None:
            self._retokenised += 1
            self._other_text += tokenizer.decode(ids) != sample.text
        else:
            self._other_ids += row.sampled_ids[:-1].tolist() != ids

    def _example(self, problem: Problem, sample: Sample) -> Example:
        keeps_ids = self._same_tokens and not sample.retokenised and len(sample.ids) > 0
        return Example(
            id=problem.id,
            messages=(*problem.prompt, {"role": "assistant", "content": sample.text}),
            task=problem.task,
            origin=self._origin,
            sampled_ids=np.array(sample.ids, dtype=np.int32) if keeps_ids else None,
        )
