"""Callbacks of the Hugging Face Trainer: drift with a budget, progress, checkpoints, weights that stay, a pull back.

``DriftCallback`` is for any trainer; the others are for our own runs.
"""

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tokensieve.config import TrainSettings
from tokensieve.errors import CheckFailed, InputError
from tokensieve.metrics import mean_per_token
from tokensieve.models import load_model
from tokensieve.training.adapter import save_weights, whole_weights
from tokensieve.training.kl import kl_to_base
from tokensieve.types import Anchor, FloatArray, Progress, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer

    from tokensieve.models import LoadedModel, ModelLike


@dataclass(frozen=True, slots=True, eq=False)
class _Start:
    """The start's distributions at a row's response tokens, and the nll of those tokens [N] in nats."""

    row: Anchor
    nll_N: FloatArray


class DriftCallback(TrainerCallback):  # type: ignore[misc]
    """Logs the drift from the start, in nats per token, every few steps of any Hugging Face Trainer.

    ``drift_kl`` is forward KL(start || model) over all rows, ``drift_kl_low`` and ``drift_kl_high`` are the ends of its
    95 % interval (bootstrap over rows), ``drift_nll_change`` is the mean nll of the same tokens minus that under the
    start. Of rows in several sets each has the same four, with its name behind them: ``drift_kl_answers``.

    The start is the model when training begins, or the model with its adapter off where it is a PEFT model; a run of
    all weights that goes on from a checkpoint needs it by name. Its top-k distributions on the rows are computed once,
    so no second model is held. With ``budget`` training stops, with the
    log and the checkpoints as at any end, once ``drift_kl`` is above it.

    Args:
        rows: token ids with responses, such as ``load("dialogues.jsonl", model)``, or several sets by name, such
            as the base's answers to prompts of the new task and its own dialogues; rows that neither anchors nor the
            training set use.
        every_steps: optimiser steps between two measurements; the last step is measured too.
        budget: nats per token at which training stops; None never stops it.
        trainer: the trainer, so that its trackers (TensorBoard, W&B, MLflow) log the drift; without it the values are
            in ``history`` and in the trainer's ``state.log_history``.
        top_k: entries kept of each distribution; the rest of the mass counts as one entry.
        start: the model before training, in any form that ``load_model`` takes; None is the model as it is when
            training begins.

    Attributes:
        history: step and drift of every measurement.

    Raises:
        InputError: rows that are no tokens, or a set without a response token; when training begins, a run of all
            weights that goes on from a checkpoint, where ``start`` is not given.
    """

    def __init__(
        self,
        rows: Iterable[Tokens] | Mapping[str, Iterable[Tokens]],
        *,
        every_steps: int = 50,
        budget: float | None = None,
        trainer: "Trainer | None" = None,
        top_k: int = 256,
        start: "ModelLike | None" = None,
    ) -> None:
        named = rows if isinstance(rows, Mapping) else {"": rows}
        self._sets = {name: _with_responses(listed) for name, listed in named.items()}
        if not self._sets:
            raise InputError("expected rows to measure drift on, got none")
        self._every_steps = every_steps
        self._budget = budget
        self._trainer = trainer
        self._top_k = top_k
        self._model_at_start = start
        self._start: dict[str, list[_Start]] = {}
        self.history: list[tuple[int, float]] = []

    def on_train_begin(
        self, _args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: "PreTrainedModel"
    ) -> TrainerControl:
        """Compute the distributions of the start, once."""
        if not self._start:
            model = self._model_of_start(kwargs["model"], state)
            self._start = {name: _starts(model, rows, self._top_k) for name, rows in self._sets.items()}
        return control

    def _model_of_start(self, model: "PreTrainedModel", state: TrainerState) -> "PreTrainedModel":
        if self._model_at_start is not None:
            return load_model(self._model_at_start).model.to(model.device)
        if state.global_step and not hasattr(model, "disable_adapter"):
            raise InputError(
                f"training goes on from step {state.global_step}, whose weights are not the start that drift is "
                "measured from",
                where="DriftCallback",
                fix="DriftCallback(rows, start=MODEL_BEFORE_TRAINING)",
            )
        return model

    def on_step_end(
        self, _args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: "PreTrainedModel"
    ) -> TrainerControl:
        """Measure, log, and stop above the budget."""
        if state.global_step % self._every_steps and state.global_step != state.max_steps:
            return control
        found = {name: _row_sums(kwargs["model"], start) for name, start in self._start.items()}
        logged = _figures(np.concatenate(list(found.values()), axis=1), "")
        for name, sums_3R in found.items():
            logged |= _figures(sums_3R, f"_{name}") if name else {}
        drift = logged["drift_kl"]
        self.history.append((state.global_step, drift))
        if self._trainer is not None:
            self._trainer.log(logged)
        else:
            state.log_history.append({**logged, "step": state.global_step})
        if self._budget is not None and drift > self._budget:
            control.should_training_stop = True
        return control


