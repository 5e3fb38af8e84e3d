"""Open a stage's folder as the rows it must hold, take the first few, gather what a stage yields."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar

from tokensieve.data.arrow_io import StageRow
from tokensieve.data.dataset import Rows, ShardRun, as_training_rows, in_shards, open_rows_of
from tokensieve.data.manifest import Counts, Manifest
from tokensieve.errors import InputError, note
from tokensieve.types import JSON, Anchor, Example, Scored, Selected, Tokens

R = TypeVar("R", bound=StageRow)

WEIGHTED_ROWS: Final = "rows_with_loss_weights"
"""Fact of a manifest: how many rows have a turn whose loss weight lies between 0 and 1."""

_SHARD_ROWS: Final = 512


def collect(
    rows: Iterator[R],
    draft: Manifest,
    out: Path | None,
    account: Callable[[], tuple[Counts, Mapping[str, JSON]]],
) -> Rows[R]:
    """Gather what a stage yields, in memory or into a folder; shards that an earlier start finished are kept.

    Args:
        rows: the stage's rows, in a fixed order.
        draft: the manifest as far as it is known.
        out: the folder; None for memory.
        account: called after the last row, for the counts and the facts found on the way.
    """
    with ShardRun[R](out, draft) as run:
        if run.finished is not None:
            return run.finished
        run.make(in_shards(rows, _SHARD_ROWS), list)
        return run.finish(*account())


def first(rows: Rows[R], limit: int | None) -> Rows[R]:
    """The first ``limit`` rows, with an identity of their own; all of them for None."""
    if limit is None or limit >= len(rows):
        return rows
    manifest = rows.manifest.model_copy(
        update={
            "counts": Counts(rows_in=limit, rows_out=limit),
            "shards": (),
            "inputs": {"all": rows.manifest.digest, "first": str(limit)},
        }
    )
    return Rows(manifest, lambda: islice(iter(rows), limit))


def tokens_of(row: StageRow) -> Tokens:
    """The tokens of a row, of whichever stage that has them.

    Raises:
        InputError: an example or an answer, which has none yet.
    """
    if isinstance(row, Tokens):
        return row
    if isinstance(row, Scored | Selected | Anchor):
        return row.tokens
    raise InputError(f"expected a row with training tokens, got {type(row).__name__}", fix="tokensieve.load(…)")


def tell_unread(source: str, noted: JSON | Mapping[str, int]) -> None:
    """Tell the user which fields and files of a data set were not read, where no stage's account is shown.

    Args:
        source: the data set, for the message.
        noted: counts by what was done, as a tally or a manifest's facts hold them.
    """
    unread = (
        [f"{what}: {number}" for what, number in noted.items() if "not read" in what]
        if isinstance(noted, Mapping)
        else []
    )
    if unread:
        note(f"{source}: {', '.join(unread)}")


def open_examples(folder: str | Path) -> Rows[Example]:
    """The rows that ``generate`` has written.

    Raises:
        InputError: another stage's folder, or none.
    """
    return open_rows_of(Example, folder)


def open_scored(folder: str | Path) -> Rows[Scored]:
    """The rows that ``score`` has written.

    Raises:
        InputError: another stage's folder, or none.
    """
    return open_rows_of(Scored, folder)


def open_selected(folder: str | Path) -> Rows[Selected]:
    """The rows that ``select`` has written, or anchors as rows that train every response token.

    Raises:
        InputError: another stage's folder, or none.
    """
    return as_training_rows(folder)
