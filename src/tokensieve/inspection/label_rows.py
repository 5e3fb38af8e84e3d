"""Rows of token ids and labels that any tool has made, read as one thing: ids, labelled places, padding, segments."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from tokensieve.errors import InputError
from tokensieve.types import IGNORE_INDEX, BoolArray, Example, IntArray

if TYPE_CHECKING:
    from tokensieve.data.formats.files import Located

IDS: Final = ("input_ids", "tokens")
"""Columns that hold token ids, by the trainers' names."""
MASKS: Final = ("loss_mask", "completion_mask", "assistant_masks")
"""Columns that hold one flag a token, above 0 where it is trained."""
_READ: Final = {
    *IDS,
    *MASKS,
    "labels",
    "attention_mask",
    "position_ids",
    "seq_lengths",
    "seq_start_id",
    "messages",
    "id",
}

LongArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class LabelRow:
    """One row as it was read, before it is known whether its labels are shifted.

    Attributes:
        id: the row's own id, or its number in the source.
        ids_T: token ids.
        labels_T: label at each place, -100 where there is none; None where there is a mask only.
        labelled_T: True where the place has a label, or its mask is above 0.
        attention_T: the attention mask; None where the row has none.
        starts: places at which packed conversations begin, ascending from 0; None where the row does not tell.
        at_token: True where a mask belongs to the token at its place by its name (TRL's), whatever labels do.
    """

    id: str
    ids_T: IntArray
    labels_T: LongArray | None
    labelled_T: BoolArray
    attention_T: IntArray | None = None
    starts: tuple[int, ...] | None = None
    at_token: bool = False


def holds_labels(record: Mapping[str, object]) -> bool:
    """True for a record of token ids with labels or a loss mask, as a tool that tokenises writes it."""
    if _token_content(record) is not None:
        return True
    return any(name in record for name in IDS) and any(name in record for name in ("labels", *MASKS))


def unread_columns(record: Mapping[str, object]) -> list[str]:
    """Names of the columns that say nothing on the loss mask, sorted."""
    return sorted(set(record) - _READ)


def read_rows(records: Iterator["Located | Example"], name: str) -> Iterator[LabelRow]:
    """The rows of a data set.

    Args:
        records: of the source.
        name: what the ids of rows without an id begin with.

    Raises:
        InputError: a column is missing, no list of integers, or of another length than the ids; or a row has no ids.
    """
    for located in records:
        if isinstance(located, Example):
            raise InputError("expected a row of token ids and labels, got an example", where=f"row {located.id}")
        yield _row(located.record, f"{located.record.get('id', f'{name}/{located.index}')}", located.where)


def _row(record: Mapping[str, object], row_id: str, where: str) -> LabelRow:
    content = _token_content(record)
    if content is not None:
        ids_T = _integers(content, "token_ids", where)
        scale_T = np.asarray(content.get("loss_scale", ()), dtype=np.float64)
        _check_length("loss_scale", len(scale_T), len(ids_T), where)
        return LabelRow(row_id, ids_T.astype(np.int32), None, scale_T > 0, at_token=True)
    column = next((each for each in IDS if each in record), None)
    if column is None:
        raise InputError(f"expected a column {' or '.join(IDS)}, got {', '.join(record)}", where=where)
    ids_T = _integers(record, column, where)
    labels_T = _integers(record, "labels", where) if "labels" in record else None
    mask_name = next((each for each in MASKS if each in record), None)
    mask_T = _integers(record, mask_name, where) > 0 if mask_name else None
    for name, array in (("labels", labels_T), (mask_name, mask_T)):
        if array is not None:
            _check_length(str(name), len(array), len(ids_T), where)
    labelled_T = _labelled(labels_T, mask_T, str(mask_name), where)
    if labelled_T is None:
        raise InputError(f"expected labels or one of {', '.join(MASKS)}, got {', '.join(record)}", where=where)
    attention_T = _integers(record, "attention_mask", where) if "attention_mask" in record else None
    if attention_T is not None:
        _check_length("attention_mask", len(attention_T), len(ids_T), where)
    return LabelRow(
        id=row_id,
        ids_T=ids_T.astype(np.int32),
        labels_T=labels_T,
        labelled_T=labelled_T,
        attention_T=None if attention_T is None else attention_T.astype(np.int32),
        starts=_starts(record, attention_T, len(ids_T), where),
        at_token=labels_T is None and mask_name != "loss_mask",
    )


