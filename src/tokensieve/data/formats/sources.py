"""Records with their places, out of every kind of file, folder and Hub data set."""

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, cast

import pyarrow as pa
import pyarrow.parquet as pq

from tokensieve.config import DataSettings
from tokensieve.data.dataset import open_rows
from tokensieve.data.formats.hub import HubName, stream
from tokensieve.data.manifest import MANIFEST_NAME
from tokensieve.errors import InputError
from tokensieve.types import Example

_SUFFIXES: Final = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True, slots=True)
class Located:
    """One record and where it stands.

    Attributes:
        record: the row's fields.
        index: number of the row in its source, from 0.
        where: file and line for people, counted from 1.
    """

    record: Mapping[str, object]
    index: int
    where: str


def records(source: str | Path, settings: DataSettings) -> Iterator[Located | Example]:
    """The rows of a source, one at a time; ready-made examples where it is a stage's folder.

    Raises:
        InputError: the source is missing, damaged or of an unknown kind.
        EnvironmentProblem: a Hub data set cannot be fetched.
    """
    path = Path(source)
    if path.is_dir():
        yield from _from_folder(path, settings)
    elif path.is_file():
        yield from _from_file(path, 0)
    elif not may_be_on_hub(source):
        raise InputError("no such file or folder", where=str(source) or "data")
    else:
        name = HubName.parse(str(source))
        for index, record in enumerate(stream(name, settings.split)):
            yield Located(_without_nulls(record), index, f"{name} ({settings.split}), row {index + 1}")


def may_be_on_hub(source: str | Path) -> bool:
    """Whether a source is neither a file or folder here nor looks like one."""
    path = Path(source)
    looks_local = isinstance(source, Path) or _kind(path) or str(source).startswith((".", "/", "~"))
    return bool(str(source)) and not looks_local and not path.exists()


def _kind(path: Path) -> str:
    """The suffix that says what a file holds, without ``.gz``; empty where it is not one of ours."""
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    return suffix.lower() if suffix.lower() in _SUFFIXES else ""


def _from_file(path: Path, first: int) -> Iterator[Located]:
    kind = _kind(path)
    if kind == ".parquet":
        yield from _from_parquet(path, first)
    elif kind in (".csv", ".tsv"):
        yield from _from_csv(path, first, "\t" if kind == ".tsv" else ",")
    elif kind == ".json":
        yield from _from_json(path, first)
    elif kind:
        yield from _from_jsonl(path, first)
    else:
        known = ", ".join(_SUFFIXES)
        raise InputError(f"expected a file of one of the kinds {known}, got {path.suffix!r}", where=str(path))


def _from_folder(folder: Path, settings: DataSettings) -> Iterator[Located | Example]:
    if (folder / MANIFEST_NAME).is_file():
        yield from _from_stage(folder)
        return
    if (folder / "dataset_info.json").is_file() or (folder / "dataset_dict.json").is_file():
        yield from _from_saved(folder, settings)
        return
    files = sorted(path for path in folder.iterdir() if path.is_file() and _kind(path))
    if not files:
        raise InputError(f"the folder holds no file of the kinds {', '.join(_SUFFIXES)}", where=str(folder))
    first = 0
    for path in files:
        for located in _from_file(path, first):
            yield located
            first = located.index + 1


def _from_stage(folder: Path) -> Iterator[Example]:
    rows = open_rows(folder)
    if rows.manifest.stage != "examples":
        raise InputError(
            f"expected examples, got the folder of the stage {rows.manifest.stage!r}",
            where=str(folder),
            fix="hand it to the command of a later stage, such as tokensieve select or train",
        )
    yield from cast("Iterator[Example]", iter(rows))


