"""ARC-Challenge: school science questions with several choices, judged by the label that is chosen.

Two rules, two names: ``arc_challenge`` finds the choice wherever the answer gives it; ``arc_challenge_letter``
takes the answer's first character, as where an answer is one letter.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from tokensieve.errors import InputError
from tokensieve.tasks.answer_choice import check_choice, verdict_on_choice
from tokensieve.tasks.benchmark_io import Row, find_file, from_hub, read_rows, require_split, texts
from tokensieve.tasks.task import Task
from tokensieve.types import JSON, Problem, Verdict

_SPLITS = ("train", "validation", "test")
_INSTRUCTION = "Answer with the letter of the right choice and its text."


def load(split: str, folder: Path | None) -> Iterator[Problem]:
    """The questions of a split, in the order of the file."""
    return _load("arc_challenge", split, folder)


def load_letter(split: str, folder: Path | None) -> Iterator[Problem]:
    """The same questions under the name of the strict rule."""
    return _load("arc_challenge_letter", split, folder)


def check(problem: Problem, answer: str) -> Verdict:
    """Find the chosen label by any of several ways of saying it."""
    labels = texts(problem.facts["labels"], "labels", problem.id)
    choices = texts(problem.facts["choices"], "choices", problem.id)
    return check_choice(answer, str(problem.facts["answer"]), labels, dict(zip(labels, choices, strict=True)))


def check_letter(problem: Problem, answer: str) -> Verdict:
    """Take the first character that is no white space, where it stands alone: ``Both`` is not ``B``."""
    labels = texts(problem.facts["labels"], "labels", problem.id)
    one = "|".join(map(re.escape, labels))
    first = re.match(rf"\s*({one})(?![\w'])(?!\s*(?:,|/|&|and\b|or\b)\s*(?:{one})(?![\w']))", answer)
    return verdict_on_choice(first[1] if first else None, str(problem.facts["answer"]))


def _load(task: str, split: str, folder: Path | None) -> Iterator[Problem]:
    require_split(task, split, _SPLITS)
    if folder is None:
        rows = from_hub("allenai/ai2_arc", split, name="ARC-Challenge")
    else:
        rows = read_rows(find_file(folder, "arc_challenge", f"{split}.jsonl"))
    for row in rows:
        yield _problem(task, row)


def _problem(task: str, row: Row) -> Problem:
    offered = row.fields.get("choices")
    if not isinstance(offered, dict):
        raise InputError("expected 'choices' with 'text' and 'label'", where=row.where)
    labels = texts(offered.get("label"), "choices.label", row.where)
    choices = texts(offered.get("text"), "choices.text", row.where)
    gold = row.text("answerKey")
    if len(labels) != len(choices) or gold not in labels:
        raise InputError(f"the answer {gold!r} is not among the choices {', '.join(labels)}", where=row.where)
    lines = "\n".join(f"{label}. {text}" for label, text in zip(labels, choices, strict=True))
    prompt = f"{row.text('question')}\n\n{lines}\n\n{_INSTRUCTION}"
    facts: dict[str, JSON] = {"answer": gold, "labels": list(labels), "choices": list(choices)}
    response = f"{gold}. {choices[labels.index(gold)]}"
    return Problem(row.text("id"), task, ({"role": "user", "content": prompt},), response, facts)


ARC_TASKS = {
    "arc_challenge": Task(
        "arc_challenge", "ARC-Challenge: science questions, the chosen label", _SPLITS, load, check, 256
    ),
    "arc_challenge_letter": Task(
        "arc_challenge_letter",
        "ARC-Challenge by the strict rule: the first character",
        _SPLITS,
        load_letter,
        check_letter,
        256,
    ),
}
