"""Checks by a function of the user's own (``file.py:name``), and checks of answers to prompts without a gold."""

import ast
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeAlias, cast

from tokensieve.tasks.execution import judge_program
from tokensieve.tasks.mbpp import called
from tokensieve.tasks.reasoning import judge_behind_reasoning
from tokensieve.types import JSON, Message, Outcome, Verdict
from tokensieve.user_code import load_function

PromptCheck: TypeAlias = Callable[[Sequence[Message], str], Verdict]
"""Judges an answer to the turns before it; not judged where it does not fit them."""


class UserFunction(Protocol):
    """Judges an answer to a row; None where it cannot tell."""

    def __call__(self, row: Mapping[str, JSON], answer: str) -> bool | Verdict | None:
        """Judge one answer; True is right."""
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


def prompt_check(name: str) -> PromptCheck:
    """The check of a name: ``shown-tests``, or a function of the user's as ``file.py:name``.

    An answer is judged without the reasoning before it. The function is called with ``{"messages": [...], "prompt":
    the last user's turn}`` and the answer; it returns True, False, a verdict, or None where it cannot tell.

    Raises:
        InputError: no such file or function.
    """
    check: PromptCheck = by_shown_tests
    if name != "shown-tests":
        check = partial(_by_function, user_function(name, Path(), "generate.dialogue.verify"))
    return lambda messages, answer: judge_behind_reasoning(answer, partial(check, messages))


def by_shown_tests(messages: Sequence[Message], answer: str) -> Verdict:
    """Run the answer's code with the ``assert`` lines of the last turn, in the sandbox."""
    tests = _asserts(str(messages[-1]["content"]))
    if not tests:
        return Verdict(Outcome.NOT_JUDGED, reason="the prompt shows no tests")
    return judge_program(answer, names=called(tests), tests=tests)


def _asserts(text: str) -> list[str]:
    """The lines of a text that are Python assertions."""
    found = []
    for line in text.splitlines():
        try:
            parsed = ast.parse(line.strip()).body
        except (SyntaxError, ValueError):  # ValueError: null bytes
            continue
        if len(parsed) == 1 and isinstance(parsed[0], ast.Assert):
            found.append(line.strip())
    return found


def _by_function(function: UserFunction, messages: Sequence[Message], answer: str) -> Verdict:
    turns: list[JSON] = [cast("dict[str, JSON]", dict(message)) for message in messages]
    return check_by_function(function, {"messages": turns, "prompt": messages[-1]["content"]}, answer)
