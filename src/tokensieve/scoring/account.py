"""The account of a scored data set: rows in, rows out, and those that did not fit into memory."""

from collections.abc import Iterable, Sequence
from typing import Final

from tokensieve.data.dataset import FinishedShard
from tokensieve.data.manifest import Counts, Manifest
from tokensieve.data.row_counts import Tally
from tokensieve.types import Scored, Tokens

TOO_LARGE: Final = "does not fit into memory"


class Account:
    """Counts rows shard by shard; those that were dropped on the way to tokens stay counted.

    Args:
        source: manifest of the rows that are scored.
    """

    def __init__(self, source: Manifest) -> None:
        self._earlier = source.counts if source.stage == "tokens" else Counts()
        self._tally = Tally()

    @property
    def rows_in(self) -> int:
        """Rows that were passed so far."""
        return self._tally.rows_in

    @property
    def counts(self) -> Counts:
        """For the manifest."""
        counts = self._tally.counts
        before = self._earlier
        return before.model_copy(
            update={
                "rows_in": counts.rows_in + sum(before.dropped.values()),
                "rows_out": counts.rows_out,
                "dropped": {**before.dropped, **counts.dropped},
                "dropped_ids": {**before.dropped_ids, **counts.dropped_ids},
            }
        )

    def kept(self, rows: Sequence[Tokens | Scored], scored: Sequence[Scored | None]) -> list[Scored]:
        """A shard's scored rows; those that are None are counted out."""
        for row, one in zip(self._tally.counted(rows), scored, strict=True):
            if one is None:
                self._tally.drop(TOO_LARGE, _id(row))
        return [one for one in scored if one is not None]

    def recall(self, rows: Sequence[Tokens | Scored], shard: FinishedShard[Scored]) -> None:
        """Count a shard that an earlier start finished; it is read only where it lacks rows."""
        kept_ids: Iterable[str] = map(_id, rows)
        if shard.rows < len(rows):
            kept_ids = (row.tokens.id for row in shard.read())
        kept = set(kept_ids)
        for row in self._tally.counted(rows):
            if _id(row) not in kept:
                self._tally.drop(TOO_LARGE, _id(row))

    def add(self, other: Counts) -> None:
        """Count the rows of another process's portion."""
        self._tally.rows_in += other.rows_in
        for reason, count in other.dropped.items():
            ids = other.dropped_ids.get(reason, [])
            for number in range(count):
                self._tally.drop(reason, ids[number] if number < len(ids) else "")


def _id(row: Tokens | Scored) -> str:
    return row.tokens.id if isinstance(row, Scored) else row.id
