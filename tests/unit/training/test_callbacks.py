"""Callbacks of a training run."""

import math

import pytest
import torch
from transformers import TrainerControl, TrainerState

from tokensieve.config import MachineSettings, TrainSettings
from tokensieve.errors import CheckFailed
from tokensieve.training.callbacks import PullToStart, Watch


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
