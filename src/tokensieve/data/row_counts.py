"""The count of rows on their way through a stage: taken in, dropped and why, and changed and how."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tokensieve.data.manifest import Counts

R = TypeVar("R")

_IDS_KEPT = 100_000


class Tally:
    """Counts rows in and out; every drop has a reason and, up to 100,000 a reason, the row's id.

    One object is handed from reading to tokens, so that a stage ends with one account of its rows.

    Attributes:
        rows_in: rows met so far.
        dropped: number of rows left out, by reason.
        noted: number of rows that were kept but changed or handled in a way worth telling, by what was done.
        format: the recognised or stated form of the source's rows; empty before the first row.
    """

    def __init__(self) -> None:
        self.rows_in = 0
        self.dropped: Counter[str] = Counter()
        self.noted: Counter[str] = Counter()
        self.format = ""
        self._ids: dict[str, list[str]] = {}

    def take(self) -> None:
        """Count one row in."""
        self.rows_in += 1

    def counted(self, rows: Iterable[R]) -> Iterator[R]:
        """The rows as they come, each counted in."""
        for row in rows:
            self.take()
            yield row

    def drop(self, reason: str, row_id: str) -> None:
        """Count one row out, under a reason in plain words."""
        self.dropped[reason] += 1
        ids = self._ids.setdefault(reason, [])
        if len(ids) < _IDS_KEPT:
            ids.append(row_id)

    def note(self, what: str, rows: int = 1) -> None:
        """Count a row that was kept but is worth telling about."""
        self.noted[what] += rows

    @property
    def counts(self) -> Counts:
        """The account as a manifest holds it; ``rows_out`` is what went in less what was dropped."""
        return Counts(
            rows_in=self.rows_in,
            rows_out=self.rows_in - self.dropped.total(),
            dropped=dict(sorted(self.dropped.items())),
            dropped_ids={reason: list(ids) for reason, ids in sorted(self._ids.items())},
        )

    def describe(self) -> str:
        """Dropped rows by reason in one line, the most frequent first; empty where nothing was dropped."""
        return ", ".join(f"{reason}: {number:,}" for reason, number in self.dropped.most_common())
