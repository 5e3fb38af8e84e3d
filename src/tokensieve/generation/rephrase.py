"""Rephrase: the model is shown the reference answer and asked for its own (paper section 3; the wording is ours)."""

import re
from typing import Final

from tokensieve.errors import InputError
from tokensieve.tasks import Task
from tokensieve.types import Message, Problem

_FORM: Final = """\
Below are an instruction and a reference answer to it. Answer the instruction yourself: let the reference guide you to \
the right result, but put it in the words, the steps and the style that come naturally to you. Reply with your answer \
alone, in the format that the instruction asks for.

### Instruction
{prompt}

### Reference answer
{reference}

### Response
"""

_LEFTOVERS: Final = re.compile(
    r"""^\W*(sure|certainly|of\ course|okay|ok)\b[^\n]{0,80}(answer|version|response|paraphras|rephras|rewrit)
    | \bhere(\ is|'s|\ are)\ (my|the|a|an)\ (\w+\ )?(answer|response|version|solution|paraphrase|rephrased|rewritten)
    | \b(my|your)\ own\ (words|style|answer)\b
    | \b(the|this|that|given|provided)\ reference(\ (answer|solution))?\b
    | \b(rephrased|paraphrased|rewritten)\ (answer|response|version|solution)\b
    | ^\#{2,}\ *(instruction|reference|response)\b
    """,
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)


def rephrase_prompt(task: Task, problem: Problem) -> tuple[Message, ...]:
    """The turns that ask for the model's own wording: the problem's, the last one with the reference put to it.

    The task's own form is used where it has one.

    Raises:
        InputError: the problem's last turn is not text.
    """
    last = problem.prompt[-1]
    form = task.rephrase or _in_form
    asked: Message = {**last, "content": form(problem, problem.gold)}
    return (*problem.prompt[:-1], asked)


def is_leftover(text: str) -> bool:
    """True for an answer that talks about the request to rephrase ("Here is my answer"): no training data."""
    return _LEFTOVERS.search(text) is not None


def _in_form(problem: Problem, reference: str) -> str:
    prompt = problem.prompt[-1]["content"]
    if not isinstance(prompt, str):
        raise InputError("only a user's turn of text can be rephrased", where=f"problem {problem.id}")
    return _FORM.format(prompt=prompt, reference=reference)
