"""Pocket's tasks: five skills of the embedded model and two fine-tuning targets, from shipped problems.

``tools/pocket`` generates the problems from seeds; a folder that it has written is read with ``--data`` as well.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final

from tokensieve.errors import InputError
from tokensieve.pocket import POCKET
from tokensieve.sandbox import Limits
from tokensieve.tasks.benchmark_io import Row, find_file, read_rows, require_split, texts
from tokensieve.tasks.execution import ResultComparison, judge_program, judge_query
from tokensieve.tasks.task import Task
from tokensieve.types import Message, Outcome, Problem, Verdict

PROBLEMS: Final = POCKET / "problems"
"""The shipped problems: ``TASK/SPLIT.jsonl.gz``, each row with ``id``, ``key``, ``prompt``, ``gold`` and ``facts``."""
SPLITS: Final = ("train", "validation", "test")
REPHRASE_INSTRUCTION: Final = "Answer in your own words, guided by the reference."

_ARITHMETIC_ANSWER = re.compile(r"^####[ \t]*(-?\d[\d,]*)[ \t]*\.?[ \t]*$", re.MULTILINE)
_CHOICE_ANSWER = re.compile(r"^Answer:(.*)$", re.MULTILINE)
_WORDS_ANSWER = re.compile(r"^Answer:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_PYTHON_LIMITS: Final = Limits(wall_s=10.0, cpu_s=2.0)


def rephrase_text(prompt: str, reference: str) -> str:
    """The user's turn of a rephrase request, in the one form that pocket was trained on."""
    return f"{prompt}\n\nReference:\n{reference}\n\n{REPHRASE_INSTRUCTION}"


def rephrase_prompt(problem: Problem, reference: str) -> str:
    """The user's turn that asks for the model's own wording of a reference answer.

    Args:
        problem: the problem; the last of its turns is the one that is asked again.
        reference: the answer to be rephrased, as a raw response.
    """
    return rephrase_text(str(problem.prompt[-1]["content"]), reference)


def load(task: str, split: str, folder: Path | None) -> Iterator[Problem]:
    """The problems of a split, in the order in which they were generated.

    Args:
        task: name of the task.
        split: train, validation or test.
        folder: problems that ``tools/pocket`` has written elsewhere; None for the shipped ones.

    Raises:
        InputError: an unknown split, a folder without the file, or a malformed row.
    """
    require_split(task, split, SPLITS)
    for row in read_rows(find_file(PROBLEMS if folder is None else folder, task, f"{split}.jsonl")):
        yield _problem(task, row)


def _problem(task: str, row: Row) -> Problem:
    facts = row.fields.get("facts")
    if not isinstance(facts, dict):
        raise InputError("expected an object in 'facts'", where=row.where)
    turn: Message = {"role": "user", "content": row.text("prompt")}
    return Problem(row.text("id"), task, (turn,), row.text("gold"), facts)


def check_arithmetic(problem: Problem, answer: str) -> Verdict:
    """Compare the number of the last ``#### n`` line; without such a line there is no answer."""
    found = _ARITHMETIC_ANSWER.findall(answer)
    if not found:
        return Verdict(Outcome.NO_ANSWER, reason="no line of the form '#### n'")
    number = str(found[-1]).replace(",", "")
    right = number.lstrip("0") == str(problem.facts["answer"]) or int(number) == problem.facts["answer"]
    return Verdict(Outcome.CORRECT if right else Outcome.WRONG, extracted=number)


def check_choice(problem: Problem, answer: str) -> Verdict:
    """Compare the option of the last ``Answer:`` line, or an answer that is one option; white space is collapsed."""
    found = _CHOICE_ANSWER.findall(answer) or [answer]
    given = " ".join(str(found[-1]).split()).removesuffix(".")
    options = {line.removeprefix("- ") for line in str(problem.prompt[-1]["content"]).splitlines()[1:]}
    if given not in options:
        return Verdict(
            Outcome.NO_ANSWER, extracted=given or None, reason="no line of the form 'Answer: one of the options'"
        )
    return Verdict(Outcome.CORRECT if given == problem.facts["answer"] else Outcome.WRONG, extracted=given)


def check_words(problem: Problem, answer: str) -> Verdict:
    """Compare the text of the last ``Answer:`` line; white space is collapsed, case counts."""
    found = _WORDS_ANSWER.findall(answer)
    if not found or not found[-1]:
        return Verdict(Outcome.NO_ANSWER, reason="no line of the form 'Answer: …'")
    given = " ".join(str(found[-1]).split())
    return Verdict(Outcome.CORRECT if given == problem.facts["answer"] else Outcome.WRONG, extracted=given)


def check_python(problem: Problem, answer: str) -> Verdict:
    """Run the answer's code and each test in the sandbox."""
    names = (str(problem.facts["name"]),)
    tests = texts(problem.facts["tests"], "tests", problem.id)
    return judge_program(answer, names=names, tests=tests, limits=_PYTHON_LIMITS)


def check_sql(problem: Problem, answer: str) -> Verdict:
    """Compare the rows of the answer's query with those of the gold query as multisets."""
    script = str(problem.facts["database"])
    return judge_query(answer, problem.gold, script=script, comparison=ResultComparison.MULTISET)


def _task(name: str, title: str, check: Callable[[Problem, str], Verdict], max_new_tokens: int) -> Task:
    return Task(name, title, SPLITS, partial(load, name), check, max_new_tokens, rephrase_prompt)


POCKET_TASKS: dict[str, Task] = {
    "pocket_arithmetic": _task(
        "pocket_arithmetic",
        "Arithmetic stories of several steps; the number after #### must be right",
        check_arithmetic,
        160,
    ),
    "pocket_python": _task("pocket_python", "Python functions, run against their tests", check_python, 160),
    "pocket_sql": _task("pocket_sql", "Text to SQL, executed; results compared row by row", check_sql, 112),
    "pocket_choice": _task("pocket_choice", "Multiple choice that needs a little work", check_choice, 96),
    "pocket_words": _task("pocket_words", "Operations on words and letters", check_words, 144),
    "pocket_python_foreign": _task(
        "pocket_python_foreign",
        "The problems of pocket_python; the train answers are in many other code styles",
        check_python,
        320,
    ),
    "pocket_sql_house": _task(
        "pocket_sql_house", "Text to SQL under a house's own unwritten conventions, executed", check_sql, 112
    ),
}
"""Pocket's tasks by name: the five skills, then the two fine-tuning targets."""
