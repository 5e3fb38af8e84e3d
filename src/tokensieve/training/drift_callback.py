"""Drift while training: a callback for the Hugging Face Trainer that logs KL to the start and can stop at a budget."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tokensieve.errors import InputError
from tokensieve.training.kl import kl_to_base
from tokensieve.types import Anchor, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, Trainer


class DriftCallback(TrainerCallback):  # type: ignore[misc]
    """Logs ``drift_kl``, forward KL(start || model) in nats per token, every few steps of any Hugging Face Trainer.

    The start is the model when training begins, or the model with its adapter off where it is a PEFT model. Its top-k
    distributions on the rows are computed once, so no second model is held. With ``budget`` training stops, with the
    log and the checkpoints as at any end, once the drift is above it.

    Args:
        rows: token ids with responses, such as ``load("dialogues.jsonl", model)``; rows that anchors or the training
            set do not use.
        every_steps: optimiser steps between two measurements; the last step is measured too.
        budget: nats per token at which training stops; None never stops it.
        trainer: the trainer, so that its trackers (TensorBoard, W&B, MLflow) log the drift; without it the values are
            in ``history`` and in the trainer's ``state.log_history``.
        top_k: entries kept of each distribution; the rest of the mass counts as one entry.

    Attributes:
        history: step and drift of every measurement.

    Raises:
        InputError: rows that are no tokens, or none with a response token.
    """

    def __init__(
        self,
        rows: Iterable[Tokens],
        *,
        every_steps: int = 50,
        budget: float | None = None,
        trainer: "Trainer | None" = None,
        top_k: int = 64,
    ) -> None:
        listed = list(rows)
        if wrong := [row for row in listed if not isinstance(row, Tokens)]:
            raise InputError(f"expected tokens, got {type(wrong[0]).__name__}", fix="tokensieve.load(DATA, MODEL)")
        self._rows = [row for row in listed if row.in_response_T[1:].any()]
        if not self._rows:
            raise InputError("drift is measured on response tokens, and no row has any")
        self._every_steps = every_steps
        self._budget = budget
        self._trainer = trainer
        self._top_k = top_k
        self._start: list[Anchor] = []
        self.history: list[tuple[int, float]] = []

    def on_train_begin(
        self, _args: TrainingArguments, _state: TrainerState, control: TrainerControl, **kwargs: "PreTrainedModel"
    ) -> TrainerControl:
        """Compute the distributions of the start, once."""
        if not self._start:
            self._start = _distributions(kwargs["model"], self._rows, self._top_k)
        return control

    def on_step_end(
        self, _args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: "PreTrainedModel"
    ) -> TrainerControl:
        """Measure, log, and stop above the budget."""
        if state.global_step % self._every_steps and state.global_step != state.max_steps:
            return control
        drift = _drift(kwargs["model"], self._start)
        self.history.append((state.global_step, drift))
        if self._trainer is not None:
            self._trainer.log({"drift_kl": drift})
        else:
            state.log_history.append({"drift_kl": drift, "step": state.global_step})
        if self._budget is not None and drift > self._budget:
            control.should_training_stop = True
        return control


def _distributions(model: "PreTrainedModel", rows: Sequence[Tokens], top_k: int) -> list[Anchor]:
    """Top-k distributions of the model with any adapter off."""
    made: list[Anchor] = []
    with model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext():
        for row, logits_NV in _response_logits(model, rows):
            top = logits_NV.log_softmax(-1).topk(min(top_k, logits_NV.shape[1]), dim=-1)
            made.append(Anchor(row, top.indices.cpu().numpy().astype(np.int32), top.values.cpu().numpy()))
    return made


def _drift(model: "PreTrainedModel", start: Sequence[Anchor]) -> float:
    """Mean KL(start || model) per response token in nats."""
    total, tokens = 0.0, 0
    logits = _response_logits(model, [anchor.tokens for anchor in start])
    for anchor, (_, logits_NV) in zip(start, logits, strict=True):
        top_ids_NK = torch.from_numpy(anchor.top_ids_NK.astype(np.int64)).to(logits_NV.device)
        top_log_p_NK = torch.from_numpy(anchor.top_log_p_NK).to(logits_NV.device)
        total += float(kl_to_base(logits_NV, top_ids_NK, top_log_p_NK).sum())
        tokens += len(logits_NV)
    return total / tokens


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
