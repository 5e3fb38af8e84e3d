"""Shards of a stage's folder: written whole or not at all, resumed after a kill, verified on reading.

While a stage runs, its folder holds ``draft.json`` (what was pinned at the first start), finished shards, and
``progress.jsonl`` with a line a finished shard. ``manifest.json`` appears last and means done.
"""

import contextlib
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Generic, TypeVar

import pyarrow.parquet as pq

from tokensieve.data.arrow_io import R, StageRow, from_table, to_table
from tokensieve.data.manifest import (
    MANIFEST_NAME,
    Counts,
    Manifest,
    Shard,
    Timing,
    digest_of_file,
    read_manifest,
    write_atomically,
)
from tokensieve.errors import InputError
from tokensieve.types import JSON

T = TypeVar("T")

DRAFT_NAME = "draft.json"
_PROGRESS = "progress.jsonl"


@dataclass(frozen=True, slots=True)
class FinishedShard(Generic[R]):
    """A shard that an earlier start of the run finished.

    Attributes:
        rows: number of its rows.
        read: reads them.
    """

    rows: int
    read: Callable[[], Sequence[R]]


def read_ahead(items: Iterable[T]) -> Iterator[T]:
    """The same items, the next one being made in a thread while the caller works on the one before."""
    iterator = iter(items)
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = reader.submit(next, iterator)
        while True:
            try:
                item = coming.result()
            except StopIteration:
                return
            coming = reader.submit(next, iterator)
            yield item


def ids_in_footer(path: Path) -> int:
    """Number of token ids in a shard, from its Parquet footer; a row without tokens counts as one.

    Raises:
        OSError: the file is missing or damaged.
        ValueError: its rows have no token ids.
    """
    footer = pq.read_metadata(path)
    columns = [footer.schema.column(number).path for number in range(footer.num_columns)]
    place = columns.index("ids.list.element")
    return sum(footer.row_group(group).column(place).num_values for group in range(footer.num_row_groups))


def read_shard(folder: Path, shard: Shard, manifest: Manifest) -> list[R]:
    """One shard's rows, of the type that the manifest's stage makes, after its checksum was verified.

    Raises:
        InputError: the file is missing or is not the one that was written.
    """
    path = folder / shard.name
    if not path.is_file() or digest_of_file(path) != shard.sha256:
        state = "damaged: its checksum is not the manifest's" if path.is_file() else "missing"
        raise InputError(
            f"the shard is {state}",
            where=str(path),
            fix=f"delete {folder / MANIFEST_NAME} and run the command that made the folder; it redoes this shard only",
        )
    return from_table(pq.read_table(path), manifest.stage)


