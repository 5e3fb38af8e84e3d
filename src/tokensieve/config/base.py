"""Shared pieces of the settings classes."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tokensieve.errors import InputError, in_words

Settings = TypeVar("Settings", bound=BaseModel)


STRICT = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
"""Configuration of every settings class: frozen, no unknown keys, docstrings as descriptions."""


def as_settings(kind: type[Settings], given: object, where: str) -> Settings:
    """Settings as they are, or from a dict of their fields; None gives the defaults.

    Args:
        kind: the settings class.
        given: what a caller passed.
        where: name of the argument, for the message.

    Raises:
        InputError: it is something else, or a field's name or value is not right.
    """
    if isinstance(given, kind):
        return given
    if given is not None and not isinstance(given, Mapping):
        raise InputError(
            f"expected {kind.__name__} or a dict, got {type(given).__name__}", where=where, fix=f"{kind.__name__}(…)"
        )
    try:
        return kind.model_validate(dict(given or {}))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, (where, *first["loc"])))
        raise InputError(in_words(first), where=place) from None
