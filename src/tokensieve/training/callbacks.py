"""Callbacks of a training run: progress, checkpoints by the clock, a stop where it diverges, a pull to the start."""

import time

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tokensieve.config import TrainSettings
from tokensieve.errors import CheckFailed
from tokensieve.types import Progress


class Watch(TrainerCallback):  # type: ignore[misc]
    """Reports progress, asks for a checkpoint every few minutes, and stops a run that has diverged."""

    def __init__(self, settings: TrainSettings, progress: Progress | None) -> None:
        self._every_s = 60 * settings.machine.checkpoint_minutes
        self._progress = progress
        self._saved_at = time.monotonic()

    def on_step_end(
        self, _args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Tell the step, and save where it is time."""
        if self._progress is not None:
            self._progress(state.global_step, state.max_steps)
        if time.monotonic() - self._saved_at >= self._every_s and state.global_step < state.max_steps:
            control.should_save = True
            self._saved_at = time.monotonic()
        return control

    def on_log(
        self, _args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Check the loss.

        Raises:
            CheckFailed: it is NaN.
        """
        loss = state.log_history[-1].get("loss", 0.0)
        if loss != loss:  # NaN
            raise CheckFailed("the loss is NaN", where=f"step {state.global_step}", fix="lower train.learning_rate")
        return control


class PullToStart(TrainerCallback):  # type: ignore[misc]
    """Adds ``factor * (weight - start)`` to the gradient of every trained weight (L2-SP, arXiv 1802.01483)."""

    def __init__(self, model: torch.nn.Module, factor: float) -> None:
        self._factor = factor
        # Taken before a checkpoint is read, so that a resumed run has the start of an undisturbed one.
        self._start = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}

    def on_pre_optimizer_step(
        self, _args: TrainingArguments, _state: TrainerState, control: TrainerControl, **kwargs: torch.nn.Module
    ) -> TrainerControl:
        """Add the pull, after the gradient was clipped."""
        for name, parameter in kwargs["model"].named_parameters():
            if parameter.grad is not None:
                start = self._start[name.removeprefix("module.")].to(parameter.device)
                parameter.grad.add_(parameter.detach() - start, alpha=self._factor)
        return control
