"""Typed access to a record's fields, the account of those that nobody read, and errors that say what came instead."""

import ast
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from tokensieve.errors import InputError

Record: TypeAlias = Mapping[str, object]


class Fields(Mapping[str, object]):
    """A record, or a turn in it, that remembers which of its fields were read.

    Nothing that a data set holds is passed over in silence: what no reader asked for is in ``unread``.

    Args:
        record: the fields.
        notes: collects what was done with the row that is worth telling; shared by a record and its turns.
    """

    __slots__ = ("_read", "_record", "notes")

    def __init__(self, record: Record, notes: set[str] | None = None) -> None:
        self._record = record
        self._read: set[str] = set()
        self.notes: set[str] = set() if notes is None else notes

    def __getitem__(self, name: str) -> object:
        value = self._record[name]
        self._read.add(name)
        return value

    def __contains__(self, name: object) -> bool:
        return name in self._record

    def __iter__(self) -> Iterator[str]:
        return iter(self._record)

    def __len__(self) -> int:
        return len(self._record)

    def peek(self, name: str) -> object:
        """A field's value without counting it as read; None where it is not there."""
        return self._record.get(name)

    def holds(self, name: str) -> bool:
        """True where the field is there and neither null nor empty."""
        return not _is_empty(self._record.get(name))

    def of_turn(self, turn: Record) -> "Fields":
        """A turn of this record, whose notes are the record's."""
        return Fields(turn, self.notes)

    def unread(self) -> list[str]:
        """Names of the fields that hold something and were not read."""
        return [name for name, value in self._record.items() if name not in self._read and not _is_empty(value)]


def list_of_turns(record: Record, names: Sequence[str], where: str) -> Sequence[object]:
    """The first of the named fields that is there, as a list; a list that is written as text is read.

    Raises:
        InputError: none of them is there, or it is no list.
    """
    name = next((name for name in names if name in record), None)
    if name is None:
        raise missing(names[0], record, where)
    value = record[name]
    turns = as_list(value)
    if turns is None:
        raise wrong(name, "a list of turns", value, where)
    return turns


def as_list(value: object) -> Sequence[object] | None:
    """A list, also one that is written as text, in JSON or as Python prints it; None where it is neither.

    Tables keep lists as text: CSV files always, Parquet files often.
    """
    if isinstance(value, str):
        value = _decoded(value.strip())
    return value if isinstance(value, Sequence) and not isinstance(value, str | bytes) else None


def _decoded(content: str) -> object:
    """The list in a text of JSON or of Python; None where there is none."""
    if not content.startswith("["):
        return None
    try:
        found: object = json.loads(content)
    except (ValueError, RecursionError):
        try:
            found = ast.literal_eval(content)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return None
    return found


def required_text(record: Record, name: str, where: str) -> str:
    """A field's text.

    Raises:
        InputError: it is not there, or no text.
    """
    if name not in record:
        raise missing(name, record, where)
    return text(record[name], name, where)


def optional_text(record: Record, name: str, where: str) -> str:
    """A field's text; empty where it is not there, null or blank.

    Raises:
        InputError: it is no text.
    """
    value = record.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise wrong(name, "text", value, where)
    return text(value, name, where) if value.strip() else ""


def response_text(record: Record, name: str, where: str) -> str:
    """A response's text; null counts as empty, which is dropped and counted rather than an error."""
    return "" if name in record and record[name] is None else required_text(record, name, where)


def text(value: object, name: str, where: str) -> str:
    """A value that must be text which UTF-8 can encode.

    Raises:
        InputError: it is not.
    """
    if not isinstance(value, str):
        raise wrong(name, "text", value, where)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InputError(f"{name} holds half of a surrogate pair, which is no character", where=where) from None
    return value


def flag(value: object) -> bool | None:
    """A value that is true or false, also as CSV files write it; None where it is neither."""
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.strip().lower())
    return value if isinstance(value, bool) else None


def switch(value: object) -> bool | None:
    """As ``flag``, also by the numbers 1 and 0 and their texts; for fields that can be nothing but a switch."""
    if isinstance(value, str):
        value = {"1": True, "0": False, "yes": True, "no": False}.get(value.strip().lower(), flag(value))
    if isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    return None


def number(value: object) -> float | None:
    """A finite number, also as CSV files write it; None where it is none. True and false are 1 and 0."""
    try:
        found = float(value) if isinstance(value, bool | int | float | str) else math.nan
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def row_id(record: Record, where: str) -> str:
    """The row's own id as text; empty where it has none."""
    value = record.get("id")
    if value is None or value == "":
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise wrong("id", "text or a whole number", value, where)
    return text(str(value), "id", where)


def json_value(content: str, where: str) -> object:
    """A field that holds JSON as text.

    Raises:
        InputError: it does not.
    """
    try:
        value: object = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"expected JSON, got {content[:60]!r}: {error}", where=where) from None
    return value


def missing(name: str, record: Record, where: str) -> InputError:
    """The error for a field that is not there; lists those that are."""
    return InputError(f"expected the field {name!r}, got: {', '.join(map(str, record)) or 'none'}", where=where)


def wrong(name: str, expected: str, value: object, where: str) -> InputError:
    """The error for a field of another type than expected."""
    return InputError(f"{name} is {kind(value)}, expected {expected}", where=where)


def kind(value: object) -> str:
    """A value's type and its first 40 characters."""
    if value is None:
        return "null"
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= 40 else shown[:37] + '...'}"


def json_kind(value: object) -> str:
    """The kind of a JSON value in words: an object, a list, text."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}
    return "nothing" if value is None else names.get(type(value), type(value).__name__)


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str | Sequence | Mapping) and not value)
