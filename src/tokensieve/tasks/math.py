r"""MATH and MATH-500: competition mathematics, judged by the final answer.

Two rules, two names: ``math`` compares by value with math-verify; ``math_boxed`` wants ``\boxed{}`` and compares as
text, brackets, spacing and the like set aside. The paper's judge was a paid service and cannot be had again.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tokensieve.errors import InputError
from tokensieve.tasks import answer_text
from tokensieve.tasks.benchmark_io import Row, find_file, from_hub, read_rows, require_split
from tokensieve.tasks.math_judge import Judged, equivalent
from tokensieve.tasks.task import Task
from tokensieve.types import Outcome, Problem, Verdict

_SPLITS = ("train", "validation", "test")
_SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)
_INSTRUCTION = "Solve this problem step by step. Put the final answer in \\boxed{}."
_SENTENCE_END = re.compile(r"\.\s+(?=[A-Z])|,?\s+(?:since|because|where)\s")


def load(task: str, split: str, folder: Path | None) -> Iterator[Problem]:
    """The problems of a split, in the order of the file; from the Hub subject by subject.

    The validation split is a local file's only: on the Hub there are train and test.
    """
    require_split(task, split, _SPLITS)
    if folder is not None:
        rows = read_rows(find_file(folder, "math", f"{split}.jsonl"))
    elif split == "validation":
        raise InputError(
            "MATH has no validation split on the Hub", where=task, fix="--data FOLDER, or use train or test"
        )
    else:
        rows = (row for name in _SUBJECTS for row in from_hub("EleutherAI/hendrycks_math", split, name=name))
    for number, row in enumerate(rows):
        yield _problem(task, f"math/{split}/{number}", row)


def load_500(split: str, folder: Path | None) -> Iterator[Problem]:
    """The 500 problems of MATH-500; there is one split."""
    require_split("math_500", split, ("test",))
    local = None if folder is None else find_file(folder, "math_500", "test.jsonl")
    rows = from_hub("HuggingFaceH4/MATH-500", "test") if local is None else read_rows(local)
    for number, row in enumerate(rows):
        own = row.fields.get("unique_id")
        yield _problem("math_500", own if isinstance(own, str) else f"math_500/test/{number}", row)


def check(problem: Problem, answer: str) -> Verdict:
    """Compare the last boxed formula, or where there is none whatever math-verify takes for the answer."""
    return check_math(answer, str(problem.facts["answer"]))


def check_boxed(problem: Problem, answer: str) -> Verdict:
    """Compare the last boxed formula as text."""
    gold, found = str(problem.facts["answer"]), answer_text.boxed(answer)
    if found is None:
        return Verdict(Outcome.NO_ANSWER, reason="no \\boxed{} in the answer")
    if answer_text.plain_math(found) == answer_text.plain_math(gold):
        return Verdict(Outcome.CORRECT, found)
    return Verdict(Outcome.WRONG, found, f"expected {gold}")


def check_math(answer: str, gold: str) -> Verdict:
    """Compare the final formula by value.

    That is what is named as the final answer behind the last box, else the last box, alone or with those right before
    it, else whatever math-verify takes for the answer.
    """
    answer, gold_text = answer_text.latex_of_signs(answer), answer_text.latex_of_signs(gold)
    found, said = answer_text.boxed(answer), answer_text.said_after_boxes(answer)
    if found is None and "\\boxed{" in answer:
        return Verdict(Outcome.CUT_OFF, reason="the last \\boxed{ is never closed")
    if found is None:
        said = _stated_formula(answer)
        if said is not None and answer_text.plain_math(said) == answer_text.plain_math(gold_text):
            return Verdict(Outcome.CORRECT, said, "the same text")
    if said is not None:
        judged = equivalent(gold_text, said)
        if judged.extracted is not None:
            return _math_verdict(judged, judged.extracted, gold)
    if found is not None and answer_text.plain_math(found) == answer_text.plain_math(gold_text):
        return Verdict(Outcome.CORRECT, found, "the same text")
    judged = equivalent(gold_text, answer if found is None else f"\\boxed{{{found}}}")
    together = answer_text.boxed_together(answer)
    if together is not None and not judged.equal:
        several = equivalent(gold_text, f"\\boxed{{{together}}}")
        if several.equal:
            return Verdict(Outcome.CORRECT, together, "the boxes together, the same value by math-verify")
    return _math_verdict(judged, found if found is not None else judged.extracted, gold)


def _stated_formula(answer: str) -> str | None:
    """The formula behind the last "the answer is", with delimiters where LaTeX has none; None where nothing is said."""
    said = answer_text.statements(answer)
    if not said:
        return None
    formula = _SENTENCE_END.split(said[-1], maxsplit=1)[0].strip()
    bare = "\\" in formula and not re.search(r"\$|\\[(\[]", formula)
    return f"${formula.rstrip('.')}$" if bare else formula


def _math_verdict(judged: Judged, extracted: str | None, gold: str) -> Verdict:
    if judged.problem:
        return Verdict(Outcome.NOT_JUDGED, extracted, judged.problem)
    if extracted is None:
        return Verdict(Outcome.NO_ANSWER, reason="no formula or number in the answer")
    if judged.equal:
        return Verdict(Outcome.CORRECT, extracted, "the same value by math-verify")
    return Verdict(Outcome.WRONG, extracted, f"expected {gold}")


def _problem(task: str, problem_id: str, row: Row) -> Problem:
    solution = row.text("solution")
    gold = answer_text.boxed(solution)
    if gold is None:
        raise InputError("expected a solution with its answer in \\boxed{}", where=row.where)
    prompt = f"{row.text('problem')}\n\n{_INSTRUCTION}"
    return Problem(problem_id, task, ({"role": "user", "content": prompt},), solution, {"answer": gold})


def _task(name: str, title: str, check: Callable[[Problem, str], Verdict]) -> Task:
    return Task(name, title, _SPLITS, partial(load, name), check, 1024)


MATH_TASKS = {
    "math": _task("math", "MATH: competition mathematics, final answer by value", check),
    "math_boxed": _task("math_boxed", "MATH by the strict rule: the boxed text", check_boxed),
    "math_500": Task("math_500", "MATH-500: 500 problems of MATH, by value", ("test",), load_500, check, 1024),
}
