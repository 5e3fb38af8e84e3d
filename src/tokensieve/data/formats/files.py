"""Records out of one file: JSON lines, JSON, CSV or Parquet, the text ones also compressed."""

import bz2
import csv
import gzip
import io
import json
import lzma
import sys
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from tokensieve.data.formats.fields import json_kind
from tokensieve.errors import InputError, first_line

SUFFIXES: Final = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet")
_COMPRESSED: Final[Mapping[str, str]] = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd", ".zip": "zip"}
_MAGIC: Final[Mapping[bytes, str]] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}
_PARQUET: Final = b"PAR1"
_GIT_LFS: Final = b"version https://git-lfs"
_HTML: Final = (b"<!doctype html", b"<html")
_BROKEN_STREAM: Final = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, OSError, pa.ArrowException)


@dataclass(frozen=True, slots=True)
class Located:
    """One record and its place.

    Attributes:
        record: the row's fields.
        index: number of the row in its source, from 0.
        where: file and line, counted from 1, for messages.
    """

    record: Mapping[str, object]
    index: int
    where: str


def suffix_of(path: Path) -> str:
    """The suffix that says what a file holds, without that of its compression; empty where it is not one of ours."""
    suffix = Path(path.stem).suffix if path.suffix.lower() in _COMPRESSED else path.suffix
    return suffix.lower() if suffix.lower() in SUFFIXES else ""


def read_file(path: Path, first: int = 0) -> Iterator[Located]:
    """The records of one file, one at a time.

    Args:
        path: the file; one without a known suffix is read after its content.
        first: index of its first row in the source.

    Raises:
        InputError: it is damaged, of an unknown kind, or not the data but a pointer to it.
    """
    kind = suffix_of(path) or _sniffed(path)
    if kind == ".parquet":
        yield from _from_parquet(path, first)
    elif kind in (".csv", ".tsv"):
        yield from _from_csv(path, first, "\t" if kind == ".tsv" else ",")
    elif kind == ".json":
        yield from _from_json(path, first)
    elif kind:
        yield from _from_jsonl(path, first)
    else:
        raise InputError(
            f"expected a file of one of the kinds {', '.join(SUFFIXES)}, got {path.suffix or path.name!r}",
            where=str(path),
        )


def without_nulls(record: Mapping[str, object]) -> Mapping[str, object]:
    """The record without the nulls inside its fields, arrays as lists.

    A column of a table has one set of keys for all its rows, so that the arguments of one row's tool call come with
    null in every other row's.
    """
    return {name: _plain(value) for name, value in record.items()}


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items() if inner is not None}
    if hasattr(value, "tolist"):  # a NumPy array or number, as tables of pandas hold them
        value = value.tolist()
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


# --- bytes ----------------------------------------------------------------------------------------------------------


def open_bytes(path: Path) -> IO[bytes]:
    """A file's content, uncompressed after its first bytes, whatever its name says.

    Raises:
        InputError: it is a pointer of Git LFS, a web page, or an archive of several files.
    """
    with path.open("rb") as file:
        head = file.read(64)
    if head.startswith(_GIT_LFS):
        raise InputError(
            "the file is a pointer of Git LFS, not the data", where=str(path), fix="git lfs pull, in its repository"
        )
    if head.lstrip().lower().startswith(_HTML):
        raise InputError(
            "the file is a web page, not the data", where=str(path), fix="download the file itself, not its page"
        )
    by_content = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), "")
    match by_content or _COMPRESSED.get(path.suffix.lower(), ""):
        case "gzip":
            return io.BufferedReader(gzip.open(path, "rb"))
        case "bzip2":
            return bz2.open(path, "rb")
        case "xz":
            return lzma.open(path, "rb")
        case "zstd":
            return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
        case "zip":
            return _only_member(path)
    return path.open("rb")


def _only_member(path: Path) -> IO[bytes]:
    archive = zipfile.ZipFile(path)
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
    if len(names) != 1:
        raise InputError(f"the archive holds {len(names)} files, expected one", where=str(path), fix="unpack it")
    return archive.open(names[0])


