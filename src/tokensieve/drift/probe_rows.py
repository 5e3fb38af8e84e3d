"""Token rows on which drift is measured: the base's own dialogues, its answers to given prompts, plain text."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tokensieve.config import DataSettings, DialogueSettings, DriftSettings, GenerateSettings, SampleSettings
from tokensieve.data.dataset import Rows, ShardRun
from tokensieve.data.formats import read_examples
from tokensieve.data.manifest import Counts, Manifest, digest_of
from tokensieve.data.row_counts import Tally
from tokensieve.data.shards import FinishedShard
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel
from tokensieve.pipeline import load
from tokensieve.pipeline.rows import tell_unread
from tokensieve.sampling import LocalSampler, Request
from tokensieve.tasks import get_task, split_name
from tokensieve.types import IntArray, Message, Progress, Sample, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NO_ANSWER: Final = "no answer"
TASK_PREFIX: Final = "task:"
_SHARD_ROWS: Final = 128
_WINDOW: Final = 1024
"""Tokens of plain text in one row."""


def dialogue_rows(
    base: LoadedModel, settings: DriftSettings, out: Path, progress: Progress | None = None
) -> Rows[Tokens]:
    """Dialogues drawn from the base itself, prompts included; the answers are the response.

    Empty, degenerate, repeated and cut-off dialogues are left out and counted, as in ``generate``.

    Returns:
        The rows; the counts begin at what was drawn.

    Raises:
        InputError: the chat template has no user header to draw a prompt from, no dialogue is of use, or ``out`` is of
            another run.
    """
    from tokensieve.generation.dialogue import generate_dialogues

    drawing = GenerateSettings(
        arm="self-dialogue",
        sampling={"n": 1, "temperature": settings.temperature, "top_p": 1.0, "seed": settings.seed},
        dialogue=DialogueSettings(count=settings.dialogues, answer_tokens=settings.max_new_tokens),
    )
    examples = generate_dialogues(base, LocalSampler(base), drawing, out / "drawn", progress=progress)
    if not len(examples):
        counts = examples.manifest.counts
        why = ", ".join(f"{reason}: {number:,}" for reason, number in counts.dropped.items())
        raise InputError(
            f"of {counts.rows_in:,} dialogues drawn from the model none is of use" + (f" ({why})" if why else ""),
            fix="draw more of them, or longer ones; or measure on rows or prompts of yours",
        )
    return counted_since(examples.manifest.counts, load(examples, base, DataSettings(), out / "rows"))


def counted_since(before: Counts, rows: Rows[Tokens]) -> Rows[Tokens]:
    """Rows whose counts begin at an earlier stage's: its rows in, and what either stage dropped."""
    counts = rows.manifest.counts
    reasons = dict.fromkeys((*before.dropped, *counts.dropped))
    dropped = {reason: before.dropped.get(reason, 0) + counts.dropped.get(reason, 0) for reason in reasons}
    summed = counts.model_copy(update={"rows_in": before.rows_in, "dropped": dropped})
    return replace(rows, manifest=rows.manifest.model_copy(update={"counts": summed}))


