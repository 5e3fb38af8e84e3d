"""Token rows on which drift is measured: the base's own dialogues, its answers to given prompts, plain text."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tokensieve.config import DataSettings, DialogueSettings, DriftSettings, GenerateSettings, SampleSettings
from tokensieve.data.dataset import Rows, ShardRun
from tokensieve.data.formats import read_examples
from tokensieve.data.manifest import Counts, Manifest, digest_of
from tokensieve.data.row_counts import Tally
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel
from tokensieve.pipeline import load
from tokensieve.pipeline.load import gold_examples
from tokensieve.pipeline.rows import tell_unread
from tokensieve.sampling import LocalSampler, Request
from tokensieve.types import Example, IntArray, Message, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHARD_ROWS: Final = 128
_WINDOW: Final = 1024
"""Tokens of plain text in one row."""


def dialogue_rows(base: LoadedModel, settings: DriftSettings, out: Path) -> Rows[Tokens]:
    """Dialogues drawn from the base itself, prompts included; the answers are the response.

    Degenerate, repeated and cut-off dialogues are left out and counted, as in ``generate``.

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
    examples = generate_dialogues(base, LocalSampler(base), drawing, out / "drawn")
    if not len(examples):
        counts = examples.manifest.counts
        why = ", ".join(f"{reason}: {number:,}" for reason, number in counts.dropped.items())
        raise InputError(
            f"of {counts.rows_in:,} dialogues drawn from the model none is of use" + (f" ({why})" if why else ""),
            fix="draw more of them, or longer ones; or measure on rows or prompts of yours",
        )
    return load(examples, base, DataSettings(), out / "rows")


def answer_rows(prompts: str, base: LoadedModel, settings: DriftSettings, out: Path) -> Rows[Tokens]:
    """The base's own answers to the prompts of a data set, at the settings' temperature; an answer is the response.

    An answer that the length limit cut off is kept as far as it goes: divergence is taken token by token.

    Args:
        prompts: a data set as in ``tokensieve score``; of each row the turns before the last answer.
        base: the model before training.
        settings: number of prompts and sampling.
        out: folder of the rows; drawn once, a killed run goes on.

    Raises:
        InputError: as in reading the data set, or no row has a prompt.
    """
    tally = Tally()
    questions = list(islice(_prompts(prompts, tally), settings.limit))
    tell_unread(prompts, tally.noted)
    if not questions:
        raise InputError("expected rows with a prompt, found none", where=prompts)
    sampler = LocalSampler(base)
    sampling = SampleSettings(temperature=settings.temperature, seed=settings.seed)
    draft = Manifest(
        stage="tokens",
        settings={"sampling": sampling.model_dump(mode="json"), "max_new_tokens": settings.max_new_tokens},
        inputs={"prompts": digest_of([list(turns) for _, turns in questions])},
        model=base.identity,
        seed=settings.seed,
    )
    with ShardRun[Tokens](out, draft) as run:
        if run.finished is not None:
            return run.finished
        run.make(
            (questions[start : start + _SHARD_ROWS] for start in range(0, len(questions), _SHARD_ROWS)),
            lambda shard: _drawn(sampler, shard, sampling, settings.max_new_tokens),
            write_behind=False,
        )
        return run.finish(Counts(rows_in=len(questions)))


def text_rows(path: Path, tokenizer: "PreTrainedTokenizerBase", limit: int) -> list[Tokens]:
    """A text file in rows of 1,024 tokens behind a begin-of-text token; every token but that one is response.

    Raises:
        InputError: the file is missing, empty or not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"expected a UTF-8 text file: {error}", where=str(path)) from error
    begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if not ids:
        raise InputError("expected text, the file is empty", where=str(path))
    head = [] if begin is None else [begin]
    windows = (ids[start : start + _WINDOW] for start in range(0, len(ids), _WINDOW))
    return [_row(f"{path.name}/{n}", head, window) for n, window in enumerate(islice(windows, limit))]


def _prompts(source: str, tally: Tally) -> Iterator[tuple[str, tuple[Message, ...]]]:
    """Id and the turns before the last answer of every row."""
    for example in _examples(source, tally):
        turns = example.messages[:-1] if example.messages[-1]["role"] == "assistant" else example.messages
        if turns:
            yield example.id, turns


def _examples(source: str, tally: Tally) -> Iterator[Example]:
    if source.startswith("task:"):
        task, _, split = source.removeprefix("task:").partition("/")
        return gold_examples(task, split or "train")
    return read_examples(source, DataSettings(), tally)


def _drawn(
    sampler: LocalSampler,
    questions: Sequence[tuple[str, tuple[Message, ...]]],
    sampling: SampleSettings,
    max_new_tokens: int,
) -> list[Tokens]:
    requests = {name: Request(name, turns, max_new_tokens) for name, turns in questions}
    rows: dict[str, Tokens] = {}
    for sample in sampler.draw(requests.values(), sampling):
        if sample.ids:
            prompt_T = sampler.prompt_T(requests[sample.problem_id])
            rows[sample.problem_id] = _row(sample.problem_id, prompt_T, sample.ids, finished=sample.finished)
    return [rows[name] for name in requests if name in rows]


def _row(name: str, prompt: "IntArray | Sequence[int]", response: Sequence[int], *, finished: bool = False) -> Tokens:
    ids_T = np.array([*prompt, *response], dtype=np.int32)
    in_response_T = np.arange(len(ids_T)) >= len(prompt)
    ends_turn_T = np.zeros(len(ids_T), dtype=np.bool_)
    ends_turn_T[-1] = finished
    return Tokens(name, ids_T, in_response_T, ends_turn_T)
