"""What tells one trainer's training sets from another's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import pyarrow as pa

from tokensieve.exports.trainer_row import TrainerRow
from tokensieve.types import Selected

Format: TypeAlias = Literal["parquet", "jsonl", "save_to_disk"]

CORE_SCHEMA = pa.schema(
    [
        ("input_ids", pa.list_(pa.int32())),
        ("attention_mask", pa.list_(pa.int8())),
        ("labels", pa.list_(pa.int32())),
    ]
)
"""Columns of the portable core, in Arrow's types."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a trainer's configuration needs to know of a training set.

    Attributes:
        model: name or folder of the model to train.
        data: the data, relative to the folder: a file, or a ``save_to_disk`` folder.
        format: how the data are written.
        longest: tokens of the longest row, which no trainer may cut.
        rows: number of rows.
        output: where the trainer writes, relative to the folder: beside it, so that the folder holds the export alone.
    """

    model: str
    data: str
    format: Format
    longest: int
    rows: int
    output: str


@dataclass(frozen=True, slots=True)
class Convention:
    """One trainer's way of taking tokens with labels.

    Attributes:
        title: its name for people.
        convention: shift, polarity and columns, in a sentence.
        row: a selected row in its form.
        schema: Arrow types of the row's columns; None where the rows are nested JSON.
        formats: the formats it loads; the first is the default.
        weights: whether the row carries token weights.
        files: configuration that runs as it is, by file name.
        command: what to type in the folder.
        cautions: what a person has to know before training with it; one sentence each.
        version: the release whose loader the convention was checked against.
    """

    title: str
    convention: str
    row: Callable[[Selected], TrainerRow]
    schema: pa.Schema | None
    formats: tuple[Format, ...]
    weights: bool
    files: Callable[[Facts], Mapping[str, str]]
    command: str
    cautions: tuple[str, ...]
    version: str


CORE = "`input_ids`, `attention_mask`, `labels`; labels are not shifted, -100 is not trained, nothing is padded"
"""The portable core in words."""
