"""GSM8K: grade-school word problems with worked steps, judged by the final number.

Two rules, two names: ``gsm8k`` finds the final number wherever the answer gives it; ``gsm8k_paper`` is the rule of
the benchmark's authors and of the paper, which wants ``#### <number>`` and counts anything else as no answer.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tokensieve.errors import InputError
from tokensieve.tasks.answer_number import check_number
from tokensieve.tasks.benchmark_io import Row, find_file, from_hub, read_rows, require_split
from tokensieve.tasks.task import Task
from tokensieve.types import Outcome, Problem, Verdict

_SPLITS = ("train", "test")
_INSTRUCTION = (
    "Solve this problem step by step. Give the final answer as a plain number on the last line, after '#### '."
)
_HASHES: Final = re.compile(r"#### (\-?[0-9\.\,]+)")


def load(split: str, folder: Path | None) -> Iterator[Problem]:
    """The problems of ``train.jsonl`` or ``test.jsonl``, in the order of the file."""
    return _load("gsm8k", split, folder)


def load_paper(split: str, folder: Path | None) -> Iterator[Problem]:
    """The same problems under the name of the strict rule."""
    return _load("gsm8k_paper", split, folder)


def check(problem: Problem, answer: str) -> Verdict:
    """Compare the final number by value, wherever the text gives it; the reason says where it was found."""
    return check_number(answer, str(problem.facts["answer"]))


def check_paper(problem: Problem, answer: str) -> Verdict:
    """Compare what follows the first ``####`` as text, commas removed."""
    found = number_after_hashes(answer)
    if found is None:
        return Verdict(Outcome.NO_ANSWER, reason="no '#### <number>' in the answer")
    gold = str(problem.facts["answer"])
    if found == gold:
        return Verdict(Outcome.CORRECT, found)
    return Verdict(Outcome.WRONG, found, f"expected {gold}")


def number_after_hashes(text: str) -> str | None:
    """The text after ``####`` by the rule of GSM8K's authors: digits, points and commas after one space."""
    match = _HASHES.search(text)
    return match[1].replace(",", "") if match else None


def _load(task: str, split: str, folder: Path | None) -> Iterator[Problem]:
    require_split(task, split, _SPLITS)
    if folder is None:
        rows = from_hub("openai/gsm8k", split, name="main")
    else:
        rows = read_rows(find_file(folder, "gsm8k", f"{split}.jsonl"))
    for number, row in enumerate(rows):
        yield _problem(task, f"gsm8k/{split}/{number}", row)


def _problem(task: str, problem_id: str, row: Row) -> Problem:
    solution = row.text("answer")
    number = number_after_hashes(solution)
    if number is None:
        raise InputError("expected an answer that ends in '#### <number>'", where=row.where)
    prompt = f"{row.text('question')}\n\n{_INSTRUCTION}"
    return Problem(problem_id, task, ({"role": "user", "content": prompt},), solution, {"answer": number})


GSM8K_TASKS = {
    "gsm8k": Task("gsm8k", "GSM8K: word problems, final number by value", _SPLITS, load, check),
    "gsm8k_paper": Task(
        "gsm8k_paper", "GSM8K by the paper's rule: the text after '####'", _SPLITS, load_paper, check_paper
    ),
}
