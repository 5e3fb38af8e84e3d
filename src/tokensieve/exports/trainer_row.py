"""One selected row in the forms that trainers take."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np

from tokensieve.errors import InputError
from tokensieve.types import IGNORE_INDEX, FloatArray, Selected

TrainerRow: TypeAlias = Mapping[str, object]


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


def refuse_soft(selected: Selected, trainer: str) -> None:
    """Raise where the row has soft weights, which the trainer would not see.

    Raises:
        InputError: names the row and the ways out.
    """
    if is_soft(selected):
        raise InputError(
            f"the selection has token weights between 0 and 1, and {trainer} takes none from a data set",
            where=f"row {selected.tokens.id}",
            fix="--weights round (train from a weight of 0.5 on), --to ms-swift, or tokensieve train, which takes them",
        )
