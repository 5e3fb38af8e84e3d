"""Validation while training, by which a checkpoint is chosen: nll on given rows, or accuracy on a task's problems."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from accelerate import Accelerator
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from tokensieve.config import DataSettings, SampleSettings, TrainSettings, ValidationSettings
from tokensieve.data.manifest import digest_of
from tokensieve.errors import CheckFailed, InputError
from tokensieve.models import LoadedModel
from tokensieve.pipeline import load
from tokensieve.pipeline.rows import tell_unread
from tokensieve.sampling import LocalSampler
from tokensieve.sampling.grading import judge_samples, load_problems, problems_digest, requests_of
from tokensieve.sampling.loglikelihood import choose_by_likelihood
from tokensieve.tasks import Task, get_task
from tokensieve.training.losses import parse_loss
from tokensieve.training.token_head import token_losses
from tokensieve.types import IGNORE_INDEX, JSON, Outcome, Problem, Tokens

if TYPE_CHECKING:
    from transformers import Trainer

SCORE: Final = "eval_score"
"""Name of the score in the trainer's log."""


@dataclass(frozen=True, slots=True)
class Validation:
    """Validation data of a model in training.

    Attributes:
        settings: as they were given.
        rows: rows whose response tokens' mean nll is the score, sorted by length; empty where a task decides.
        task: the task whose accuracy is the score; None where rows decide.
        problems: its problems.
        digest: of the rows or problems, 64 hex digits.
    """

    settings: ValidationSettings
    rows: tuple[Tokens, ...]
    task: Task | None
    problems: tuple[Problem, ...]
    digest: str

    @property
    def measure(self) -> str:
        """The score in words."""
        if self.task is not None:
            return f"accuracy on {len(self.problems):,} validation problems of {self.settings.task}"
        return f"mean nll (nats) on {len(self.rows):,} rows of {self.settings.rows}"

    @property
    def greater_is_better(self) -> bool:
        """True for accuracy."""
        return self.task is not None


def open_validation(loaded: LoadedModel, settings: ValidationSettings) -> Validation | None:
    """Read the validation data; None where the settings name none.

    Raises:
        InputError: no such data, or data without a response token; a task that has no accuracy.
    """
    if settings.task is not None:
        task = get_task(settings.task)
        if task.windows is not None:
            raise InputError(
                f"{settings.task} has no accuracy", where="train.objective.validation.task", fix="validation.rows"
            )
        problems = tuple(load_problems(task, "validation", settings.data, settings.limit))
        return Validation(settings, (), task, problems, problems_digest(problems, task.rules))
    if settings.rows is None:
        return None
    rows = load(settings.rows, loaded, DataSettings(limit=settings.limit, data=settings.data))
    tell_unread(settings.rows, rows.manifest.facts.get("noted"))
    kept = tuple(sorted((row for row in rows if row.in_response_T[1:].any()), key=len))
    if not kept:
        raise InputError("the validation rows have no response token", where=settings.rows)
    return Validation(settings, kept, None, (), digest_of([row.ids_T.tolist() for row in kept]))


def validate(
    validation: Validation,
    model: torch.nn.Module,
    loaded: LoadedModel,
    accelerator: Accelerator,
    *,
    batch: int,
    padding_id: int,
) -> float:
    """The score of a model in training: mean nll in nats over the rows' response tokens, or accuracy as a fraction.

    Every process takes its share. The model is in training mode afterwards where it was before.

    Args:
        validation: the data.
        model: the model as the trainer wraps it; its forward pass takes a ``token_head``.
        loaded: the model's tokenizer and settings.
        accelerator: adds the processes' parts up.
        batch: rows in one forward pass.
        padding_id: token id of padding.

    Raises:
        InputError: accuracy with weights that are spread over several devices.
    """
    training = model.training
    model.eval()
    with torch.no_grad(), torch.random.fork_rng():
        if validation.task is None:
            part = _nll_part(validation.rows, model, accelerator, batch, padding_id)
        else:
            part = _accuracy_part(validation, validation.task, model, loaded, accelerator)
    model.train(training)
    total, count = part
    if accelerator.num_processes > 1:
        total, count = accelerator.reduce(torch.tensor(part, dtype=torch.float64, device=accelerator.device)).tolist()
    return total / count


