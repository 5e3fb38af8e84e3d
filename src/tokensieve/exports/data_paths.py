"""A row as it reaches a trainer's loss, whatever the trainer, and what loading through a trainer's own code needs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from tokensieve.exports.files import DATA, Format
from tokensieve.models.device import checkpointing_arguments
from tokensieve.types import IGNORE_INDEX, FloatArray, IntArray

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH: Final = 3
"""Rows in a batch: more than one, so that padding is part of what is checked."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadedRow:
    """One row as a trainer reads it.

    Attributes:
        ids_T: the tokens it feeds to the model, padding left away.
        places: positions in the conversation of the tokens whose loss counts, ascending.
        tokens: the label at each of those places.
        weights: factor of each one's loss; None where all are 1.
    """

    ids_T: IntArray
    places: IntArray
    tokens: IntArray
    weights: FloatArray | None = None


class Tensor(Protocol):
    """A batch's integers [B, T], of any library."""

    def tolist(self) -> list[list[int]]:
        """The rows as lists."""


def from_labels(ids: Sequence[int] | IntArray, labels: Sequence[int] | IntArray, *, shifted: bool = False) -> LoadedRow:
    """A row of ids and labels.

    Args:
        ids: token ids without padding.
        labels: one a token, -100 where the loss does not count.
        shifted: label ``t`` is compared with output ``t``, so that it is token ``t + 1`` of the conversation;
            otherwise the trainer shifts, and the first label never counts.
    """
    ids_T, labels_T = np.asarray(ids, dtype=np.int32), np.asarray(labels, dtype=np.int32)
    first = 0 if shifted else 1
    places = np.flatnonzero(labels_T[first:] != IGNORE_INDEX).astype(np.int32) + first
    return LoadedRow(ids_T, places + (1 if shifted else 0), labels_T[places])


def from_batch(batch: Mapping[str, Tensor], *, shifted: bool = False) -> Iterator[LoadedRow]:
    """The rows of a padded batch of tensors, without their padding.

    A label on padding would be trained, so padding with a label is kept and shows up as a difference.
    """
    ids_BT, labels_BT = batch["input_ids"].tolist(), batch["labels"].tolist()
    attended_BT = batch["attention_mask"].tolist() if "attention_mask" in batch else None
    for index, (ids, labels) in enumerate(zip(ids_BT, labels_BT, strict=True)):
        attended = attended_BT[index] if attended_BT is not None else [1] * len(ids)
        length = max((t + 1 for t in range(len(ids)) if attended[t] or labels[t] != IGNORE_INDEX), default=0)
        yield from_labels(ids[:length], labels[:length], shifted=shifted)


def read_labels(record: Mapping[str, object]) -> LoadedRow:
    """A record of ids and labels as a trainer that shifts reads it."""
    return from_labels(_integers(record, "input_ids"), _integers(record, "labels"))


def read_shifted_labels(record: Mapping[str, object]) -> LoadedRow:
    """A record of ids and shifted labels as a trainer that does not shift reads it."""
    return from_labels(_integers(record, "input_ids"), _integers(record, "labels"), shifted=True)


def _integers(record: Mapping[str, object], column: str) -> IntArray:
    return np.asarray(record[column], dtype=np.int32)


# --- through a trainer's own code, which is imported when asked for --------------------------------------------------


@dataclass(frozen=True, slots=True)
class Source:
    """An exported folder to be loaded.

    Attributes:
        folder: the export.
        format: how its data are written.
        scratch: an empty folder for a trainer's caches and output.
    """

    folder: Path
    format: Format
    scratch: Path


def rows_of(source: Source) -> "datasets.Dataset":
    """The rows as the datasets library loads them, which is how most trainers do."""
    import datasets

    if source.format == "save_to_disk":
        return datasets.load_from_disk(str(data_of(source)))["train"]
    kind = "json" if source.format == "jsonl" else "parquet"
    cache = str(source.scratch / "cache")
    return datasets.load_dataset(kind, data_files=str(data_of(source)), split="train", cache_dir=cache)


def data_of(source: Source) -> Path:
    """The file, or the folder, that holds the rows."""
    return source.folder / DATA[source.format]


def stand_ins(rows: "datasets.Dataset | None") -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """A model and a tokenizer that fit the rows' ids, for trainers that do nothing without."""
    import pyarrow.compute as pc
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    backend = Tokenizer(WordLevel({"<pad>": 0, "<eos>": 1}, unk_token="<pad>"))  # noqa: S106 - no password
    names = {"pad_token": "<pad>", "eos_token": "<eos>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    highest = 0 if rows is None else pc.max(pc.list_flatten(rows.data.column("input_ids"))).as_py()
    config = LlamaConfig(
        vocab_size=max(int(highest), 1) + 1,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config), tokenizer


def quiet_arguments(source: Source) -> dict[str, object]:
    """Settings of the trainers on transformers: the rows' own order, nothing reported or saved."""
    return {
        "output_dir": str(source.scratch / "out"),
        "per_device_train_batch_size": BATCH,
        "train_sampling_strategy": "sequential",
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        **checkpointing_arguments(False),
        "disable_tqdm": True,
    }


def portions(length: int) -> Iterator[range]:
    """The row numbers of one batch after the other."""
    for start in range(0, length, BATCH):
        yield range(start, min(start + BATCH, length))


def collated(
    rows: "datasets.Dataset",
    collate: Callable[[list[dict[str, object]]], Mapping[str, Tensor]],
    *,
    shifted: bool = False,
) -> Iterator[LoadedRow]:
    """A trainer's rows through its collator, one batch after the other."""
    for portion in portions(len(rows)):
        yield from from_batch(collate([dict(rows[i]) for i in portion]), shifted=shifted)