# --- text files -----------------------------------------------------------------------------------------------------


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and lines as text; a byte-order mark at the start is left away."""
    number = 0
    try:
        with _open(path) as file:
            for number, line in enumerate(file, start=1):
                yield number, _decode(line, path, number)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"the gzip file is damaged or cut short: {error}",
            where=f"{path}, after line {number}",
            fix="fetch or write the file again",
        ) from None


def _decode(line: bytes, path: Path, number: int) -> str:
    if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError("expected UTF-8, got UTF-16", where=str(path), fix="convert it: iconv -f UTF-16 -t UTF-8")
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"invalid UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1}",
            where=f"{path}, line {number}",
            fix="save the file as UTF-8",
        ) from None


def _from_jsonl(path: Path, first: int) -> Iterator[Located]:
    index = first
    for number, line in _lines(path):
        if line.strip():
            where = f"{path}, line {number}"
            yield Located(_record(_parse(line, where), where), index, where)
            index += 1


def _from_json(path: Path, first: int) -> Iterator[Located]:
    """A ``.json`` file: one array of objects, or lines of objects."""
    with _open(path) as file:
        try:
            is_array = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
        except (EOFError, zlib.error, gzip.BadGzipFile):
            is_array = False
    if not is_array:
        yield from _from_jsonl(path, first)
        return
    values = _parse("".join(line for _, line in _lines(path)), str(path))
    for offset, value in enumerate(cast("list[object]", values)):
        where = f"{path}, entry {offset + 1}"
        yield Located(_record(value, where), first + offset, where)


def _parse(text: str, where: str) -> object:
    def refuse(constant: str) -> object:
        raise InputError(f"{constant} is no JSON value", where=where, fix="write null, or leave the field out")

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise InputError(f"broken JSON: {error.msg} at column {error.colno}", where=where) from None
    except RecursionError:
        raise InputError("broken JSON: nested too deeply", where=where) from None
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(f"broken JSON: {error}", where=where) from None


def _record(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise InputError(f"expected a JSON object, got {type(value).__name__}", where=where)
    return cast("Mapping[str, object]", value)


def _from_csv(path: Path, first: int, delimiter: str) -> Iterator[Located]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    text = (line for _, line in _lines(path))
    reader = csv.DictReader(text, delimiter=delimiter, strict=True)
    index = first
    while True:
        try:
            names = reader.fieldnames or ()
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"broken CSV: {error}", where=f"{path}, line {reader.reader.line_num}") from None
        if index == first:
            _check_header(names, f"{path}, line 1")
        where = f"{path}, line {reader.line_num}"
        if None in row or None in row.values():
            raise InputError(f"expected {len(names)} fields as in the header, got another number", where=where)
        yield Located(cast("Mapping[str, object]", row), index, where)
        index += 1


def _check_header(names: Sequence[str], where: str) -> None:
    """Refuse a header under which a row's fields could not be told apart: the last one would silently win."""
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"the header names {twice!r} twice", where=where, fix="give each field a name of its own")


# --- tables ---------------------------------------------------------------------------------------------------------


def _from_parquet(path: Path, first: int) -> Iterator[Located]:
    offset = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for record in batch.to_pylist():
                    yield Located(_without_nulls(record), first + offset, f"{path}, row {offset + 1}")
                    offset += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the Parquet file is damaged: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            where=f"{path}, after row {offset}",
            fix="fetch or write the file again",
        ) from None


def _without_nulls(record: Mapping[str, object]) -> Mapping[str, object]:
    """The record without the nulls inside its fields.

    A column of a table has one set of keys for all its rows, so that the arguments of one row's tool call come with
    null in every other row's.
    """
    return {name: _plain(value) for name, value in record.items()}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value


def _from_saved(folder: Path, settings: DataSettings) -> Iterator[Located]:
    """A data set that the datasets library saved to disk; of several splits, the one in the settings."""
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise InputError(f"the saved data set is damaged: {error}", where=str(folder)) from None
    if isinstance(loaded, dict):
        if settings.split not in loaded:
            raise InputError(
                f"no split {settings.split!r}; there are: {', '.join(map(str, loaded))}",
                where=str(folder),
                fix="--split NAME",
            )
        loaded = loaded[settings.split]
    for index, record in enumerate(loaded):
        yield Located(_without_nulls(record), index, f"{folder}, row {index + 1}")
