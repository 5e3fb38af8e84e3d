"""TRL's SFTTrainer with our loss weights, our log and our checkpoints; the only module that imports TRL to train."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch
from datasets import Dataset
from peft import PeftModel
from transformers import PreTrainedModel, TrainerControl
from transformers.trainer_callback import PrinterCallback
from trl import SFTTrainer
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from tokensieve.config import TrainSettings
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel
from tokensieve.training.anchor_choice import Refresh, open_refresh
from tokensieve.training.arguments import arguments_of, check_batch, trainable
from tokensieve.training.callbacks import PullToStart, Watch
from tokensieve.training.dataset import TrainingSet, check_rows_survived, rows_of
from tokensieve.training.kl import KlTerm
from tokensieve.training.losses import LOSSES, BoundLoss, parse_loss
from tokensieve.training.token_head import add_token_head, states_at, token_losses
from tokensieve.training.validation import Validate, Validation, keep_best, validate
from tokensieve.types import IGNORE_INDEX, Anchor, Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


TensorBatch: TypeAlias = dict[str, torch.Tensor]


def make_trainer(
    loaded: LoadedModel,
    data: TrainingSet,
    settings: TrainSettings,
    work: Path,
    progress: Progress | None,
    anchors: Sequence[Anchor] = (),
    validation: Validation | None = None,
) -> "SelectedTokensTrainer":
    """A trainer that is ready to start.

    Args:
        loaded: the model; it is changed by training.
        data: the rows.
        settings: how to train.
        work: folder for checkpoints.
        progress: told of every step.
        anchors: rows on which the model is held to the base; empty trains without.
        validation: data by which the best checkpoint is chosen; None keeps the last.

    Raises:
        InputError: sizes that do not divide, or weights together with packing.
        EnvironmentProblem: several GPUs without a launcher, or an optimiser that is not installed.
        CheckFailed: the trainer's data set is not the rows that were given to it.
    """
    if data.weighted and settings.machine.packing:
        raise InputError(
            "soft weights cannot be trained with packing", where="train.machine.packing", fix="packing: false"
        )
    bound = parse_loss(settings.objective.loss)
    check_batch(bound, settings)
    model, lora = trainable(loaded, settings)
    # A frozen copy is the base of a model whose own weights change; that of an adapter is the model with it off.
    frozen = copy.deepcopy(model).requires_grad_(False) if bound.loss.needs_base and settings.method == "full" else None
    for one in (model, frozen):
        if one is not None:
            add_token_head(one.get_base_model() if isinstance(one, PeftModel) else one)
    dataset = Dataset.from_file(str(data.path), in_memory=False)
    tokenizer = _padded(loaded.tokenizer)
    collator = _WeightedCollator(int(tokenizer.pad_token_id)) if data.weighted else None
    trainer = SelectedTokensTrainer(
        model=model,
        args=arguments_of(loaded, data, settings, work),
        data_collator=collator,
        train_dataset=dataset,
        processing_class=tokenizer,
        peft_config=lora,
        callbacks=[Watch(settings, progress)],
    )
    trainer.remove_callback(PrinterCallback)
    check_rows_survived(trainer.train_dataset, data)
    trainer.token_loss, trainer.frozen_base = bound, frozen
    if settings.objective.l2_to_start:
        trainer.add_callback(PullToStart(trainer.model, settings.objective.l2_to_start))
    if validation is not None:
        trainer.validation, trainer.loaded = validation, loaded
        trainer.add_callback(Validate(settings))
        keep_best(trainer, validation)
    kl, padding = settings.objective.kl, int(tokenizer.pad_token_id)
    if anchors:
        trainer.kl_term = KlTerm(
            anchors,
            kl,
            rows=settings.batch_size,
            seed=settings.seed,
            padding_id=padding,
            process=trainer.accelerator.process_index,
            processes=trainer.accelerator.num_processes,
        )
    if anchors and kl.anchors is not None:
        micro = trainer.args.per_device_train_batch_size
        trainer.anchor_refresh = open_refresh(kl.anchors, kl, rows=micro, padding_id=padding)
    return trainer


class SelectedTokensTrainer(SFTTrainer):  # type: ignore[misc]
    """SFTTrainer that can weight tokens and counts what its data loader really yields.

    The loss is the mean nll over the trained tokens of the global batch, on which alone the LM head runs. With weights
    it is the weighted mean, ``sum(w * nll) / sum(w)``, so that weights of 0 and 1 give what a hard selection gives.
    Another of ``LOSSES`` puts its own weight on each token, or adds a KL, over the same denominator. TRL's own loss is
    left to models with a router, whose balance it trains too.
    """

    _rows = 0
    _trained_tokens = 0
    token_loss = BoundLoss(LOSSES["nll"], 0.0)
    frozen_base: PreTrainedModel | None = None
    """The base, where the loss needs it and all weights are trained."""
    kl_term: KlTerm | None = None
    """KL to the base on anchors; None trains without."""
    anchor_refresh: Refresh | None = None
    """A second choice of anchors that is still to come; None keeps those that there are."""
    validation: Validation | None = None
    """Data by which the best checkpoint is chosen; None keeps the last."""
    control: TrainerControl
    loaded: LoadedModel | None = None
    """The model's tokenizer and settings, for validation."""

    def get_batch_samples(
        self, epoch_iterator: Iterator[TensorBatch], num_batches: int, device: torch.device
    ) -> tuple[list[TensorBatch], torch.Tensor | int | None]:
        """The micro-batches of one optimiser step, and what their summed loss is divided by."""
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._rows = sum(rows_of(batch) for batch in batches)
        self._trained_tokens = sum(int(batch["labels"][..., 1:].ne(IGNORE_INDEX).sum()) for batch in batches)
        if self.kl_term is not None:
            self._refresh_anchors()
            # From the log, which a checkpoint keeps, so that a resumed run has the weight of an undisturbed one.
            steps = ((e["kl_weight"], e["anchor_kl"]) for e in reversed(self.state.log_history) if "kl_weight" in e)
            self.kl_term.begin(self.state.global_step, len(batches), next(steps, None))
        if batches and not self._loss_of_trl(batches[0]):
            total = torch.stack([_weights_of(batch)[..., 1:].sum() for batch in batches]).sum().to(device)
            items = self.accelerator.gather(total).sum()
        return batches, items

    def _refresh_anchors(self) -> None:
        """Choose the anchors again, where that is due."""
        if self.kl_term is None or self.anchor_refresh is None or not self.anchor_refresh.is_due(self.state):
            return
        with self.compute_loss_context_manager():
            # Rounding differs from process to process; their mean is the same in all.
            agree = partial(self.accelerator.reduce, reduction="mean")
            self.kl_term.replace(self.anchor_refresh.anchors(self.model_wrapped, self.state, agree))
        self.anchor_refresh = None

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: TensorBatch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of one micro-batch as its part of the global batch's mean, with its part of the KL to the base."""
        loss = self._loss_of_rows(model, inputs, return_outputs, num_items_in_batch)
        if self.kl_term is None or not model.training:
            return loss
        kl = self.kl_term.loss(model, loss.device)
        return loss if kl is None else loss + kl

    def _loss_of_trl(self, inputs: TensorBatch) -> bool:
        """True for the plain mean nll of a mixture of experts, to which TRL adds the balance of its router."""
        return bool(self.aux_loss_enabled) and self.token_loss.loss.plain and "weights" not in inputs

    def _loss_of_rows(
        self, model: torch.nn.Module, inputs: TensorBatch, return_outputs: bool, num_items_in_batch: torch.Tensor | None
    ) -> torch.Tensor:
        if self._loss_of_trl(inputs):
            loss: torch.Tensor = super().compute_loss(
                model, inputs, return_outputs, num_items_in_batch=num_items_in_batch
            )
            return loss
        weights = _weights_of(inputs)
        inputs.pop("weights", None)
        return self._own_loss(model, inputs, weights, num_items_in_batch)

    def _own_loss(
        self,
        model: torch.nn.Module,
        inputs: TensorBatch,
        weights: torch.Tensor,
        num_items_in_batch: torch.Tensor | None,
    ) -> torch.Tensor:
        """The loss of one micro-batch by one of ``LOSSES``, on trained tokens alone."""
        labels = inputs.pop("labels")
        base = self._base_states(model, inputs, labels) if self.token_loss.loss.needs_base else None
        found = model(**inputs, token_head=token_losses(labels, weights, self.token_loss, base))
        if num_items_in_batch is None or self.token_loss.loss.counts_weights:
            num_items_in_batch = found.divisor
        total = num_items_in_batch.clamp(min=torch.finfo(torch.float32).tiny)
        loss: torch.Tensor = found.loss / total * self.accelerator.num_processes
        return loss

    def _base_states(
        self, model: torch.nn.Module, inputs: TensorBatch, labels: torch.Tensor
    ) -> tuple[torch.Tensor, Callable[..., torch.Tensor]]:
        """The base's hidden states at the trained tokens, and its LM head."""
        own = self.accelerator.unwrap_model(model)
        base = self.frozen_base if self.frozen_base is not None else own
        training = base.training
        base.eval()
        with torch.no_grad(), own.disable_adapter() if self.frozen_base is None else nullcontext():
            found: tuple[torch.Tensor, Callable[..., torch.Tensor]] = base(**inputs, token_head=states_at(labels))
        base.train(training)
        return found

    def evaluate(
        self, _dataset: object = None, _ignored: object = None, metric_key_prefix: str = "eval", **_: object
    ) -> dict[str, float]:
        """The validation score of the model as it is, logged; without validation data nothing is measured."""
        if self.validation is None or self.loaded is None:
            return {}
        score = validate(
            self.validation,
            self.model_wrapped if self.is_fsdp_enabled else self.model,
            self.loaded,
            self.accelerator,
            batch=self.args.per_device_train_batch_size,
            padding_id=int(self.processing_class.pad_token_id),
        )
        found = {f"{metric_key_prefix}_score": score}
        self.log(dict(found))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, found)
        return found

    def _determine_best_metric(self, metrics: dict[str, float], trial: object) -> bool:
        """True where the weights are to be saved now: the best so far, or the clock asked for a checkpoint."""
        return bool(super()._determine_best_metric(metrics, trial)) or bool(self.control.should_save)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what this step's batches held to its log."""
        if "loss" in logs:
            logs |= {"rows": self._rows, "trained_tokens": self._trained_tokens}
            if self.kl_term is not None:
                drift = float(self.accelerator.gather(self.kl_term.mean(self.accelerator.device)[None]).sum())
                logs |= {"anchor_kl": drift, "kl_weight": self.kl_term.weight}
                logs["loss"] -= self.kl_term.weight * drift  # of the training rows alone
        super().log(logs, start_time)


