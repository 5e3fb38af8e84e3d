"""A checker that is a function of the user's own, named as ``file.py:name``."""

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Protocol

from tokensieve.errors import InputError
from tokensieve.types import JSON, Outcome, Verdict


class UserFunction(Protocol):
    """Judges an answer to a row; None where it cannot tell."""

    def __call__(self, row: Mapping[str, JSON], answer: str) -> bool | Verdict | None:
        """Whether the answer is right."""
        ...


def user_function(place: str, folder: Path, where: str) -> UserFunction:
    """Load a function.

    Args:
        place: ``file.py:name``.
        folder: where the file lies.
        where: the setting, for messages.

    Raises:
        InputError: no such file or function, or importing the file fails.
    """
    file_name, colon, name = place.rpartition(":")
    file = folder / file_name
    if not colon or not file.is_file():
        raise InputError(f"expected file.py:name in {folder}, got {place!r}", where=where)
    function = getattr(_module(file, where), name, None)
    if not callable(function):
        raise InputError(f"{file_name} has no function {name!r}", where=where)
    found: UserFunction = function
    return found


def check_by_function(function: UserFunction, row: Mapping[str, JSON], answer: str) -> Verdict:
    """Call the user's function; an error of its own is theirs to see, but must not end a long evaluation."""
    try:
        found = function(row, answer)
    except Exception as error:  # noqa: BLE001 - reported in the verdict
        return Verdict(Outcome.NOT_JUDGED, reason=f"the checker raised {type(error).__name__}: {error}")
    if isinstance(found, Verdict):
        return found
    if found is None:
        return Verdict(Outcome.NOT_JUDGED, answer.strip(), "the checker cannot tell")
    return Verdict(Outcome.CORRECT if found else Outcome.WRONG, answer.strip())


def _module(file: Path, where: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tokensieve_checker_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise InputError(f"{file} is no Python file", where=where)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"importing {file} raised {type(error).__name__}: {error}", where=where) from error
    return module
