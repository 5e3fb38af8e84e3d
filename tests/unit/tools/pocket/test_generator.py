"""Pocket's generator: the shipped problems, the corpus of the shipped weights, disjoint splits."""

import gzip
import hashlib
import json
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import pytest
from tools.pocket import problems as program
from tools.pocket.generator import splits
from tools.pocket.generator.code_styles import any_style, familiar_style, write_in_style
from tools.pocket.generator.corpus import dialogues
from tools.pocket.generator.programs import assertions, compose, reference_code
from tools.pocket.generator.seeding import Part, part_of, seeded, weighted

from tokensieve.tasks.benchmark_io import read_rows
from tokensieve.tasks.pocket import POCKET_TASKS, PROBLEMS, SPLITS, rephrase_prompt
from tokensieve.types import Problem

CORPUS = "ee7b1fd4ebacea48e624574b399a4f35b2890ed39b499cf7b2c8f50c33bf1a0c"
"""SHA-256 of the first 3,000 pretraining dialogues: the shipped weights were made from these."""
SAMPLE = 40
"""Problems of each split that are generated again."""


def shipped(task: str, split: str) -> list[dict[str, object]]:
    return [dict(row.fields) for row in read_rows(PROBLEMS / task / f"{split}.jsonl.gz")]


@pytest.mark.parametrize("task", list(POCKET_TASKS))
@pytest.mark.parametrize("split", list(splits.SIZES))
def test_shipped_problems_are_those_of_the_generator(task: str, split: Part) -> None:
    rows = shipped(task, split)
    assert len(rows) == splits.SIZES[split]
    made = [asdict(problem) for problem in splits.generate(task, split, SAMPLE)]
    assert rows[:SAMPLE] == made


@pytest.mark.parametrize("task", list(POCKET_TASKS))
def test_shipped_keys_are_unique_across_splits_and_outside_pretraining(task: str) -> None:
    keys = [(split, str(row["key"])) for split in SPLITS for row in shipped(task, split)]
    assert len({key for _, key in keys}) == len(keys)
    assert all(part_of(key) == split for split, key in keys)


def test_larger_splits_extend_the_shipped_ones_and_are_read_by_the_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "TASK_DRAWS", {"pocket_words": splits.TASK_DRAWS["pocket_words"]})
    program.main(["--out", str(tmp_path), "--train", "450", "--validation", "2", "--test", "3"])
    made = list(POCKET_TASKS["pocket_words"].load("train", tmp_path))
    assert len(made) == 450
    assert made[:400] == list(POCKET_TASKS["pocket_words"].load("train", None))
    assert len(list(POCKET_TASKS["pocket_words"].load("test", tmp_path / "pocket_words"))) == 3


def test_writing_twice_gives_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "TASK_DRAWS", {"pocket_choice": splits.TASK_DRAWS["pocket_choice"]})
    for name in ("one", "two"):
        program.write_problems(tmp_path / name, dict(splits.SIZES))
    for split in SPLITS:
        one, two = ((tmp_path / name / "pocket_choice" / f"{split}.jsonl.gz").read_bytes() for name in ("one", "two"))
        assert one == two
        assert gzip.decompress(one) == gzip.decompress((PROBLEMS / "pocket_choice" / f"{split}.jsonl.gz").read_bytes())


def test_pretraining_shares_no_prompt_with_any_split() -> None:
    seen = {str(message["content"]) for messages in islice(dialogues(1, 0), 3000) for message in messages}
    for task in POCKET_TASKS:
        for split in SPLITS:
            assert not seen & {str(row["prompt"]) for row in shipped(task, split)}, (task, split)


def test_pretraining_draws_what_the_shipped_weights_saw() -> None:
    text = json.dumps(list(islice(dialogues(1, 0), 3000)))
    assert hashlib.sha256(text.encode()).hexdigest() == CORPUS


def test_no_problem_of_choice_was_pretrained_in_its_lettered_form() -> None:
    for split in SPLITS:
        for row in shipped("pocket_choice", split):
            question, *options = str(row["prompt"]).splitlines()
            lettered = "\n".join(
                [question, *(f"{line} {letter}" for line, letter in zip(options, "ABCD", strict=True))]
            )
            assert part_of(lettered) != "pretraining"


def test_rephrase_prompts_have_the_form_of_pretraining() -> None:
    problem: Problem = next(POCKET_TASKS["pocket_python"].load("train", None))
    prompt = str(problem.prompt[-1]["content"])
    asked = rephrase_prompt(problem, "REFERENCE")
    assert asked.startswith(prompt)
    head, tail = asked.removeprefix(prompt).split("REFERENCE")
    forms = [str(m["content"]) for messages in islice(dialogues(1, 0), 500) for m in messages if m["role"] == "user"]
    assert sum(head in form and form.endswith(tail) for form in forms) > 10


def test_code_styles_differ_and_compute_the_same() -> None:
    rng = seeded("test of hands")
    for _ in range(300):
        made = compose(rng, rng.randint(1, 5))
        style = familiar_style(rng) if rng.random() < 0.5 else any_style(rng)
        for source in (reference_code(made), write_in_style(made, style, rng)):
            space: dict[str, object] = {}
            exec(source.replace("\r\n", "\n"), space)
            for test in assertions(made, seeded("arguments"), 3):
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