def answer_rows(
    prompts: str,
    base: LoadedModel,
    settings: DriftSettings,
    out: Path,
    *,
    n: int = 1,
    progress: Progress | None = None,
) -> Rows[Tokens]:
    """The base's own answers to the prompts of a data set, at the settings' temperature; an answer is the response.

    An answer that the length limit cut off is kept as far as it goes: divergence is taken token by token.

    Args:
        prompts: a data set as in ``tokensieve score``, or ``task:NAME/SPLIT``; of each row the turns before the last
            answer.
        base: the model before training.
        settings: number of prompts and sampling.
        out: folder of the rows; drawn once, a killed run goes on.
        n: answers to a prompt; the likeliest of them by mean nll is kept, whole ones first.
        progress: called with the prompts answered and those in all.

    Returns:
        One row a prompt; prompts without an answer, such as those that fill the model's context, are counted.

    Raises:
        InputError: as in reading the data set, or no row has a prompt.
    """
    tally = Tally()
    questions = list(islice(_prompts(prompts, settings.data, tally), settings.limit))
    tell_unread(prompts, tally.noted)
    if not questions:
        raise InputError("expected rows with a prompt, found none", where=prompts)
    sampler = LocalSampler(base)
    sampling = SampleSettings(temperature=settings.temperature, seed=settings.seed)
    given = {"sampling": sampling.model_dump(mode="json"), "max_new_tokens": settings.max_new_tokens}
    draft = Manifest(
        stage="tokens",
        settings={**given, "n": n} if n > 1 else given,
        inputs={"prompts": digest_of([list(turns) for _, turns in questions])},
        model=base.identity,
        seed=settings.seed,
    )
    with ShardRun[Tokens](out, draft) as run:
        if run.finished is not None:
            return run.finished
        answered = 0

        def answer(shard: slice) -> list[Tokens]:
            nonlocal answered
            rows = _drawn(sampler, questions[shard], sampling, settings.max_new_tokens, n)
            answered += len(rows)
            return rows

        def recall(_: slice, done: FinishedShard[Tokens]) -> None:
            nonlocal answered
            answered += done.rows

        def passed(shard: slice) -> None:
            if progress is not None:
                progress(min(shard.stop, len(questions)), len(questions))

        shards = (slice(start, start + _SHARD_ROWS) for start in range(0, len(questions), _SHARD_ROWS))
        run.make(shards, answer, recall=recall, passed=passed, write_behind=False)
        lost = len(questions) - answered
        return run.finish(Counts(rows_in=len(questions), dropped={NO_ANSWER: lost} if lost else {}))


def text_rows(path: Path, tokenizer: "PreTrainedTokenizerBase", limit: int, window: int = _WINDOW) -> list[Tokens]:
    """A text file in rows of ``window`` tokens behind a begin-of-text token; every token but that one is response.

    Raises:
        InputError: the file is missing, empty or not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read it: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise InputError(f"no UTF-8 text: {error.reason} at byte {error.start}", where=str(path)) from None
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise InputError("expected text, the file is empty", where=str(path))
    head = [] if begin is None else [begin]
    windows = (ids[start : start + window] for start in range(0, len(ids), window))
    return [_row(f"{path.name}/{n}", head, window) for n, window in enumerate(islice(windows, limit))]


def _prompts(source: str, data: Path | None, tally: Tally) -> Iterator[tuple[str, tuple[Message, ...]]]:
    """Id and the turns before the last answer of every row, or of every problem of a task."""
    if source.startswith(TASK_PREFIX):
        task, split = split_name(source.removeprefix(TASK_PREFIX))
        for problem in get_task(task).problems(split or "train", data):
            yield problem.id, problem.prompt
        return
    for example in read_examples(source, DataSettings(), tally):
        turns = example.messages[:-1] if example.messages[-1]["role"] == "assistant" else example.messages
        if turns:
            yield example.id, turns


def _drawn(
    sampler: LocalSampler,
    questions: Sequence[tuple[str, tuple[Message, ...]]],
    sampling: SampleSettings,
    max_new_tokens: int,
    n: int,
) -> list[Tokens]:
    requests = {name: Request(name, turns, max_new_tokens, n=n) for name, turns in questions}
    best: dict[str, Sample] = {}
    for sample in sampler.draw(requests.values(), sampling):
        held = best.get(sample.problem_id)
        if sample.ids and (held is None or _rank(sample) < _rank(held)):
            best[sample.problem_id] = sample
    return [
        _row(name, sampler.prompt_T(request), best[name].ids, finished=best[name].finished)
        for name, request in requests.items()
        if name in best
    ]


def _rank(sample: Sample) -> tuple[bool, float, int]:
    """Order of the answers to a prompt: whole ones first, then by mean nll, then by number."""
    return not sample.finished, sample.nll, sample.index


def _row(name: str, prompt: "IntArray | Sequence[int]", response: Sequence[int], *, finished: bool = False) -> Tokens:
    ids_T = np.array([*prompt, *response], dtype=np.int32)
    in_response_T = np.arange(len(ids_T)) >= len(prompt)
    ends_turn_T = np.zeros(len(ids_T), dtype=np.bool_)
    ends_turn_T[-1] = finished
    return Tokens(name, ids_T, in_response_T, ends_turn_T)
