"""Account of a training run: what the trainer's data loader yielded, held against the rows; its history as our log."""

import math
from typing import TYPE_CHECKING

from datasets import Dataset
from transformers import TrainerState

from tokensieve.errors import CheckFailed
from tokensieve.training.adapter import StepLog
from tokensieve.training.dataset import TrainingSet
from tokensieve.types import IGNORE_INDEX

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import Trainer


def steps_of(state: TrainerState) -> tuple[StepLog, ...]:
    """The trainer's history as our log, one entry a step."""
    entries = [entry for entry in state.log_history if "loss" in entry]
    return tuple(
        StepLog(
            step=entry["step"],
            epoch=entry["epoch"],
            loss=entry["loss"],
            learning_rate=entry["learning_rate"],
            grad_norm=entry.get("grad_norm", float("nan")),
            trained_tokens=entry["trained_tokens"],
            anchor_kl=entry.get("anchor_kl", math.nan),
            kl_weight=entry.get("kl_weight", math.nan),
        )
        for entry in entries
    )


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


def check_rows_survived(dataset: Dataset, data: TrainingSet) -> None:
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
