"""Pocket's tasks, from a seeded generator: five skills of the embedded model, and two fine-tuning targets."""

from tokensieve.tasks.pocket import arithmetic, choice, words
from tokensieve.tasks.pocket.draw import SPLITS
from tokensieve.tasks.pocket.rephrase import rephrase_text
from tokensieve.tasks.pocket.tasks import (
    check_python,
    check_sql,
    load_arithmetic,
    load_choice,
    load_foreign,
    load_house,
    load_python,
    load_sql,
    load_words,
)
from tokensieve.tasks.task import Task
from tokensieve.types import Problem


def rephrase_prompt(problem: Problem, reference: str) -> str:
    """The user's turn, in the one form that pocket was trained on, that asks for its own wording of a reference answer.

    Args:
        problem: the problem; the last of its turns is the one that is asked again.
        reference: the answer to be put in the model's own words, as a raw response.
    """
    return rephrase_text(str(problem.prompt[-1]["content"]), reference)


POCKET_TASKS: dict[str, Task] = {
    "pocket_arithmetic": Task(
        "pocket_arithmetic",
        "Arithmetic stories of several steps; the number after #### must be right",
        SPLITS,
        load_arithmetic,
        arithmetic.check,
        max_new_tokens=160,
        rephrase=rephrase_prompt,
    ),
    "pocket_python": Task(
        "pocket_python",
        "Python functions, run against their tests",
        SPLITS,
        load_python,
        check_python,
        max_new_tokens=160,
        rephrase=rephrase_prompt,
    ),
    "pocket_sql": Task(
        "pocket_sql",
        "Text to SQL, executed; results compared row by row",
        SPLITS,
        load_sql,
        check_sql,
        max_new_tokens=112,
        rephrase=rephrase_prompt,
    ),
    "pocket_choice": Task(
        "pocket_choice",
        "Multiple choice that needs a little work",
        SPLITS,
        load_choice,
        choice.check,
        max_new_tokens=96,
        rephrase=rephrase_prompt,
    ),
    "pocket_words": Task(
        "pocket_words",
        "Operations on words and letters",
        SPLITS,
        load_words,
        words.check,
        max_new_tokens=144,
        rephrase=rephrase_prompt,
    ),
    "pocket_python_foreign": Task(
        "pocket_python_foreign",
        "The problems of pocket_python; the train answers are written in many other hands",
        SPLITS,
        load_foreign,
        check_python,
        max_new_tokens=320,
        rephrase=rephrase_prompt,
    ),
    "pocket_sql_house": Task(
        "pocket_sql_house",
        "Text to SQL under a house's own unwritten conventions, executed",
        SPLITS,
        load_house,
        check_sql,
        max_new_tokens=112,
        rephrase=rephrase_prompt,
    ),
}
"""Pocket's tasks by name: the five skills, then the two fine-tuning targets."""


__all__ = ["POCKET_TASKS", "rephrase_prompt"]
