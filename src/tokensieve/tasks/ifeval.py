"""IFEval: prompts with instructions that a program can check, by rules of our own (no harness, no downloads).

``ifeval`` counts a prompt as followed where the answer follows each of its instructions, ``ifeval:loose`` where the
answer does without its first line, its last line or its asterisks. Both give the official four figures: prompt and
instruction level, strict and loose.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.tasks.answer_text import behind_reasoning
from tokensieve.tasks.benchmark_io import Row, find_file, from_hub, read_rows, require_split
from tokensieve.tasks.ifeval_rules import INSTALL, RULES, Arguments, follows, follows_loosely
from tokensieve.tasks.task import Task
from tokensieve.types import JSON, Outcome, Problem, Sample, Verdict

_SPLITS: Final = ("test",)
_MAX_NEW_TOKENS: Final = 1280
"""The official limit."""

Follows = Callable[[str, str, Arguments], bool]


def load(name: str, split: str, folder: Path | None) -> Iterator[Problem]:
    """The prompts, in the order of the file; there is no reference answer, so ``gold`` is empty.

    Raises:
        InputError: an unknown split, no ``input_data.jsonl``, or a row with an unknown or incomplete instruction.
        EnvironmentProblem: a prompt's check needs ``langdetect``, which is not installed.
    """
    require_split(name, split, _SPLITS)
    # The data set's one split is called train on the Hub.
    if folder is None:
        rows = from_hub("google/IFEval", "train")
    else:
        rows = read_rows(find_file(folder, "ifeval", "input_data.jsonl", "test.jsonl"))
    for row in rows:
        yield _problem(name, split, row)


def _problem(name: str, split: str, row: Row) -> Problem:
    instructions = row.texts("instruction_id_list")
    listed = row.fields.get("kwargs")
    if not isinstance(listed, list) or len(listed) != len(instructions):
        raise InputError(f"expected a list of {len(instructions)} objects in 'kwargs'", where=row.where)
    arguments = [_arguments(one, given, row.where) for one, given in zip(instructions, listed, strict=True)]
    if find_spec("langdetect") is None and any(RULES[one].detects_language for one in instructions):
        raise EnvironmentProblem("the check of a prompt needs langdetect, which is not installed", fix=INSTALL)
    facts: dict[str, JSON] = {"instructions": list(instructions), "arguments": list(arguments)}
    prompt = row.text("prompt")
    return Problem(f"ifeval/{split}/{row.number('key')}", name, ({"role": "user", "content": prompt},), "", facts)


def _arguments(instruction: str, given: JSON, where: str) -> dict[str, JSON]:
    """An instruction's arguments without the empty columns that the Hub adds."""
    rule = RULES.get(instruction)
    if rule is None:
        raise InputError(f"unknown instruction {instruction!r}; known: {', '.join(RULES)}", where=where)
    found = {key: value for key, value in given.items() if value is not None} if isinstance(given, dict) else {}
    missing = [key for key in rule.needs if key not in found]
    if missing:
        raise InputError(f"{instruction} needs {', '.join(missing)} in 'kwargs'", where=where)
    return {key: found[key] for key in rule.needs}


def followed(rule: Follows, problem: Problem, answer: str) -> list[bool]:
    """True where the answer follows each of the problem's instructions.

    Args:
        rule: ``follows`` (strict) or ``follows_loosely``.
        problem: one of IFEval's.
        answer: the answer's text.
    """
    instructions, arguments = problem.facts["instructions"], problem.facts["arguments"]
    if not isinstance(instructions, list) or not isinstance(arguments, list):
        raise InputError("expected lists of instructions and arguments", where=problem.id)
    pairs = zip(instructions, arguments, strict=True)
    return [rule(str(name), answer, given if isinstance(given, dict) else {}) for name, given in pairs]


def check(rule: Follows, problem: Problem, answer: str) -> Verdict:
    """Correct where every instruction is followed; the reason names the others."""
    if not answer.strip():
        return Verdict(Outcome.NO_ANSWER, reason="the answer is empty")
    flags = followed(rule, problem, answer)
    instructions = problem.facts["instructions"]
    names = instructions if isinstance(instructions, list) else []
    missed = [str(name) for name, flag in zip(names, flags, strict=True) if not flag]
    reason = f"{sum(flags)} of {len(flags)} instructions followed" + (f"; not {', '.join(missed)}" if missed else "")
    return Verdict(Outcome.WRONG if missed else Outcome.CORRECT, reason=reason)


def figures(problems: Mapping[str, Problem], samples: Sequence[Sample]) -> dict[str, float]:
    """The official four figures as fractions of prompts and of instructions; NaN without answers."""
    found: dict[str, float] = {}
    for name, rule in (("strict", follows), ("loose", follows_loosely)):
        flags = [followed(rule, problems[sample.problem_id], _counted(sample)) for sample in samples]
        each = [flag for one in flags for flag in one]
        found[f"prompt_{name}"] = sum(map(all, flags)) / len(flags) if flags else float("nan")
        found[f"instruction_{name}"] = sum(each) / len(each) if each else float("nan")
    return found


def _counted(sample: Sample) -> str:
    """The text that is judged; none of an answer whose reasoning does not end, or that counts as wrong unread."""
    unread = sample.verdict is not None and sample.verdict.outcome is Outcome.CUT_OFF
    return "" if unread else behind_reasoning(sample.text) or ""


def _task(name: str, title: str, rule: Follows) -> Task:
    return Task(
        name=name,
        title=title,
        splits=_SPLITS,
        load=partial(load, name),
        checker=partial(check, rule),
        max_new_tokens=_MAX_NEW_TOKENS,
        figures=figures,
    )


IFEVAL_TASKS: Final[dict[str, Task]] = {
    "ifeval": _task("ifeval", "IFEval: instructions that a program checks, all of a prompt's, strict", follows),
    "ifeval:loose": _task("ifeval:loose", "IFEval by the loose rule", follows_loosely),
}
