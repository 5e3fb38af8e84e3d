"""The one family of errors that users meet; each class is one exit code of the command line."""

import difflib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, cast

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
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


def explain(error: "ValidationError", settings: "type[BaseModel]", prefix: str = "") -> str:
    """The first thing that is wrong with given settings, in words; for an unknown key with the nearest valid one.

    Args:
        error: what pydantic found.
        settings: the class that the settings were validated as.
        prefix: dotted place of these settings in larger ones.
    """
    first = error.errors()[0]
    place = ".".join(str(part) for part in (*filter(None, [prefix]), *first["loc"]))
    if first["type"] != "extra_forbidden":
        return f"{place}: {in_words(first)}" if place else in_words(first)
    here = class_at(settings, first["loc"][:-1])
    known = sorted(here.model_fields)
    near = difflib.get_close_matches(str(first["loc"][-1]), [*known, *_nested_keys(here)], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known)}"
    return f"unknown key {place!r}; {hint}"


def class_at(model: "type[BaseModel]", place: tuple[str | int, ...]) -> "type[BaseModel]":
    """The settings class that a path leads to."""
    for part in place:
        if isinstance(part, str) and part in model.model_fields:
            model = next(_classes_in(model, part), model)
    return model


def _nested_keys(model: "type[BaseModel]") -> list[str]:
    """Dotted keys of the settings within a settings class."""
    return [
        f"{name}.{key}" for name in model.model_fields for held in _classes_in(model, name) for key in held.model_fields
    ]


def _classes_in(model: "type[BaseModel]", field: str) -> "Iterator[type[BaseModel]]":
    """The settings classes that a field holds, by itself or in a tuple, mapping or union."""
    waiting = [model.model_fields[field].annotation]
    while waiting:
        kind = waiting.pop(0)
        if isinstance(kind, type) and hasattr(kind, "model_fields"):
            yield cast("type[BaseModel]", kind)
        waiting.extend(getattr(kind, "__args__", ()))


def in_words(complaint: "ErrorDetails") -> str:
    """A validation error of pydantic in words: what was expected and what came."""
    text = complaint["msg"].removeprefix("Value error, ")
    got = complaint.get("input")
    if complaint["type"] == "too_short":
        return f"expected at least {complaint['ctx']['min_length']} entry, got {complaint['ctx']['actual_length']}"
    if complaint["type"] in ("dict_type", "model_type"):
        return "expected names with their values" + (f", got {got!r}" if _is_short(got) else "")
    if not text.startswith("Input should be "):
        return text[:1].lower() + text[1:]
    return f"expected {text.removeprefix('Input should be ')}" + (f", got {got!r}" if _is_short(got) else "")


def _is_short(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float)) or (isinstance(value, str) and len(value) < 80)
