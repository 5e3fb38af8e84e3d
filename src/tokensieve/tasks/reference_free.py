"""Checking answers to prompts without a gold answer: by tests that the prompt shows, or by the user's own function."""

import ast
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias, cast

from tokensieve.tasks.function import UserFunction, check_by_function, user_function
from tokensieve.tasks.mbpp import called
from tokensieve.tasks.program import judge_program
from tokensieve.tasks.reasoning import judge_behind_reasoning
from tokensieve.types import JSON, Message, Outcome, Verdict

PromptCheck: TypeAlias = Callable[[Sequence[Message], str], Verdict]
"""Judges an answer to the turns before it; not judged where it does not fit them."""


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
