"""Fields of a record as the types they must have, and the errors that say what came instead."""

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from tokensieve.errors import InputError

Record: TypeAlias = Mapping[str, object]


def list_of_turns(record: Record, names: Sequence[str], where: str) -> Sequence[object]:
    """The first of the named fields that is there, as a list.

    Raises:
        InputError: none of them is there, or it is no list.
    """
    name = next((name for name in names if name in record), None)
    if name is None:
        raise missing(names[0], record, where)
    value = record[name]
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise wrong(name, "a list of turns", value, where)
    return cast("Sequence[object]", value)


def required_text(record: Record, name: str, where: str) -> str:
    """A field's text.

    Raises:
        InputError: it is not there, or no text.
    """
    if name not in record:
        raise missing(name, record, where)
    return text(record[name], name, where)


def response_text(record: Record, name: str, where: str) -> str:
    """A response's text; null counts as empty, which is dropped and counted rather than an error."""
    return "" if name in record and record[name] is None else required_text(record, name, where)


def text(value: object, name: str, where: str) -> str:
    """A value that must be text which UTF-8 can write.

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
        return cast("object", json.loads(content))
    except (ValueError, RecursionError) as error:
        raise InputError(f"expected JSON, got {content[:60]!r}: {error}", where=where) from None


def missing(name: str, record: Record, where: str) -> InputError:
    """The error for a field that is not there; lists those that are."""
    return InputError(f"expected the field {name!r}, got: {', '.join(map(str, record)) or 'none'}", where=where)


def wrong(name: str, expected: str, value: object, where: str) -> InputError:
    """The error for a field of another type than expected."""
    return InputError(f"{name} is {kind(value)}, expected {expected}", where=where)


def kind(value: object) -> str:
    """A value's type and a short look at it."""
    if value is None:
        return "null"
    shown = repr(value)
    return f"{type(value).__name__} {shown if len(shown) <= 40 else shown[:37] + '...'}"
