"""Sources of a data set's rows: a file, a folder, the Hub, or objects in memory."""

import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

import pyarrow as pa

from tokensieve.config import DataSettings
from tokensieve.data.dataset import Rows, as_rows, open_rows
from tokensieve.data.formats.files import Located, read_file, record_of, suffix_of, without_nulls
from tokensieve.data.formats.folders import (
    DEFAULT_SPLIT,
    files_of_split,
    is_saved,
    notes_on_split,
    read_files,
    read_saved,
    split_of_dict,
)
from tokensieve.data.formats.hub import HubName, resolved, stream
from tokensieve.data.formats.llama_factory import Described, described_in
from tokensieve.data.hashing import file_digest
from tokensieve.data.manifest import MANIFEST_NAME, digest_of
from tokensieve.data.shards import DRAFT_NAME
from tokensieve.errors import InputError
from tokensieve.types import Example

if TYPE_CHECKING:
    import datasets

    HubData: TypeAlias = (
        datasets.Dataset | datasets.IterableDataset | datasets.DatasetDict | datasets.IterableDatasetDict
    )
    Data: TypeAlias = (
        str | Path | Rows[Example] | HubData | "ArrowTable" | Iterable[Mapping[str, object]] | Iterable[Example]
    )
    """Everything that rows are read from."""


class ArrowTable(Protocol):
    """A table of any library that hands its columns on as Arrow's: pandas, polars, pyarrow."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The columns, as a capsule."""


_STREAMED = "a stream, whose rows have no digest"


@dataclass(frozen=True, slots=True)
class Source:
    """A data set that was found, before its first row is read.

    Attributes:
        name: what the ids of rows without an id begin with.
        where: the source in messages.
        iterate: starts a pass over the rows; ready-made examples where it holds those.
        digest: identity of what is read: the bytes of files, a commit on the Hub, rows in memory.
        described: how LLaMA-Factory's ``dataset_info.json`` says that the rows are to be read.
        notes: what of the source is not read.
        may_be_empty: True for an earlier stage's rows: generation may keep none, which its manifest accounts for.
    """

    name: str
    where: str
    iterate: Callable[[], Iterator[Located | Example]]
    digest: Callable[[], str]
    described: Described | None = None
    notes: tuple[str, ...] = ()
    may_be_empty: bool = False


def find(data: "Data", settings: DataSettings) -> Source:
    """The source behind a path, a name or an object.

    Args:
        data: what the user gave.
        settings: its split.

    Raises:
        InputError: it is missing, of an unknown kind, or has no such split.
        EnvironmentProblem: the Hub cannot be reached.
    """
    if isinstance(data, str | Path):
        return _named(data, settings.split)
    if isinstance(data, Rows):
        _refuse_split(settings.split, "a stage's rows", "rows")
        return Source("rows", "rows", lambda: iter(data), lambda: data.manifest.digest, may_be_empty=True)
    return _in_memory(data, settings)


def _named(data: str | Path, split: str) -> Source:
    path = Path(data)
    if data == "":  # which is the working directory to Path
        raise InputError("no such file or folder: the name is empty", where="data")
    if path.is_dir():
        return _folder(path, None, split)
    if path.is_file():
        notes = notes_on_split(path, split)
        return Source(path.name, str(path), lambda: read_file(path), lambda: file_digest(path), notes=notes)
    folder, colon, entry = str(data).rpartition(":")
    if colon and Path(folder).is_dir():
        return _folder(Path(folder), entry, split)
    if not may_be_on_hub(data):
        raise InputError("no such file or folder", where=str(data))
    return _on_hub(str(data), split)


def _folder(folder: Path, entry: str | None, split: str) -> Source:
    where = str(folder)
    if (folder / MANIFEST_NAME).is_file():
        _refuse_split(split, "the folder of a stage", where)
        return _stage(folder)
    if (folder / DRAFT_NAME).is_file():
        raise InputError(
            "the folder of a stage that is not finished",
            where=where,
            fix="run the command that makes it again; it goes on where it stopped",
        )
    if is_saved(folder):
        return Source(folder.name, where, lambda: read_saved(folder, split), lambda: _digest(folder, folder.rglob("*")))
    described = described_in(folder, entry)
    if described is not None:
        split = described.split if split == DEFAULT_SPLIT else split
        return replace(_named(described.source, split), described=described)
    if entry is not None:
        raise InputError(f"the folder has no dataset_info.json that describes {entry!r}", where=where)
    found = files_of_split(folder, split)
    notes = tuple(f"file not read: {path.relative_to(folder)}" for path in found.passed_over)
    return Source(
        folder.name, where, lambda: read_files(found.files), lambda: _digest(folder, found.files), notes=notes
    )