class FolderWriter:
    """Writer of a stage's folder; a kill at any moment costs one shard.

    The draft's settings, inputs and model are pinned at the first start; a later start with others is refused
    rather than mixed. Facts pinned by the first start (such as a token budget) are found in ``facts``.

    Args:
        folder: the stage's folder; made where missing.
        draft: the manifest as far as it is known; counts and shards are filled in at the end.

    Raises:
        InputError: the folder belongs to a run with other settings or inputs, or holds something else.
    """

    def __init__(self, folder: Path, draft: Manifest) -> None:
        self.folder = folder
        self._started = time.monotonic()
        self._done: dict[int, Shard] = {}
        self.draft = self._pin(draft)
        self._recall()

    def __enter__(self) -> "FolderWriter":
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """After the user's mistake leave nothing that would keep the corrected command from this folder."""
        if isinstance(error, InputError) and not any(self.folder.glob("rows-*.parquet")):
            (self.folder / DRAFT_NAME).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # something else lies in it
                self.folder.rmdir()

    @property
    def finished(self) -> bool:
        """True where an earlier start finished the folder and all its shards are sound."""
        path = self.folder / MANIFEST_NAME
        return path.is_file() and len(self._done) == len(read_manifest(self.folder).shards)

    def has(self, index: int) -> bool:
        """True for a shard that this start or an earlier one finished."""
        return index in self._done

    def finished_shard(self, index: int) -> FinishedShard[R]:
        """A shard that this start or an earlier one finished."""
        shard = self._done[index]
        return FinishedShard(shard.rows, lambda: read_shard(self.folder, shard, self.draft))

    def write(self, index: int, rows: Sequence[StageRow]) -> Shard:
        """Write one shard, whole or not at all.

        Raises:
            EnvironmentProblem: the disk is full or refuses.
        """
        name = f"rows-{index:05d}.parquet"
        buffer = io.BytesIO()
        pq.write_table(to_table(rows, self.draft.stage), buffer, compression="zstd")
        write_atomically(self.folder / name, buffer.getvalue())
        shard = Shard(name=name, rows=len(rows), sha256=digest_of_file(self.folder / name))
        with (self.folder / _PROGRESS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"index": index, **shard.model_dump()}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._done[index] = shard
        return shard

    def finish(self, counts: Counts, facts: Mapping[str, JSON] | None = None) -> Manifest:
        """Write the manifest, which makes the folder a finished one."""
        shards = tuple(self._done[index] for index in sorted(self._done))
        counts = counts.model_copy(update={"rows_out": sum(shard.rows for shard in shards)})
        manifest = self.draft.model_copy(
            update={
                "counts": counts,
                "shards": shards,
                "timing": Timing.since(self._started),
                "facts": {**self.draft.facts, **(facts or {})},
            }
        )
        manifest.write(self.folder)
        for name in (DRAFT_NAME, _PROGRESS):
            (self.folder / name).unlink(missing_ok=True)
        return manifest

    def _pin(self, draft: Manifest) -> Manifest:
        """The draft of the first start, which this one must agree with."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / DRAFT_NAME
        if (self.folder / MANIFEST_NAME).is_file():
            path = self.folder / MANIFEST_NAME
        if not path.is_file():
            check_empty(self.folder)
            write_atomically(path, draft.model_dump_json(indent=2).encode())
            return draft
        pinned = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        check_same_run(pinned, draft, self.folder)
        return pinned.model_copy(update={"counts": Counts(), "shards": ()})

    def _recall(self) -> None:
        """Take up the shards that an earlier start finished; a damaged one is left out and so done again."""
        listed: list[tuple[int, Shard]] = []
        manifest = self.folder / MANIFEST_NAME
        if manifest.is_file():
            shards = read_manifest(self.folder).shards
            listed = [(int(shard.name[5:10]), shard) for shard in shards]
        progress = self.folder / _PROGRESS
        if progress.is_file():
            for line in progress.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:
                    continue  # the line that a kill cut short; its shard is written again
                listed.append((entry.pop("index"), Shard.model_validate(entry)))
        for index, shard in listed:
            path = self.folder / shard.name
            if path.is_file() and digest_of_file(path) == shard.sha256:
                self._done[index] = shard


def check_same_run(pinned: Manifest, draft: Manifest, folder: Path) -> None:
    """Check that a folder's manifest or draft is of the run that is to go on in it.

    Raises:
        InputError: its stage, settings, inputs or model are others.
    """
    for part in ("stage", "settings", "inputs", "model"):
        if getattr(pinned, part) != getattr(draft, part):
            raise InputError(
                f"the folder belongs to a run with other {part}{_unlike(getattr(pinned, part), getattr(draft, part))}",
                where=str(folder),
                fix="choose another --out, or delete the folder to start anew",
            )


def _unlike(there: object, here: object) -> str:
    """The entries in which a folder's record and this run differ, the first three of them by value."""
    if not isinstance(there, Mapping) or not isinstance(here, Mapping):
        return ""
    names = [name for name in dict.fromkeys((*there, *here)) if there.get(name) != here.get(name)]
    said = [
        f"{name} {there.get(name, 'unset')!s:.60} there, {here.get(name, 'unset')!s:.60} here" for name in names[:3]
    ]
    return f": {'; '.join(said)}" + (f"; and {len(names) - 3} more" if len(names) > 3 else "")


def check_empty(folder: Path) -> None:
    """Check that a folder without a manifest holds nothing, hidden files apart.

    Raises:
        InputError: names what lies in it.
    """
    if folder.is_dir() and (foreign := sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))):
        raise InputError(
            f"expected an empty folder, found {', '.join(foreign[:3])}", where=str(folder), fix="choose another --out"
        )