def _labelled(labels_T: LongArray | None, mask_T: BoolArray | None, mask_name: str, where: str) -> BoolArray | None:
    """Places that count in the loss; None where the row has neither labels nor a mask.

    Raises:
        InputError: labels and mask both leave places out, and other ones: trainers differ in which of them they read.
    """
    if labels_T is None:
        return mask_T
    labelled_T: BoolArray = labels_T != IGNORE_INDEX
    if mask_T is None or np.array_equal(labelled_T, mask_T):
        return labelled_T
    if labelled_T.all():
        return mask_T
    raise InputError(
        f"labels and {mask_name} disagree on {int((labelled_T != mask_T).sum())} tokens, and trainers differ in which"
        " of the two they read",
        where=where,
        fix="remove the column that your trainer does not read: transformers and TRL read labels, Megatron loss_mask",
    )


def _starts(
    record: Mapping[str, object], attention_T: LongArray | None, length: int, where: str
) -> tuple[int, ...] | None:
    """Places at which packed conversations begin, as the row's columns tell; None where none does."""
    if "position_ids" in record:
        positions_T = _integers(record, "position_ids", where)
        _check_length("position_ids", len(positions_T), length, where)
        attended_T = np.ones(length, dtype=np.bool_) if attention_T is None else attention_T > 0
        starts_T = (positions_T == 0) & attended_T
        real = np.flatnonzero(attended_T)
        if len(real) and positions_T[real[0]] != 0:
            raise InputError(f"position_ids begin at {positions_T[real[0]]}, expected 0", where=where)
        jumps = attended_T[1:] & attended_T[:-1] & ~starts_T[1:] & (np.diff(positions_T) != 1)
        if jumps.any():
            place = int(np.flatnonzero(jumps)[0]) + 1
            raise InputError(f"position_ids neither count on nor begin again at token {place}", where=where)
        return tuple(np.flatnonzero(starts_T).tolist())
    if "seq_start_id" in record:
        return tuple(_integers(record, "seq_start_id", where).tolist())
    if "seq_lengths" in record:
        lengths = _integers(record, "seq_lengths", where)
        if lengths.sum() != length:
            raise InputError(f"seq_lengths add up to {lengths.sum()}, the row has {length} tokens", where=where)
        return tuple(np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(int).tolist())
    if attention_T is not None and len(attention_T) and attention_T.max() > 1:  # numbers of the packed conversations
        changes = np.flatnonzero(np.diff(attention_T) != 0) + 1
        return (0, *(place for place in changes.tolist() if attention_T[place] > 0))
    return None


def _token_content(record: Mapping[str, object]) -> Mapping[str, object] | None:
    """The content of ms-swift's one assistant message of token ids; None for a record of another kind."""
    messages = record.get("messages")
    if not isinstance(messages, Sequence) or len(messages) != 1 or not isinstance(messages[0], Mapping):
        return None
    content = messages[0].get("content")
    return content if isinstance(content, Mapping) and "token_ids" in content else None


def _integers(record: Mapping[str, object], column: str, where: str) -> LongArray:
    try:
        array = np.asarray(record[column])
    except (KeyError, ValueError):
        array = np.asarray(None)
    if array.ndim != 1 or (len(array) and array.dtype.kind not in "iub"):
        raise InputError(f"{column}: expected a list of integers, one a token, without null", where=where)
    return array.astype(np.int64)


def _check_length(column: str, got: int, expected: int, where: str) -> None:
    if got != expected:
        raise InputError(f"{column} has {got} values, the row has {expected} tokens", where=where)