def _with_responses(rows: Iterable[Tokens]) -> list[Tokens]:
    listed = list(rows)
    if wrong := [row for row in listed if not isinstance(row, Tokens)]:
        raise InputError(f"expected tokens, got {type(wrong[0]).__name__}", fix="tokensieve.load(DATA, MODEL)")
    kept = [row for row in listed if row.in_response_T[1:].any()]
    if not kept:
        raise InputError("drift is measured on response tokens, and no row has any")
    return kept


def _figures(sums_3R: NDArray[np.float64], name: str) -> dict[str, float]:
    """KL with the ends of its interval and the change of nll, in nats per token, by the key in the log."""
    kl = mean_per_token(sums_3R[0], sums_3R[2])
    change = mean_per_token(sums_3R[1], sums_3R[2])
    values = {"kl": kl.value, "kl_low": kl.low, "kl_high": kl.high, "nll_change": change.value}
    return {f"drift_{key}{name}": math.nan if value is None else value for key, value in values.items()}


def _starts(model: "PreTrainedModel", rows: Sequence[Tokens], top_k: int) -> list[_Start]:
    """Top-k distributions of the model with any adapter off."""
    made: list[_Start] = []
    with model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext():
        for row, logits_NV in _response_logits(model, rows):
            log_p_NV = logits_NV.log_softmax(-1)
            top = log_p_NV.topk(min(top_k, logits_NV.shape[1]), dim=-1)
            anchor = Anchor(row, top.indices.cpu().numpy().astype(np.int32), top.values.cpu().numpy())
            made.append(_Start(anchor, _nll_N(log_p_NV, row)))
    return made


def _row_sums(model: "PreTrainedModel", start: Sequence[_Start]) -> NDArray[np.float64]:
    """Of each row its summed KL(start || model), its summed change of nll in nats, and its response tokens: [3, R]."""
    sums_3R = np.zeros((3, len(start)))
    logits = _response_logits(model, [one.row.tokens for one in start])
    for place, (one, (row, logits_NV)) in enumerate(zip(start, logits, strict=True)):
        top_ids_NK = torch.from_numpy(one.row.top_ids_NK.astype(np.int64)).to(logits_NV.device)
        top_log_p_NK = torch.from_numpy(one.row.top_log_p_NK).to(logits_NV.device)
        kl = float(kl_to_base(logits_NV, top_ids_NK, top_log_p_NK).sum())
        change = float((_nll_N(logits_NV.log_softmax(-1), row) - one.nll_N).sum(dtype=np.float64))
        sums_3R[:, place] = kl, change, len(logits_NV)
    return sums_3R


def _nll_N(log_p_NV: torch.Tensor, row: Tokens) -> FloatArray:
    """Nll of the row's response tokens."""
    targets_N = torch.from_numpy(row.ids_T[1:][row.in_response_T[1:]].astype(np.int64)).to(log_p_NV.device)
    nll_N: FloatArray = -log_p_NV.gather(1, targets_N[:, None])[:, 0].cpu().numpy()
    return nll_N


def _response_logits(model: "PreTrainedModel", rows: Sequence[Tokens]) -> Iterator[tuple[Tokens, torch.Tensor]]:
    """Each row with the float32 logits [N, V] that predict its response tokens; one row in a forward pass.

    The model is in evaluation mode meanwhile, so that dropout changes nothing.
    """
    training = model.training
    model.eval()
    try:
        for row in rows:
            ids_1T = torch.from_numpy(row.ids_T.astype(np.int64))[None].to(model.device)
            places_N = np.flatnonzero(row.in_response_T[1:])  # outputs that predict the next token
            first = int(places_N[0])
            with torch.no_grad():
                logits_TV = model(input_ids=ids_1T, use_cache=False, logits_to_keep=len(row) - first).logits[0]
            yield row, logits_TV[torch.from_numpy(places_N - first).to(logits_TV.device)].float()
    finally:
        model.train(training)


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


class KeepWeights(TrainerCallback):  # type: ignore[misc]
    """Writes the weights at even distances along a run, each into a folder of its own.

    Args:
        trainer: holds the model.
        loaded: the model before training.
        folder: of the folders ``step-N``.
        count: how many; fewer where there are fewer steps. The end of the run is none of them.
    """

    def __init__(self, trainer: "Trainer", loaded: "LoadedModel", folder: Path, count: int) -> None:
        self._trainer, self._loaded, self._folder, self._count = trainer, loaded, folder, count

    def on_step_end(
        self, _args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Write the weights where it is time; of several processes the first one does, after all have given theirs."""
        parts = self._count + 1
        due = {state.max_steps * part // parts for part in range(1, parts)}
        if state.global_step in due:
            weights = whole_weights(self._trainer)
            if state.is_world_process_zero:
                save_weights(self._trainer, self._loaded, self._folder / f"step-{state.global_step}", weights)
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
