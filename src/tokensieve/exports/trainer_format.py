"""The object that answers every question about a trainer, and a selected row in the forms that trainers take."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from tokensieve.errors import InputError
from tokensieve.exports.data_paths import LoadedRow, Source
from tokensieve.exports.files import Format, TrainerRow
from tokensieve.types import IGNORE_INDEX, FloatArray, Selected

CORE_COLUMNS: Final[Mapping[str, str]] = {"input_ids": "int32", "attention_mask": "int8", "labels": "int32"}
"""Columns of the portable core: lists of these types, by Arrow's names."""


CORE = "`input_ids`, `attention_mask`, `labels`; labels are not shifted, -100 is not trained, nothing is padded"
"""The portable core in words."""


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


def trainer_row(selected: Selected) -> dict[str, list[int]]:
    """The portable core: what most trainers take as it is.

    Returns:
        ``input_ids``, ``attention_mask`` (all 1: nothing is padded) and ``labels``, all of the row's length. Labels
        are not shifted: ``labels[t]`` is ``input_ids[t]`` where token ``t`` is trained and -100 elsewhere.
    """
    ids_T = selected.tokens.ids_T
    return {
        "input_ids": ids_T.tolist(),
        "attention_mask": [1] * len(ids_T),
        "labels": np.where(selected.train_T, ids_T, IGNORE_INDEX).tolist(),
    }


def shifted_row(selected: Selected) -> dict[str, list[int]]:
    """The core for trainers that compare output ``t`` with label ``t``: one token shorter, labels one to the left."""
    row = trainer_row(selected)
    return {
        "input_ids": row["input_ids"][:-1],
        "attention_mask": row["attention_mask"][:-1],
        "labels": row["labels"][1:],
    }


def weights_T(selected: Selected) -> FloatArray:
    """Factor of each token's loss: the row's weights, or 1 and 0 where selection is hard."""
    if selected.weight_T is not None:
        return selected.weight_T
    return selected.train_T.astype(np.float32)


def is_soft(selected: Selected) -> bool:
    """True where a weight lies strictly between 0 and 1, which only some trainers can take."""
    weight_T = selected.weight_T
    return weight_T is not None and bool(np.any((weight_T > 0) & (weight_T < 1)))


def rounded(selected: Selected) -> Selected:
    """The row with hard weights: a token is trained where its weight is at least one half."""
    if selected.weight_T is None:
        return selected
    return Selected(selected.scored, selected.train_T & (selected.weight_T >= 0.5))


def refuse_soft(selected: Selected, trainer: str, others: Iterable[str]) -> None:
    """Raise where the row has soft weights, which the trainer would not see.

    Args:
        selected: the row.
        trainer: its name for people.
        others: names of the trainers that take weights.

    Raises:
        InputError: names the row and the ways out.
    """
    if is_soft(selected):
        raise InputError(
            f"the selection has token weights between 0 and 1, and {trainer} takes none from a data set",
            where=f"row {selected.tokens.id}",
            fix=f"--weights round (train from a weight of 0.5 on), {', '.join(f'--to {name}' for name in others)},"
            " or tokensieve train, which takes them",
        )
