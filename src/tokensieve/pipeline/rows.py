"""Open a stage's folder as the rows it must hold, take the first few, gather what a stage yields."""

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar, cast

from tokensieve.data.arrow_io import Row
from tokensieve.data.dataset import FolderWriter, Rows, in_memory, in_shards, open_rows
from tokensieve.data.manifest import Counts, Manifest, Stage
from tokensieve.errors import InputError
from tokensieve.types import JSON, Example, Scored, Selected, Tokens

R = TypeVar("R", bound=Row)

_SHARD_ROWS = 512
_MADE_BY: Final[Mapping[Stage, str]] = {
    "examples": "tokensieve generate TASK --out FOLDER",
    "tokens": 'tokensieve.load(DATA, MODEL, out=Path("FOLDER"))',
    "scored": "tokensieve score DATA --model MODEL --out FOLDER",
    "selected": "tokensieve select SCORED --out FOLDER",
}
"""The command, or call, that makes a folder of each stage's rows."""


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
    if out is None:
        gathered = list(rows)
        counts, facts = account()
        return in_memory(gathered, draft.model_copy(update={"counts": counts, "facts": {**draft.facts, **facts}}))
    with FolderWriter(out, draft) as writer:
        if writer.finished:
            return cast("Rows[R]", open_rows(out))
        for index, shard in enumerate(in_shards(rows, _SHARD_ROWS)):
            if not writer.has(index):
                writer.write(index, shard)
        counts, facts = account()
        return cast("Rows[R]", writer.finish(counts, dict(facts)))


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


def open_examples(folder: str | Path) -> Rows[Example]:
    """The rows that ``generate`` has written.

    Raises:
        InputError: another stage's folder, or none.
    """
    return cast("Rows[Example]", _open(folder, "examples"))


def open_tokens(folder: str | Path) -> Rows[Tokens]:
    """The tokens of a data set that ``load`` has written.

    Raises:
        InputError: another stage's folder, or none.
    """
    return cast("Rows[Tokens]", _open(folder, "tokens"))


def open_scored(folder: str | Path) -> Rows[Scored]:
    """The rows that ``score`` has written.

    Raises:
        InputError: another stage's folder, or none.
    """
    return cast("Rows[Scored]", _open(folder, "scored"))


def open_selected(folder: str | Path) -> Rows[Selected]:
    """The rows that ``select`` has written.

    Raises:
        InputError: another stage's folder, or none.
    """
    return cast("Rows[Selected]", _open(folder, "selected"))


def _open(folder: str | Path, stage: Stage) -> Rows[Row]:
    rows = open_rows(folder)
    if rows.manifest.stage != stage:
        raise InputError(
            f"expected the folder of a stage that makes {stage} rows, got one of {rows.manifest.stage} rows",
            where=str(folder),
            fix=_MADE_BY[stage],
        )
    return rows
