"""Selected rows as the data set that the trainer reads, and the check that it reads all of them.

The data set is an Arrow file of unpadded ids and labels.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa

from tokensieve.data.dataset import Rows, in_shards
from tokensieve.errors import CheckFailed, InputError, note
from tokensieve.types import IGNORE_INDEX, Selected

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import Trainer

_ROWS_A_BATCH: Final = 512


@dataclass(frozen=True, slots=True)
class TrainingSet:
    """The rows as they lie on disk, and what the trainer must come to in a pass over them.

    Attributes:
        path: Arrow stream with the columns ``input_ids``, ``labels`` and, where selection is soft, ``weights``.
        rows: number of rows with a trained token.
        trained_tokens: labels other than -100 that a causal model can be trained on: not a row's first token,
            which nothing precedes.
        empty_rows: rows without any such label, or whose weights are all 0; they are left out of ``rows``.
        longest: tokens in the longest row.
        weighted: whether there are weights.
    """

    path: Path
    rows: int
    trained_tokens: int
    empty_rows: int
    longest: int
    weighted: bool


def write_training_set(rows: Rows[Selected], path: Path) -> TrainingSet:
    """Write the rows that have a trained token as an Arrow stream, a few hundred at a time.

    A row without one would cost a forward and a backward pass and change nothing but the size of its batch.

    Raises:
        InputError: there are no rows, none of their tokens is trained, or only some rows carry weights.
    """
    longest = n_rows = trained = empty = 0
    weighted: bool | None = None
    writer: pa.RecordBatchStreamWriter | None = None
    try:
        for batch in in_shards(rows, _ROWS_A_BATCH):
            for row in batch:
                weighted = _agree(row, weighted)
            kept = [row for row in batch if _teaches(row)]
            n_rows += len(kept)
            empty += len(batch) - len(kept)
            if not kept:
                continue
            table = _table(kept)
            writer = writer or pa.ipc.new_stream(str(path), table.schema)
            writer.write_table(table)
            trained += sum(int(row.train_T[1:].sum()) for row in kept)
            longest = max(longest, *(len(row.tokens) for row in kept))
    finally:
        if writer is not None:
            writer.close()
    if trained == 0:
        found = f"none of the tokens of {empty:,} rows is trained" if empty else "there are no rows"
        raise InputError(f"nothing to train: {found}", fix="choose a higher threshold or share with --policy")
    if empty:
        note(f"{empty:,} of {n_rows + empty:,} rows have no trained token and are skipped")
    return TrainingSet(path, n_rows, trained, empty, longest, bool(weighted))


def _teaches(row: Selected) -> bool:
    """True where a token of the row is trained that something precedes, with a weight other than 0."""
    return bool((row.train_T if row.weight_T is None else row.train_T & (row.weight_T != 0))[1:].any())


def _agree(row: Selected, weighted: bool | None) -> bool:
    has = row.weight_T is not None
    if weighted is not None and weighted != has:
        raise InputError("some rows carry weights and others none", where=f"row {row.tokens.id}")
    return has


def _table(batch: list[Selected]) -> pa.Table:
    labels = [np.where(row.train_T, row.tokens.ids_T, IGNORE_INDEX).astype(np.int32) for row in batch]
    columns = {"input_ids": [row.tokens.ids_T for row in batch], "labels": labels}
    kinds = {"input_ids": pa.int32(), "labels": pa.int32(), "weights": pa.float32()}
    if all(row.weight_T is not None for row in batch):
        columns["weights"] = [row.weight_T for row in batch if row.weight_T is not None]  # type: ignore[misc]
    return pa.table({name: pa.array(values, pa.list_(kinds[name])) for name, values in columns.items()})


def check_all_was_trained(trainer: "Trainer", data: TrainingSet, epochs: float) -> None:
    """Check that the data loader yielded every row and every trained token in every epoch.

    Several processes pad their shares with repeated rows, so there only a lack is an error.

    Raises:
        CheckFailed: rows or tokens were lost or added on the way.
    """
    history = [entry for entry in trainer.state.log_history if "rows" in entry]
    if trainer.args.world_size > 1 or epochs != int(epochs):
        return
    for name, expected in (("rows", data.rows), ("trained_tokens", data.trained_tokens)):
        yielded = sum(entry[name] for entry in history)
        if yielded != expected * int(epochs):
            raise CheckFailed(
                f"the trainer's data loader yielded {yielded:,} {name.replace('_', ' ')} in {int(epochs)} epochs, "
                f"expected {expected * int(epochs):,}: the installed TRL treats the rows otherwise than was tested",
                fix="install the version of TRL that this package was tested with",
            )


def rows_of(batch: "dict[str, Tensor]") -> int:
    """Rows in a micro-batch: lines of a padded one, beginnings in a padding-free one."""
    if "position_ids" in batch:
        return int((batch["position_ids"] == 0).sum())
    return len(batch["labels"])


def check_rows_survived(dataset: "Dataset", data: TrainingSet) -> None:
    """Check that the trainer's preparation left rows and labels alone."""
    trained = sum(
        int(sum(1 for label in labels[1:] if label != IGNORE_INDEX))
        for batch in dataset.iter(1000)
        for labels in batch["labels"]
    )
    if (len(dataset), trained) != (data.rows, data.trained_tokens):
        raise CheckFailed(
            f"TRL made {len(dataset):,} rows with {trained:,} trained tokens of {data.rows:,} rows with "
            f"{data.trained_tokens:,}",
            fix="install the version of TRL that this package was tested with",
        )