class _WeightedCollator:
    """TRL's collator, with the tokens' weights padded alongside."""

    def __init__(self, padding_id: int) -> None:
        self._inner = DataCollatorForLanguageModeling(pad_token_id=padding_id)

    def __call__(self, rows: list[dict[str, list[float]]]) -> TensorBatch:
        weights = [torch.tensor(row["weights"], dtype=torch.float32) for row in rows]
        batch: TensorBatch = self._inner([{key: row[key] for key in ("input_ids", "labels")} for row in rows])
        batch["weights"] = torch.nn.utils.rnn.pad_sequence(weights, batch_first=True)
        return batch


def _padded(tokenizer: "PreTrainedTokenizerBase") -> "PreTrainedTokenizerBase":
    """A copy of the tokenizer with a padding token, which the collator needs.

    Any token serves where there is neither padding nor end of sequence: padded positions are neither attended to nor
    trained. A copy, since the trainer writes into its tokenizer, and the model's own is saved as it was.
    """
    padded = copy.deepcopy(tokenizer)
    if padded.pad_token_id is None:
        padded.pad_token = padded.eos_token or padded.convert_ids_to_tokens(0)
    return padded


def _weights_of(batch: TensorBatch) -> torch.Tensor:
    """Weight of each token: the selection's, or 1 where it is trained."""
    return batch["weights"] if "weights" in batch else batch["labels"].ne(IGNORE_INDEX).float()
