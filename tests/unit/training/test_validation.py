"""Checkpoints chosen by validation."""

import json
from pathlib import Path
from typing import cast

import pytest
from pydantic import ValidationError
from tests.killed_training import at_step, train_and_die
from tests.selected_rows import make_rows
from tests.unit.training.test_train import same, settings, weights_of

from tokensieve.config import (
    LoraSettings,
    MachineSettings,
    ModelSettings,
    ObjectiveSettings,
    TrainSettings,
    ValidationSettings,
)
from tokensieve.errors import InputError
from tokensieve.evaluation import mean_nll
from tokensieve.models import load_model
from tokensieve.pipeline import load
from tokensieve.training import Adapter, train
from tokensieve.training.validation import open_validation


@pytest.fixture
def base(tiny_folder: Path) -> ModelSettings:
    return ModelSettings(model=str(tiny_folder))


@pytest.fixture
def validation_rows(tmp_path: Path) -> Path:
    path = tmp_path / "validation.jsonl"
    turns = [
        [{"role": "user", "content": f"what is {n}?"}, {"role": "assistant", "content": f"it is {n * n}" * (n % 3 + 1)}]
        for n in range(7)
    ]
    path.write_text("".join(json.dumps({"messages": each}) + "\n" for each in turns))
    return path


def validated(rows: Path | str, **changes: object) -> TrainSettings:
    """Ten epochs at a rate at which the validation nll gets worse from some step on."""
    validation = ValidationSettings(rows=str(rows), every_steps=cast("int | None", changes.pop("every_steps", 3)))
    return settings(epochs=5, learning_rate=3e-3, objective=ObjectiveSettings(validation=validation), **changes)


def choice(adapter: Adapter) -> dict[str, object]:
    return cast("dict[str, object]", adapter.manifest.facts["checkpoint"])


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_result_is_the_checkpoint_of_the_lowest_nll(
    base: ModelSettings, validation_rows: Path, tmp_path: Path, method: str
) -> None:
    rules = validated(validation_rows, method=method, lora=LoraSettings(r=4, dropout=0.0))
    adapter = train(make_rows(), base, rules, tmp_path / "out")
    found = choice(adapter)
    scores = {one["step"]: one["score"] for one in cast("list[dict[str, float]]", found["scores"])}
    assert list(scores) == [3, 6, 9, 10]
    assert found["step"] == min(scores, key=lambda step: scores[step])
    assert found["score"] == min(scores.values())
    assert found["measure"] == f"mean nll (nats) on 7 rows of {validation_rows}"
    assert found["why"] == "the lowest of 4, the earliest of equals"
    assert adapter.checkpoint is not None
    assert adapter.checkpoint.startswith(f"weights of step {found['step']} of 10: mean nll (nats) on 7 rows of ")
    tuned = load_model(adapter.on(base))
    assert mean_nll(load(str(validation_rows), tuned), tuned) == pytest.approx(found["score"], rel=1e-4)
    assert len(adapter.log) == 10, "the log is of all steps"


def test_the_last_checkpoint_is_chosen_where_it_is_the_best_and_epochs_are_the_default(
    base: ModelSettings, validation_rows: Path, tmp_path: Path
) -> None:
    rules = validated(validation_rows, every_steps=None).model_copy(update={"learning_rate": 1e-5})
    adapter = train(make_rows(), base, rules, tmp_path / "out")
    plain = rules.model_copy(update={"objective": ObjectiveSettings()})
    without = train(make_rows(), base, plain, tmp_path / "without")
    steps = [one["step"] for one in cast("list[dict[str, int]]", choice(adapter)["scores"])]
    assert steps == [2, 4, 6, 8, 10]
    if choice(adapter)["step"] == 10:
        assert same(weights_of(adapter, base), weights_of(without, base), 0)
    assert [step.loss for step in adapter.log] == [step.loss for step in without.log], "validation disturbs nothing"


def test_a_killed_run_chooses_as_an_undisturbed_one(base: ModelSettings, validation_rows: Path, tmp_path: Path) -> None:
    rules = validated(validation_rows, every_steps=1, machine=MachineSettings(checkpoint_minutes=0.0))
    undisturbed = train(make_rows(), base, rules, tmp_path / "whole")
    train_and_die(base, rules, tmp_path / "out", at_step(7))
    steps: list[int] = []
    resumed = train(make_rows(), base, rules, tmp_path / "out", lambda done, _: steps.append(done))
    assert steps[0] == 7
    assert choice(resumed) == choice(undisturbed)
    assert same(weights_of(undisturbed, base), weights_of(resumed, base), 0)


def test_accuracy_on_a_task_decides(tmp_path: Path) -> None:
    from tokensieve.pipeline import select
    from tokensieve.scoring import score

    rows = select(score(load("task:pocket_words/train", "pocket", {"limit": 4}), "pocket"), "plain")
    validation = ValidationSettings(task="pocket_words", limit=4)
    rules = settings(epochs=2, learning_rate=1e-6, objective=ObjectiveSettings(validation=validation))
    found = choice(train(rows, "pocket", rules, tmp_path / "out"))
    assert found["measure"] == "accuracy on 4 validation problems of pocket_words"
    assert found["why"] == "the highest of 2, the earliest of equals"
    scores = cast("list[dict[str, float]]", found["scores"])
    assert all(one["score"] in (0, 0.25, 0.5, 0.75, 1) for one in scores)
    assert found["step"] == (1 if scores[0]["score"] >= scores[1]["score"] else 2)


def test_two_measures_or_data_without_responses_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        ValidationSettings(rows="a", task="b")
    loaded = load_model(str(tiny_folder))
    assert open_validation(loaded, ValidationSettings()) is None
    with pytest.raises(InputError):
        open_validation(loaded, ValidationSettings(rows=str(tmp_path / "nothing.jsonl")))