def _sniffed(path: Path) -> str:
    """The kind of a file without a known suffix, after its content; empty where it is none of ours."""
    with path.open("rb") as file:
        if file.read(4) == _PARQUET:
            return ".parquet"
    try:
        with open_bytes(path) as file:
            head = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    except _BROKEN_STREAM:
        return ".jsonl"  # whose reader says what is damaged
    return {b"[": ".json", b"{": ".jsonl"}.get(head[:1], "")


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line numbers from 1 and lines as text; a byte-order mark at the start is left away.

    Raises:
        InputError: the file is damaged, or a line is not UTF-8.
    """
    number = 0
    try:
        with open_bytes(path) as file:
            for number, line in enumerate(file, start=1):
                yield number, _decode(line, path, number)
    except _BROKEN_STREAM as error:
        packed = _COMPRESSED.get(path.suffix.lower(), "compressed")
        raise InputError(
            f"the {packed} file is damaged or cut short: {error}",
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


# --- text -----------------------------------------------------------------------------------------------------------


def _from_jsonl(path: Path, first: int) -> Iterator[Located]:
    index = first
    for number, line in lines_of(path):
        if line.strip():
            where = f"{path}, line {number}"
            yield Located(record_of(_parse(line, where), where), index, where)
            index += 1


def _from_json(path: Path, first: int) -> Iterator[Located]:
    """A ``.json`` file: one array of objects, or lines of objects."""
    try:
        with open_bytes(path) as file:
            is_array = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    except _BROKEN_STREAM:
        is_array = False
    if not is_array:
        yield from _from_jsonl(path, first)
        return
    values = _parse("".join(line for _, line in lines_of(path)), str(path))
    for offset, value in enumerate(values if isinstance(values, list) else [values]):
        where = f"{path}, entry {offset + 1}"
        yield Located(record_of(value, where), first + offset, where)


def _parse(text: str, where: str) -> object:
    def refuse(constant: str) -> object:
        raise InputError(f"{constant} is no JSON value", where=where, fix="write null, or leave the field out")

    try:
        value: object = json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise InputError(f"broken JSON: {error.msg} at column {error.colno}", where=where) from None
    except RecursionError:
        raise InputError("broken JSON: nested too deeply", where=where) from None
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(f"broken JSON: {error}", where=where) from None
    return value


def record_of(value: object, where: str) -> Mapping[str, object]:
    """A row, which must be an object with text as names.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"expected a JSON object, got {json_kind(value)}", where=where)
    return value


def _from_csv(path: Path, first: int, delimiter: str) -> Iterator[Located]:
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    text = (line for _, line in lines_of(path))
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
            _check_header(names, delimiter, f"{path}, line 1")
        where = f"{path}, line {reader.line_num}"
        if None in row or None in row.values():
            raise InputError(f"expected {len(names)} fields as in the header, got another number", where=where)
        yield Located(row, index, where)
        index += 1


def _check_header(names: Sequence[str], delimiter: str, where: str) -> None:
    """Refuse a header with another separator, and one that names a field twice: the last one would silently win."""
    other = next((mark for mark in ",;\t|" if mark != delimiter and mark in "".join(names)), None)
    if len(names) == 1 and other is not None:
        raise InputError(
            f"the fields are separated by {other!r}, expected {delimiter!r}",
            where=where,
            fix="save the file with commas, or as .tsv with tabs",
        )
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise InputError(f"the header names {twice!r} twice", where=where, fix="give each field a name of its own")


# --- tables ---------------------------------------------------------------------------------------------------------


def _from_parquet(path: Path, first: int) -> Iterator[Located]:
    open_bytes(path).close()  # a pointer or a web page is told by its first bytes
    offset = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for record in batch.to_pylist():
                    yield Located(without_nulls(record), first + offset, f"{path}, row {offset + 1}")
                    offset += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the Parquet file is damaged: {first_line(error)}",
            where=f"{path}, after row {offset}",
            fix="fetch or write the file again",
        ) from None
