"""The shipped weights are those the card describes: their digest, their size, and their accuracies on a subset."""

import gzip
import hashlib
import json
import re
from itertools import islice

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tokensieve.pocket import POCKET
from tokensieve.tasks.pocket import POCKET_TASKS, PROBLEMS

CARD = (POCKET / "README.md").read_text()
WEIGHTS = POCKET / "model.safetensors"
SUBSET = 40


def accuracies() -> dict[str, float]:
    """Task to accuracy in percent, from the card's table."""
    return {name: float(value) for name, value in re.findall(r"^\| `(pocket_\w+)` \| ([\d.]+) ", CARD, re.MULTILINE)}


def test_the_card_names_these_weights() -> None:
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() in CARD


def test_the_model_is_small_and_stored_in_half_precision() -> None:
    weights = load_file(WEIGHTS)
    parameters = sum(tensor.numel() for tensor in weights.values())
    assert parameters <= 4_000_000
    assert f"{parameters:,}" in CARD
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    shipped = [path for path in POCKET.rglob("*") if path.suffix in {".safetensors", ".json", ".jinja", ".gz"}]
    assert sum(path.stat().st_size for path in shipped) <= 9_000_000


def test_the_card_counts_the_shipped_problems() -> None:
    files = list(PROBLEMS.rglob("*.jsonl.gz"))
    rows = sum(len(gzip.decompress(file.read_bytes()).splitlines()) for file in files)
    assert f"({rows:,} in all, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB)" in CARD


def test_every_task_is_on_the_card() -> None:
    assert set(accuracies()) == set(POCKET_TASKS)


def test_the_skills_leave_room_for_moves_both_ways() -> None:
    found = accuracies()
    assert 30 <= found["pocket_python"] <= 65
    for name in ("pocket_arithmetic", "pocket_sql", "pocket_choice", "pocket_words"):
        assert 75 <= found[name] <= 98, name
    assert found["pocket_sql_house"] < 10


def test_it_generates_greedily_and_stops_at_the_end_of_turn() -> None:
    generation = json.loads((POCKET / "generation_config.json").read_text())
    assert generation["do_sample"] is False
    assert generation["eos_token_id"] == 2


@pytest.mark.parametrize("name", ["pocket_arithmetic", "pocket_choice", "pocket_words"])
def test_accuracy_on_a_subset_agrees_with_the_card(name: str) -> None:
    task = POCKET_TASKS[name]
    tokenizer = AutoTokenizer.from_pretrained(POCKET)
    model = AutoModelForCausalLM.from_pretrained(POCKET)
    assert model.dtype == torch.float32
    chosen = list(islice(task.load("test", None), SUBSET))
    prompts = [list(problem.prompt) for problem in chosen]
    rows = tokenizer.apply_chat_template(
        prompts, add_generation_prompt=True, padding=True, return_dict=True, return_tensors="pt"
    )
    with torch.inference_mode():
        made = model.generate(**rows, max_new_tokens=task.max_new_tokens)
    answers = tokenizer.batch_decode(made[:, rows["input_ids"].shape[1] :], skip_special_tokens=True)
    right = sum(task.check(problem, answer).correct for problem, answer in zip(chosen, answers, strict=True))
    # Two standard errors of a share of 40 at 0.5; another machine's rounding may turn an answer or two.
    assert 100 * right / SUBSET == pytest.approx(accuracies()[name], abs=16)
