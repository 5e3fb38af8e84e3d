"""A checker that is a function of the user's own, named as ``file.py:name``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from tokensieve.types import JSON, Outcome, Verdict
from tokensieve.user_code import load_function


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
    return cast(UserFunction, load_function(place, folder, where))


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