def _stage(folder: Path) -> Source:
    rows = open_rows(folder)
    if rows.manifest.stage != "examples":
        raise InputError(
            f"expected examples, got the folder of the stage {rows.manifest.stage!r}",
            where=str(folder),
            fix="hand it to the command of a later stage, such as tokensieve select or train",
        )
    examples = as_rows(Example, rows)
    return Source(folder.name, str(folder), lambda: iter(examples), lambda: rows.manifest.digest)


def _on_hub(data: str, split: str) -> Source:
    name = resolved(HubName.parse(data))

    def iterate() -> Iterator[Located]:
        for index, record in enumerate(stream(name, split)):
            yield Located(without_nulls(record), index, f"{name} ({split}), row {index + 1}")

    return Source(str(replace(name, revision=None)), str(name), iterate, lambda: str(name))


def may_be_on_hub(source: str | Path) -> bool:
    """True where a source is neither a local file or folder nor looks like one."""
    path = Path(source)
    looks_local = isinstance(source, Path) or suffix_of(path) or str(source).startswith((".", "/", "~"))
    return bool(str(source)) and not looks_local and not path.exists()


def _refuse_split(split: str, what: str, where: str) -> None:
    if split != DEFAULT_SPLIT:
        raise InputError(f"{what} has no splits, got --split {split}", where=where, fix="leave --split out")


def _digest(folder: Path, files: Iterable[Path]) -> str:
    data = (file for file in files if file.is_file() and not file.name.startswith((".", "cache-")))
    return digest_of({str(file.relative_to(folder)): file_digest(file) for file in data})


# --- objects in memory ----------------------------------------------------------------------------------------------


def _in_memory(data: object, settings: DataSettings) -> Source:
    where = type(data).__name__
    if library := sys.modules.get("datasets"):
        if isinstance(data, library.DatasetDict | library.IterableDatasetDict):
            data = split_of_dict(data, settings.split, where)
        elif isinstance(data, library.Dataset | library.IterableDataset):
            _check_split_of(data, settings.split, where)
        if isinstance(data, library.IterableDataset):
            streamed = data
            return Source("rows", where, lambda: _rows(streamed, where), lambda: _STREAMED)
    rows = _listed(data, settings.limit)
    return Source("rows", where, lambda: _rows(rows, where), lambda: _digest_of(rows))


def _check_split_of(data: "datasets.Dataset | datasets.IterableDataset", split: str, where: str) -> None:
    """Refuse a split that a single data set is not; one without a name is any."""
    if split != DEFAULT_SPLIT and str(data.split) != split:
        raise InputError(f"a single data set has no split {split!r}", where=where, fix="leave split out")


def _is_table(data: object) -> bool:
    return hasattr(data, "__arrow_c_stream__") or hasattr(data, "__dataframe__") or isinstance(data, pa.RecordBatch)


def _listed(data: object, limit: int | None) -> Iterable[object]:
    """Rows that can be passed over more than once: of a table its records, of an iterator a list.

    Raises:
        InputError: no data set, or a table that cannot be read.
    """
    if (library := sys.modules.get("datasets")) and isinstance(data, library.Dataset):
        unformatted: Iterable[object] = data.with_format(None)
        return unformatted
    if _is_table(data):
        try:
            table = pa.Table.from_batches([data]) if isinstance(data, pa.RecordBatch) else pa.table(data)
        except (TypeError, ValueError, pa.ArrowException) as error:
            raise InputError(f"the table cannot be read: {error}", where=type(data).__name__) from None
        names = [name for name in table.column_names if not name.startswith("__index_level_")]
        records: list[object] = table.select(names).to_pylist()
        return records
    if isinstance(data, Iterator):
        return list(islice(data, limit))
    if isinstance(data, Iterable) and not isinstance(data, str | bytes | Mapping):
        return data
    raise InputError(
        f"expected a data set, got {type(data).__name__}",
        where="data",
        fix="a path, a Hub name, a datasets.Dataset, a table, or a list of dicts, one a row",
    )


def _rows(rows: Iterable[object], where: str) -> Iterator[Located | Example]:
    for index, row in enumerate(rows):
        if isinstance(row, Example):
            yield row
            continue
        place = f"{where}, row {index + 1}"
        if not isinstance(row, Mapping):
            raise InputError(
                f"expected a dict, got {type(row).__name__}", where=place, fix="a list of dicts, one a row"
            )
        yield Located(without_nulls(record_of(row, place)), index, place)


def _digest_of(rows: Iterable[object]) -> str:
    """SHA-256 of rows in memory, 64 hex digits."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True, default=repr).encode())
        digest.update(b"\n")
    return digest.hexdigest()
