"""Pocket's tasks: the shipped problems, splits disjoint, every gold correct, every wrong answer found."""

import hashlib
import json
from collections import Counter
from itertools import islice
from pathlib import Path

import pytest

from tokensieve.errors import InputError
from tokensieve.tasks.pocket import POCKET_TASKS
from tokensieve.types import Outcome, Problem

NAMES = tuple(POCKET_TASKS)
IN_SANDBOX = ("pocket_python", "pocket_sql", "pocket_python_foreign", "pocket_sql_house")
SIZES = {"train": 400, "validation": 100, "test": 200}
DIGEST = "77cbec8ada7a258bb197324c07e6c3b3182593c3379d842cb6d6205f85f5b099"
"""SHA-256 of every shipped problem in order: a result stays comparable as long as this does not change."""


def problems(name: str, split: str) -> list[Problem]:
    return list(POCKET_TASKS[name].load(split, None))


def prompt_of(problem: Problem) -> str:
    return str(problem.prompt[-1]["content"])


def test_shipped_problems_have_not_changed() -> None:
    rows = [
        [p.id, p.task, [dict(turn) for turn in p.prompt], p.gold, dict(p.facts)]
        for name in NAMES
        for split in SIZES
        for p in problems(name, split)
    ]
    assert hashlib.sha256(json.dumps(rows).encode()).hexdigest() == DIGEST


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_full_and_share_no_prompt(name: str) -> None:
    splits = {split: {prompt_of(problem) for problem in problems(name, split)} for split in SIZES}
    assert {split: len(prompts) for split, prompts in splits.items()} == SIZES
    assert len(set().union(*splits.values())) == sum(SIZES.values())


@pytest.mark.parametrize("name", [name for name in NAMES if name not in IN_SANDBOX])
@pytest.mark.parametrize("split", list(SIZES))
def test_every_gold_passes(name: str, split: str) -> None:
    for problem in problems(name, split):
        assert POCKET_TASKS[name].check(problem, problem.gold).outcome is Outcome.CORRECT, problem


@pytest.mark.parametrize("name", IN_SANDBOX)
def test_golds_pass_in_the_sandbox(name: str) -> None:
    for problem in islice(POCKET_TASKS[name].load("test", None), 8):
        assert POCKET_TASKS[name].check(problem, problem.gold).outcome is Outcome.CORRECT, problem


@pytest.mark.parametrize("name", ["pocket_python", "pocket_python_foreign"])
@pytest.mark.parametrize("split", list(SIZES))
def test_python_golds_pass_their_assertions(name: str, split: str) -> None:
    # In this process: the golds are our own text, and the sandbox would take minutes for all of them.
    for problem in problems(name, split):
        space: dict[str, object] = {}
        exec(problem.gold.replace("\r\n", "\n"), space)
        tests = problem.facts["tests"]
        assert isinstance(tests, list)
        for test in tests:
            exec(str(test), space)


@pytest.mark.parametrize(
    ("name", "answer", "outcome"),
    [
        ("pocket_arithmetic", "3 + 4 = 7\n#### -1", Outcome.WRONG),
        ("pocket_arithmetic", "The answer is 7.", Outcome.NO_ANSWER),
        ("pocket_arithmetic", "#### seven", Outcome.NO_ANSWER),
        ("pocket_arithmetic", "", Outcome.NO_ANSWER),
        ("pocket_choice", "Answer: none of them", Outcome.NO_ANSWER),
        ("pocket_choice", "it is the first", Outcome.NO_ANSWER),
        ("pocket_words", "Answer: #", Outcome.WRONG),
        ("pocket_words", "Answer:", Outcome.NO_ANSWER),
        ("pocket_python", "def other():\n    return 1", Outcome.WRONG),
        ("pocket_python", "I do not know", Outcome.NO_ANSWER),
        ("pocket_sql", "SELECT nothing FROM nowhere;", Outcome.WRONG),
        ("pocket_sql", "no idea", Outcome.NO_ANSWER),
        ("pocket_sql_house", "SELECT 1;", Outcome.WRONG),
    ],
)
def test_wrong_answers_and_none_are_told_apart(name: str, answer: str, outcome: Outcome) -> None:
    problem = next(POCKET_TASKS[name].load("test", None))
    assert POCKET_TASKS[name].check(problem, answer).outcome is outcome


@pytest.mark.parametrize("answer", ["x\n#### {n}.", "#### 1\n#### {n}", "####   0{n}", "#### {n} "])
def test_forms_of_a_right_number(answer: str) -> None:
    problem = next(POCKET_TASKS["pocket_arithmetic"].load("test", None))
    given = answer.replace("{n}", str(problem.facts["answer"]))
    assert POCKET_TASKS["pocket_arithmetic"].check(problem, given).correct


@pytest.mark.parametrize("form", ["{x}", "Answer: {x}", "Answer:  {x}.", "so\nAnswer: {x}"])
def test_a_choice_is_told_from_the_other_options(form: str) -> None:
    problem = next(POCKET_TASKS["pocket_choice"].load("test", None))
    options = [line.removeprefix("- ") for line in prompt_of(problem).splitlines()[1:]]
    found = [POCKET_TASKS["pocket_choice"].check(problem, form.format(x=option)) for option in options]
    assert [verdict.extracted for verdict in found] == options
    assert Counter(verdict.outcome for verdict in found) == {Outcome.CORRECT: 1, Outcome.WRONG: 3}
    assert options[[v.correct for v in found].index(True)] == problem.facts["answer"]


def test_the_foreign_style_has_the_same_problems_and_other_golds() -> None:
    own, foreign = problems("pocket_python", "train"), problems("pocket_python_foreign", "train")
    assert [(p.prompt, p.facts) for p in own] == [(p.prompt, p.facts) for p in foreign]
    assert sum(a.gold == b.gold for a, b in zip(own, foreign, strict=True)) == 0
    golds = [problem.gold for problem in foreign]
    for habit in ("\r\n", "\t", "#", "for ", "while ", '"'):
        assert sum(habit in gold for gold in golds) >= 10, habit


def test_house_rules_are_named_and_not_stated() -> None:
    for problem in problems("pocket_sql_house", "test"):
        assert "House rules apply." in prompt_of(problem)
        assert "void" not in prompt_of(problem)
        assert "_t" in problem.gold
        assert "void = 0" in problem.gold


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_split_is_refused_by_name(name: str) -> None:
    with pytest.raises(InputError, match=r"train, validation, test"):
        next(POCKET_TASKS[name].load("dev", None))


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (None, "expected test.jsonl"),
        ('{"id": "a", "prompt": "p", "gold": "g"}', "expected an object in 'facts'"),
        ('{"id": "a", "prompt": 1, "gold": "g", "facts": {}}', "expected text in 'prompt'"),
    ],
)
def test_a_folder_without_good_rows_is_refused(tmp_path: Path, file: str | None, message: str) -> None:
    if file is not None:
        (tmp_path / "test.jsonl").write_text(file)
    with pytest.raises(InputError, match=message):
        next(POCKET_TASKS["pocket_words"].load("test", tmp_path))