def _nll_part(
    rows: Sequence[Tokens], model: torch.nn.Module, accelerator: Accelerator, batch: int, padding_id: int
) -> tuple[float, float]:
    """Sum of nlls and number of tokens of this process' batches."""
    batches = [rows[first : first + batch] for first in range(0, len(rows), batch)]
    total = count = 0.0
    # All processes run as many passes, since sharded weights are gathered in each; a repeated batch counts nothing.
    for turn in range(-(-len(batches) // accelerator.num_processes)):
        place = turn * accelerator.num_processes + accelerator.process_index
        found = _pass(batches[min(place, len(batches) - 1)], model, accelerator.device, padding_id)
        if place < len(batches):
            total, count = total + found[0], count + found[1]
    return total, count


def _pass(rows: Sequence[Tokens], model: torch.nn.Module, device: torch.device, padding_id: int) -> tuple[float, float]:
    longest = max(len(row) for row in rows)
    ids_BT = np.full((len(rows), longest), padding_id, dtype=np.int64)
    labels_BT = np.full_like(ids_BT, IGNORE_INDEX)
    present_BT = np.zeros_like(ids_BT)
    for place, row in enumerate(rows):
        ids_BT[place, : len(row)] = row.ids_T
        labels_BT[place, : len(row)] = np.where(row.in_response_T, row.ids_T, IGNORE_INDEX)
        present_BT[place, : len(row)] = 1
    ids, labels, present = (torch.from_numpy(array).to(device) for array in (ids_BT, labels_BT, present_BT))
    head = token_losses(labels, labels.ne(IGNORE_INDEX).float(), parse_loss("nll"), None)
    found = model(input_ids=ids, attention_mask=present, token_head=head)
    return float(found.loss), float(found.divisor)


def _accuracy_part(
    validation: Validation, task: Task, model: torch.nn.Module, loaded: LoadedModel, accelerator: Accelerator
) -> tuple[float, float]:
    """Right answers and problems of this process' share."""
    if getattr(accelerator.state, "fsdp_plugin", None) is not None:
        raise InputError(
            "answers cannot be drawn from weights that are spread over several devices",
            where="train.objective.validation.task",
            fix="validation.rows task:NAME/validation, whose nll decides",
        )
    inner: PreTrainedModel = accelerator.unwrap_model(model)
    sampler = LocalSampler(replace(loaded, model=inner))
    problems = validation.problems[accelerator.process_index :: accelerator.num_processes]
    if task.likelihood_choice is not None:
        samples = choose_by_likelihood(task, task.likelihood_choice, problems, sampler, {})
    else:
        sampling = SampleSettings()
        samples = judge_samples(task, problems, sampler.draw(requests_of(task, problems, sampling), sampling))
    right = sum(sample.verdict is not None and sample.verdict.outcome is Outcome.CORRECT for sample in samples)
    return float(right), float(len(problems))


class Validate(TrainerCallback):  # type: ignore[misc]
    """Asks for a validation every N steps and after the last one, or after every epoch."""

    def __init__(self, settings: TrainSettings) -> None:
        self._every = settings.objective.validation.every_steps

    def on_step_end(
        self, _args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Validate where it is time."""
        if self._every is not None and (state.global_step % self._every == 0 or state.global_step >= state.max_steps):
            control.should_evaluate = True
        return control

    def on_epoch_end(
        self, _args: TrainingArguments, _state: TrainerState, control: TrainerControl, **_: object
    ) -> TrainerControl:
        """Validate, unless steps decide when."""
        if self._every is None:
            control.should_evaluate = True
        return control


def keep_best(trainer: "Trainer", validation: Validation) -> None:
    """Let the trainer keep the best checkpoint, which its state names in every checkpoint, and end with its weights."""
    arguments = trainer.args
    # Set behind the constructor, which would ask for a data set of the trainer's own kind.
    arguments.save_strategy = type(arguments.save_strategy)("best")
    arguments.load_best_model_at_end = True
    arguments.metric_for_best_model = SCORE
    arguments.greater_is_better = validation.greater_is_better


def choice_of(state: TrainerState, validation: Validation) -> dict[str, JSON]:
    """The chosen checkpoint for the manifest: its step and score, all scores, and why.

    Raises:
        CheckFailed: every score was NaN.
    """
    scores = {entry["step"]: entry[SCORE] for entry in state.log_history if SCORE in entry}
    best = state.best_global_step
    if best is None:
        raise CheckFailed(f"no validation gave a number: {validation.measure}", fix="lower train.learning_rate")
    order = "highest" if validation.greater_is_better else "lowest"
    return {
        "step": best,
        "score": scores[best],
        "measure": validation.measure,
        "why": f"the {order} of {len(scores)}, the earliest of equals",
        "scores": [{"step": step, "score": score} for step, score in scores.items()],
    }
