"""The drift that a trainer logs is that of the finished model, a budget stops the run; callbacks of our own runs."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tests.selected_rows import make_rows
from transformers import (
    AutoModelForCausalLM,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from tokensieve.config import MachineSettings, ModelSettings, TrainSettings
from tokensieve.drift import row_divergences
from tokensieve.errors import CheckFailed, InputError
from tokensieve.models import load_model
from tokensieve.training.callbacks import DriftCallback, PullToStart, Watch
from tokensieve.types import Tokens


def rows() -> list[Tokens]:
    return [row.tokens for row in make_rows(seed=5, n=4)]


def run(folder: Path, out: Path, *, lora: bool, budget: float | None = None) -> tuple[Trainer, DriftCallback]:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(folder)
    if lora:
        model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    data = [
        {"input_ids": row.tokens.ids_T.tolist(), "labels": np.where(row.train_T, row.tokens.ids_T, -100).tolist()}
        for row in make_rows()
    ]
    arguments = TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=4,
        num_train_epochs=4,
        learning_rate=5e-3,
        report_to="none",
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
    )
    tokenizer = load_model(str(folder)).tokenizer
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(data),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )
    sets = {"first": rows()[:2], "last": rows()[2:]}
    callback = DriftCallback(sets, every_steps=3, budget=budget, trainer=trainer, top_k=320)
    trainer.add_callback(callback)
    trainer.train()
    return trainer, callback


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_the_last_value_is_the_exact_kl_of_the_trained_model(tiny_folder: Path, tmp_path: Path, lora: bool) -> None:
    trainer, callback = run(tiny_folder, tmp_path / "run", lora=lora)
    assert [step for step, _ in callback.history] == [3, 6, 8]
    trainer.save_model(str(tmp_path / "tuned"))
    load_model(str(tiny_folder)).tokenizer.save_pretrained(str(tmp_path / "tuned"))
    base = ModelSettings(model=str(tiny_folder))
    where = {"adapter": str(tmp_path / "tuned")} if lora else {"model": str(tmp_path / "tuned")}
    found = row_divergences(rows(), base, base.model_copy(update=where))
    exact = float(np.concatenate([one.kl_N for one in found]).mean())
    assert exact > 0.001
    assert callback.history[-1][1] == pytest.approx(exact, rel=1e-3, abs=1e-5)
    logged = [entry for entry in trainer.state.log_history if "drift_kl" in entry]
    assert [entry["drift_kl"] for entry in logged] == [drift for _, drift in callback.history]
    assert logged[-1]["drift_kl_low"] <= exact <= logged[-1]["drift_kl_high"]
    change = np.concatenate([one.tuned_nll_N - one.base_nll_N for one in found]).mean()
    assert logged[-1]["drift_nll_change"] == pytest.approx(float(change), rel=1e-3, abs=1e-5)
    for name, part in (("first", found[:2]), ("last", found[2:])):
        exact = float(np.concatenate([one.kl_N for one in part]).mean())
        assert logged[-1][f"drift_kl_{name}"] == pytest.approx(exact, rel=1e-3, abs=1e-5)
    assert trainer.model.training


def test_a_budget_stops_the_run(tiny_folder: Path, tmp_path: Path) -> None:
    trainer, callback = run(tiny_folder, tmp_path / "run", lora=False, budget=1e-6)
    assert trainer.state.global_step == 3
    assert len(callback.history) == 1


def test_a_run_that_goes_on_is_measured_from_the_start_that_is_named(tiny_folder: Path) -> None:
    control = TrainerControl()
    model = AutoModelForCausalLM.from_pretrained(tiny_folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.01 * torch.randn_like(parameter)
    resumed = TrainerState(global_step=3, max_steps=8)
    with pytest.raises(InputError, match="goes on from step 3"):
        DriftCallback(rows()).on_train_begin(None, resumed, control, model=model)
    callback = DriftCallback(rows(), start=str(tiny_folder), every_steps=1)
    callback.on_train_begin(None, resumed, control, model=model)
    callback.on_step_end(None, TrainerState(global_step=4, max_steps=8), control, model=model)
    (entry,) = callback.history
    assert entry[0] == 4
    assert entry[1] > 0.001


def test_rows_without_a_response_are_refused() -> None:
    row = rows()[0]
    silent = Tokens("silent", row.ids_T, np.zeros(len(row), dtype=np.bool_), np.zeros(len(row), dtype=np.bool_))
    with pytest.raises(InputError, match="no row has any"):
        DriftCallback([silent])
    with pytest.raises(InputError, match="expected tokens, got dict"):
        DriftCallback([{"prompt": "a", "completion": "b"}])  # type: ignore[list-item]


@pytest.mark.parametrize(("minutes", "step", "saves"), [(0.0, 1, True), (60.0, 1, False), (0.0, 5, False)])
def test_a_checkpoint_is_asked_for_by_the_clock_but_not_behind_the_last_step(
    minutes: float, step: int, saves: bool
) -> None:
    told: list[tuple[int, int]] = []
    watch = Watch(
        TrainSettings(machine=MachineSettings(checkpoint_minutes=minutes)),
        lambda done, total: told.append((done, total)),
    )
    control = watch.on_step_end(None, TrainerState(global_step=step, max_steps=5), TrainerControl())
    assert control.should_save is saves
    assert told == [(step, 5)]


def test_a_loss_of_nan_stops_the_run_and_other_logs_do_not() -> None:
    watch = Watch(TrainSettings(), None)
    watch.on_log(None, TrainerState(log_history=[{"eval_score": 1.0}]), TrainerControl())
    with pytest.raises(CheckFailed, match="NaN"):
        watch.on_log(None, TrainerState(log_history=[{"loss": math.nan}]), TrainerControl())


def test_the_pull_is_the_distance_from_the_start() -> None:
    model = torch.nn.Linear(2, 1, bias=False)
    pull = PullToStart(model, 0.5)
    with torch.no_grad():
        model.weight += 3.0
    model.weight.grad = torch.ones_like(model.weight)
    pull.on_pre_optimizer_step(None, TrainerState(), TrainerControl(), model=model)
    torch.testing.assert_close(model.weight.grad, torch.full((1, 2), 2.5))
