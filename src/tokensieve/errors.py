"""The one family of errors that users meet; each class is one exit code of the command line."""

import warnings
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class TokensieveError(Exception):
    """Something a person can act on: what is wrong, where, and what fixes it.

    Args:
        problem: what was expected and what came, in one sentence.
        where: the place: a file and line, a row id, a setting's name.
        fix: the command, setting or install line that mends it.
    """

    exit_code: ClassVar[int] = 2

    def __init__(self, problem: str, *, where: str | None = None, fix: str | None = None) -> None:
        self.problem = problem
        self.where = where
        self.fix = fix
        text = f"{where}: {problem}" if where else problem
        super().__init__(f"{text}\n  fix: {fix}" if fix else text)


class CheckFailed(TokensieveError):
    """A check or a gate did its work and the answer is no (exit code 1)."""

    exit_code = 1


class InputError(TokensieveError):
    """The user's data, settings or arguments are not what the stage needs (exit code 2)."""

    exit_code = 2


class EnvironmentProblem(TokensieveError):
    """The machine lacks something: a package, disk space, a device, a network, an isolation feature (exit code 3)."""

    exit_code = 3


class Note(UserWarning):
    """Something that a user should know and that stops nothing; the command line prints it as a line."""


def note(text: str) -> None:
    """Tell the user something that stops nothing."""
    warnings.warn(text, Note, stacklevel=3)


def first_line(error: BaseException) -> str:
    """First line of an error's text, or its class where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def in_words(complaint: "ErrorDetails") -> str:
    """What pydantic found wrong with one value, for a person: what was expected and what came."""
    text = complaint["msg"].removeprefix("Value error, ")
    got = complaint.get("input")
    if complaint["type"] == "too_short":
        return f"expected at least {complaint['ctx']['min_length']} entry, got {complaint['ctx']['actual_length']}"
    if not text.startswith("Input should be "):
        return text[:1].lower() + text[1:]
    return f"expected {text.removeprefix('Input should be ')}" + (f", got {got!r}" if _is_short(got) else "")


def _is_short(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) < 80)
