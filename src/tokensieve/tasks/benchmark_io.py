"""Rows of a benchmark, from a local folder in the published format or from the Hub."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.types import JSON


@dataclass(frozen=True, slots=True)
class Row:
    """One row as published, with the place it came from.

    Attributes:
        fields: its columns.
        where: file and line, or data set and number, for messages.
    """

    fields: Mapping[str, JSON]
    where: str

    def text(self, name: str) -> str:
        """A column that must be text.

        Raises:
            InputError: it is missing or something else.
        """
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise InputError(f"expected text in {name!r}, got {_kind(value)}", where=self.where)
        return value

    def number(self, name: str) -> int:
        """A column that must be a whole number.

        Raises:
            InputError: it is missing or something else.
        """
        value = self.fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(f"expected a whole number in {name!r}, got {_kind(value)}", where=self.where)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A column that must be a list of texts.

        Raises:
            InputError: it is missing or something else.
        """
        return texts(self.fields.get(name), name, self.where)


def texts(value: JSON, name: str, where: str) -> tuple[str, ...]:
    """A list of texts as a tuple.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, list):
        raise InputError(f"expected a list of texts in {name!r}, got {_kind(value)}", where=where)
    found = tuple(item for item in value if isinstance(item, str))
    if len(found) != len(value):
        raise InputError(f"expected only texts in the list {name!r}", where=where)
    return found


def require_split(task: str, split: str, splits: Sequence[str]) -> None:
    """Refuse a split that the task does not have.

    Raises:
        InputError: names those it has.
    """
    if split not in splits:
        raise InputError(f"{task} has no split {split!r}; it has: {', '.join(splits)}", where="split")


def find_file(folder: Path, benchmark: str, *names: str) -> Path:
    """The first of these files that is there, also packed as ``.gz``.

    Args:
        folder: the benchmark's folder, or one that holds it beside others.
        benchmark: the name of the benchmark's folder there.
        names: file names, the preferred one first.

    Raises:
        InputError: none is.
    """
    for name in names:
        for place in (folder / name, folder / benchmark / name):
            for candidate in (place, place.with_name(f"{place.name}.gz")):
                if candidate.is_file():
                    return candidate
    if not folder.is_dir():
        raise InputError("no such folder", where=str(folder), fix="--data FOLDER with the published files")
    wanted = " or ".join(names)
    raise InputError(
        f"expected {wanted} in this folder", where=str(folder), fix="--data FOLDER with the published files"
    )


def read_lines(path: Path) -> Iterator[Row]:
    """The rows of a JSON-lines file; empty lines are passed over and counted as lines.

    Raises:
        InputError: a line is no JSON object in UTF-8, or the file is not packed as its name says; names file and line
            (from 1).
    """
    number = 0
    # Bytes, so that what is no text is found in its own line.
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        try:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    where = f"{path}:{number}"
                    yield Row(_object(_text(line, where), where), where)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"broken gzip file: {error}", where=f"{path}:{number + 1}") from None


def read_array(path: Path) -> Iterator[Row]:
    """The rows of a file that is one JSON array of objects.

    Raises:
        InputError: it is something else.
    """
    try:
        rows = json.loads(_text(path.read_bytes(), str(path)))
    except json.JSONDecodeError as error:
        raise InputError(f"broken JSON: {error.msg}", where=f"{path}:{error.lineno}") from None
    if not isinstance(rows, list):
        raise InputError(f"expected an array of objects, got {_kind(rows)}", where=str(path))
    for number, row in enumerate(rows):
        where = f"{path}, row {number}"
        if not isinstance(row, dict):
            raise InputError(f"expected an object, got {_kind(row)}", where=where)
        yield Row(row, where)


def from_hub(data_set: str, split: str, *, name: str | None = None) -> Iterator[Row]:
    """The rows of a data set on the Hugging Face Hub, or of its copy in the local cache.

    Raises:
        EnvironmentProblem: it cannot be reached or does not exist.
    """
    import datasets

    try:
        rows = datasets.load_dataset(data_set, name, split=split)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise EnvironmentProblem(
            f"could not load it from the Hub: {error}",
            where=f"data set {data_set}",
            fix="check the network, or give a local copy with --data FOLDER",
        ) from error
    for number, fields in enumerate(rows):
        yield Row(dict(fields), f"{data_set} {split}, row {number}")


def _text(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"no UTF-8 text: {error.reason} at byte {error.start}", where=where) from None


def _object(line: str, where: str) -> dict[str, JSON]:
    try:
        value = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(f"broken JSON: {error.msg} at column {error.colno}", where=where) from None
    except RecursionError:
        raise InputError("broken JSON: nested too deeply", where=where) from None
    if not isinstance(value, dict):
        raise InputError(f"expected a JSON object, got {_kind(value)}", where=where)
    return value


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)
