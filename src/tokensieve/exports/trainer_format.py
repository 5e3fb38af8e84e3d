"""The object that answers every question about a trainer: its rows, its files, its words, its own data path."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from tokensieve.exports.loaded_row import LoadedRow
from tokensieve.exports.trainer_row import TrainerRow
from tokensieve.types import Selected

Format: TypeAlias = Literal["parquet", "jsonl", "save_to_disk"]

CORE_COLUMNS: Final[Mapping[str, str]] = {"input_ids": "int32", "attention_mask": "int8", "labels": "int32"}
"""Columns of the portable core: lists of these types, by Arrow's names."""


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


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts of a training set for a trainer's configuration.

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
class Trainer:
    """One trainer's way of taking tokens with labels; a new one is an object like this and a line in ``TRAINERS``.

    Attributes:
        title: its name for people.
        convention: shift, polarity and columns, in a sentence.
        row: a selected row in its form.
        columns: the row's columns, lists of Arrow's types; None where the rows are nested JSON.
        read: a written row as the trainer's documented rules read it.
        package: the package whose presence means that the trainer is installed.
        load: a folder's rows through the trainer's own code.
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
    columns: Mapping[str, str] | None
    read: Callable[[Mapping[str, object]], LoadedRow]
    package: str
    load: Callable[[Source], Iterator[LoadedRow]]
    formats: tuple[Format, ...]
    weights: bool
    files: Callable[[Facts], Mapping[str, str]]
    command: str
    cautions: tuple[str, ...]
    version: str


CORE = "`input_ids`, `attention_mask`, `labels`; labels are not shifted, -100 is not trained, nothing is padded"
"""The portable core in words."""
