"""The shift of labels against tokens: found from the values, refused where they leave a doubt."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np

from tokensieve.errors import InputError
from tokensieve.inspection.label_rows import LabelRow
from tokensieve.types import BoolArray, IntArray

SHIFTS: Final = (-1, 0, 1, 2)
"""Shifts that are tried: a label at place t is token t + shift. 0 is unshifted, 1 shifted; the others are faults."""
UNKNOWN_ID: Final = -1
"""In place of a token that a shifted row has cut off and whose label is not there."""
_FIX: Final = "look at a row, then say --labels unshifted or --labels shifted"


@dataclass(frozen=True, slots=True, eq=False)
class AlignedRow:
    """A row in the places of its tokens, whatever the shift of its labels.

    Attributes:
        row: as it was read.
        ids_T: token ids; of shifted labels with the last label behind them, which the row itself does not hold.
        trained_T: True where the token counts in the loss; never a row's first, which nothing predicts.
        cut_off: True where a token behind the row is missing, since shifted labels do not tell it.
    """

    row: LabelRow
    ids_T: IntArray
    trained_T: BoolArray
    cut_off: bool = False


def aligned(row: LabelRow, shift: int) -> AlignedRow:
    """The row's labels moved to the tokens that they are."""
    if shift == 0 or row.at_token:
        trained_T = row.labelled_T.copy()
        trained_T[:1] = False
        return AlignedRow(row, row.ids_T, trained_T)
    length = len(row.ids_T)
    ids_T = row.ids_T
    trained_T = np.zeros(length, dtype=np.bool_)
    if shift == 1:
        known = row.labels_T is not None and length > 0 and bool(row.labelled_T[-1])
        if known and row.labels_T is not None:
            ids_T = np.append(ids_T, row.labels_T[-1]).astype(np.int32)
            trained_T = np.append(trained_T, False)
        trained_T[1:] = row.labelled_T[: len(trained_T) - 1]
        return AlignedRow(row, ids_T, trained_T, cut_off=not known)
    places = np.flatnonzero(row.labelled_T) + shift
    trained_T[places[(places >= 0) & (places < length)]] = True
    return AlignedRow(row, ids_T, trained_T)


@dataclass(slots=True)
class ShiftVotes:
    """Rows by the shift that their labels show.

    Attributes:
        rows: number of rows by shift, and an example of each.
        undecided: rows whose labels fit several shifts.
        unlike: ids of rows whose labels are the row's tokens under no shift.
        labelled: rows with a label.
    """

    rows: Counter[int] = field(default_factory=Counter)
    examples: dict[int, str] = field(default_factory=dict)
    undecided: int = 0
    unlike: list[str] = field(default_factory=list)
    labelled: int = 0

    def add(self, row: LabelRow, violations: Callable[[AlignedRow], int]) -> None:
        """Count one row; a mask without labels is judged by where the responses lie."""
        if not row.labelled_T.any():
            return
        self.labelled += 1
        fitting = _by_values(row) if row.labels_T is not None else _by_responses(row, violations)
        if len(fitting) == 1:
            self.rows[fitting[0]] += 1
            self.examples.setdefault(fitting[0], row.id)
        elif fitting:
            self.undecided += 1
        else:
            self.unlike.append(row.id)

    def decide(self, stated: Literal["auto", "unshifted", "shifted"]) -> int:
        """The shift of all rows.

        Raises:
            InputError: rows differ, no row decides, or most rows' labels are none of their tokens.
        """
        if stated != "auto":
            return 0 if stated == "unshifted" else 1
        if not self.labelled:
            return 0
        if len(self.rows) > 1:
            told = "; ".join(f"{self.rows[s]:,} by {s}, such as {self.examples[s]}" for s in sorted(self.rows))
            raise InputError(f"the rows differ in how far their labels are shifted: {told}", where="labels", fix=_FIX)
        if len(self.unlike) > sum(self.rows.values()):
            raise InputError(
                f"the labels of {len(self.unlike):,} of {self.labelled:,} rows are not the rows' tokens under any shift"
                f" from {SHIFTS[0]} to {SHIFTS[-1]}, such as those of {self.unlike[0]}",
                where="labels",
                fix="inspect reads labels that are token ids, and -100 where there is no loss",
            )
        if not self.rows:
            raise InputError(
                f"no row tells whether its labels are shifted: those of {self.undecided:,} rows fit both ways",
                where="labels",
                fix=_FIX,
            )
        return next(iter(self.rows))


def vote(rows: Iterable[LabelRow], violations: Callable[[AlignedRow], int]) -> ShiftVotes:
    """Read a data set once for the shift of its labels.

    Args:
        rows: the data set.
        violations: number of places at which a row's trained tokens are not those of a response.
    """
    votes = ShiftVotes()
    for row in rows:
        votes.add(row, violations)
    return votes


def labels_fit(row: LabelRow, shift: int) -> bool:
    """True where every label is the token that the shift names; a label past the row's end fits."""
    if row.labels_T is None:
        return True
    places = np.flatnonzero(row.labelled_T)
    inside = places[(places + shift >= 0) & (places + shift < len(row.ids_T))]
    return bool(np.all(row.labels_T[inside] == row.ids_T[inside + shift]))


def _by_values(row: LabelRow) -> list[int]:
    compared = np.flatnonzero(row.labelled_T)
    reach = {s: np.any((compared + s >= 0) & (compared + s < len(row.ids_T))) for s in SHIFTS}
    return [shift for shift in SHIFTS if reach[shift] and labels_fit(row, shift)]


def _by_responses(row: LabelRow, violations: Callable[[AlignedRow], int]) -> list[int]:
    if row.at_token:
        return [0]
    unshifted, shifted = (violations(aligned(row, shift)) for shift in (0, 1))
    if unshifted == shifted:
        return [0, 1]
    return [0] if unshifted < shifted else [1]
