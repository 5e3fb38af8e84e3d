"""A row as it reaches a trainer's loss, whatever the trainer."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from tokensieve.types import IGNORE_INDEX, FloatArray, IntArray


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


class _Tensor(Protocol):
    def tolist(self) -> list[list[int]]: ...


def from_labels(ids: Iterable[int], labels: Iterable[int], *, shifted: bool = False) -> LoadedRow:
    """A row of ids and labels.

    Args:
        ids: token ids without padding.
        labels: one a token, -100 where the loss does not count.
        shifted: label ``t`` is compared with output ``t``, so that it is token ``t + 1`` of the conversation;
            otherwise the trainer shifts, and the first label never counts.
    """
    ids_T = np.fromiter(ids, dtype=np.int32)
    labels_T = np.fromiter(labels, dtype=np.int32)
    first = 0 if shifted else 1
    places = np.flatnonzero(labels_T[first:] != IGNORE_INDEX).astype(np.int32) + first
    return LoadedRow(ids_T, places + (1 if shifted else 0), labels_T[places])


def from_batch(batch: Mapping[str, object], *, shifted: bool = False) -> Iterator[LoadedRow]:
    """The rows of a padded batch of tensors, without their padding.

    A label on padding would be trained, so padding with a label is kept and shows up as a difference.
    """
    ids_BT = cast(_Tensor, batch["input_ids"]).tolist()
    labels_BT = cast(_Tensor, batch["labels"]).tolist()
    attended_BT = cast(_Tensor, batch["attention_mask"]).tolist() if "attention_mask" in batch else None
    for index, (ids, labels) in enumerate(zip(ids_BT, labels_BT, strict=True)):
        attended = attended_BT[index] if attended_BT is not None else [1] * len(ids)
        length = max((t + 1 for t in range(len(ids)) if attended[t] or labels[t] != IGNORE_INDEX), default=0)
        yield from_labels(ids[:length], labels[:length], shifted=shifted)


def read_labels(record: Mapping[str, object]) -> LoadedRow:
    """A record of ids and labels as a trainer that shifts reads it."""
    return from_labels(cast(Iterable[int], record["input_ids"]), cast(Iterable[int], record["labels"]))


def read_shifted_labels(record: Mapping[str, object]) -> LoadedRow:
    """A record of ids and shifted labels as a trainer that does not shift reads it."""
    return from_labels(cast(Iterable[int], record["input_ids"]), cast(Iterable[int], record["labels"]), shifted=True)


def read_loss_scales(record: Mapping[str, object]) -> LoadedRow:
    """A record of one assistant message of token ids, each with the factor of its loss; 0 is not trained."""
    message = cast("list[dict[str, dict[str, list[float]]]]", record["messages"])[0]
    ids_T = np.asarray(message["content"]["token_ids"], dtype=np.int32)
    scale_T = np.asarray(message["content"]["loss_scale"], dtype=np.float32)
    places = np.flatnonzero(scale_T[1:] > 0).astype(np.int32) + 1
    return LoadedRow(ids_T, places, ids_T[places], scale_T[places])
