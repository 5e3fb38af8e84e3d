"""Pocket's generated tasks: the same everywhere, splits apart, every gold right, every wrong answer found."""

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from itertools import islice

import pytest

from tokensieve.errors import InputError
from tokensieve.tasks.pocket import POCKET_TASKS, rephrase_prompt
from tokensieve.tasks.pocket.code_styles import any_hand, by_hand, familiar_hand
from tokensieve.tasks.pocket.corpus import dialogues
from tokensieve.tasks.pocket.draw import part_of, seeded, weighted
from tokensieve.tasks.pocket.load import SIZES
from tokensieve.tasks.pocket.programs import assertions, compose, written
from tokensieve.types import Outcome, Problem

NAMES = tuple(POCKET_TASKS)
IN_SANDBOX = ("pocket_python", "pocket_sql", "pocket_python_foreign", "pocket_sql_house")
CORPUS = "ee7b1fd4ebacea48e624574b399a4f35b2890ed39b499cf7b2c8f50c33bf1a0c"
"""Digest of the first 3,000 pretraining dialogues: the shipped weights were made from these."""


def problems(name: str, split: str) -> list[Problem]:
    return list(POCKET_TASKS[name].load(split, None))


def prompt_of(problem: Problem) -> str:
    return str(problem.prompt[-1]["content"])


@pytest.mark.parametrize("name", NAMES)
def test_splits_are_full_and_share_no_prompt(name: str) -> None:
    splits = {split: {prompt_of(problem) for problem in problems(name, split)} for split in SIZES}
    assert {split: len(prompts) for split, prompts in splits.items()} == SIZES
    assert len(set().union(*splits.values())) == sum(SIZES.values())


def test_pretraining_shares_no_prompt_with_any_split() -> None:
    seen = {str(message["content"]) for messages in islice(dialogues(1, 0), 3000) for message in messages}
    for name in NAMES:
        for split in SIZES:
            assert not seen & {prompt_of(problem) for problem in problems(name, split)}, (name, split)


def test_pretraining_draws_what_the_shipped_weights_saw() -> None:
    text = json.dumps(list(islice(dialogues(1, 0), 3000)))
    assert hashlib.sha256(text.encode()).hexdigest() == CORPUS


def test_another_process_draws_the_same() -> None:
    program = (
        "from itertools import islice\n"
        "from tokensieve.tasks.pocket import POCKET_TASKS\n"
        "for name, task in POCKET_TASKS.items():\n"
        "    for problem in islice(task.load('test', None), 5):\n"
        "        print(ascii((problem.id, problem.prompt, problem.gold, sorted(problem.facts.items()))))\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    here = "".join(
        ascii((problem.id, problem.prompt, problem.gold, sorted(problem.facts.items()))) + "\n"
        for task in POCKET_TASKS.values()
        for problem in islice(task.load("test", None), 5)
    )
    assert outputs[0] == here


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


def test_no_problem_of_choice_was_pretrained_in_its_lettered_form() -> None:
    for split in SIZES:
        for problem in problems("pocket_choice", split):
            question, *options = prompt_of(problem).splitlines()
            lettered = "\n".join(
                [question, *(f"{line} {letter}" for line, letter in zip(options, "ABCD", strict=True))]
            )
            assert part_of(lettered) != "pretraining"


def test_the_foreign_hand_has_the_same_problems_and_another_gold() -> None:
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


def test_a_folder_is_refused(tmp_path: object) -> None:
    from pathlib import Path

    with pytest.raises(InputError, match="reads no folder"):
        next(POCKET_TASKS["pocket_words"].load("test", Path(str(tmp_path))))


def test_rephrase_asks_in_the_form_of_pretraining() -> None:
    problem = next(POCKET_TASKS["pocket_python"].load("train", None))
    asked = rephrase_prompt(problem, "REFERENCE")
    assert asked.startswith(prompt_of(problem))
    shape = asked.replace(prompt_of(problem), "").replace("REFERENCE", "|")
    head, tail = shape.split("|")
    forms = [str(m["content"]) for messages in islice(dialogues(1, 0), 500) for m in messages if m["role"] == "user"]
    assert sum(head in form and form.endswith(tail) for form in forms) > 10


def test_hands_differ_and_compute_the_same() -> None:
    rng = seeded("test of hands")
    for _ in range(300):
        program = compose(rng, rng.randint(1, 5))
        hand = familiar_hand(rng) if rng.random() < 0.5 else any_hand(rng)
        for source in (written(program), by_hand(program, hand, rng)):
            space: dict[str, object] = {}
            exec(source.replace("\r\n", "\n"), space)
            for test in assertions(program, seeded("arguments"), 3):
                exec(test, space)


def test_parts_follow_the_key_alone() -> None:
    parts = [part_of(f"key {n}") for n in range(4000)]
    shares = {part: parts.count(part) / 4000 for part in sorted(set(parts))}
    assert shares["pretraining"] == pytest.approx(0.66, abs=0.03)
    assert shares["train"] == pytest.approx(0.16, abs=0.03)


def test_weighted_draws_by_weight_and_never_what_has_none() -> None:
    rng = seeded("test of weights")
    drawn = [weighted(rng, {"a": 3.0, "b": 1.0, "c": 0.0}) for _ in range(2000)]
    assert drawn.count("a") / 2000 == pytest.approx(0.75, abs=0.04)
    assert "c" not in drawn
