"""Our settings in the terms of TRL and PEFT: the trainer's arguments, the adapter, the experiment trackers."""

import math
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
from peft import LoraConfig, PeftModel, TaskType
from transformers import PreTrainedModel, Trainer
from transformers.integrations import TensorBoardCallback
from trl import SFTConfig

from tokensieve.config import MachineSettings, TrainSettings
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.models import LoadedModel
from tokensieve.models.device import checkpointing_arguments
from tokensieve.training.adapter import CHECKPOINTS
from tokensieve.training.dataset import TrainingSet
from tokensieve.training.losses import BoundLoss

_SCHEDULES: Final = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
_OPTIMIZERS: Final = {"adamw": "adamw_torch_fused", "adamw_8bit": "adamw_bnb_8bit"}
_PACKAGES: Final = {"comet_ml": "comet-ml"}
"""Packages that are installed under another name than they are imported by."""


def arguments_of(loaded: LoadedModel, data: TrainingSet, settings: TrainSettings, work: Path) -> SFTConfig:
    """The trainer's arguments for a run; nothing is cut, dropped, reported or saved that we did not ask for.

    Raises:
        InputError: batch sizes that do not divide, or an adapter of a single step, whose learning rate warm-up makes 0.
        EnvironmentProblem: several GPUs without a launcher, or an optimiser or a tracker that is not installed.
    """
    # An adapter that changes nothing is refused wherever it is read; a whole model is only the base again.
    if (
        settings.method == "lora"
        and settings.warmup_steps
        and math.ceil(data.rows / settings.batch_size) * settings.epochs <= 1
    ):
        raise InputError(
            f"{data.rows} rows in batches of {settings.batch_size} make one step, and warm-up begins with a learning"
            " rate of 0, so that nothing would be trained",
            where="train.warmup_steps",
            fix="--warmup-steps 0, more rows or epochs, or a smaller --batch-size",
        )
    on_gpu = loaded.device.type == "cuda"
    chosen = settings.machine.gradient_checkpointing
    checkpointing = on_gpu if chosen is None else chosen
    arguments = SFTConfig(
        output_dir=str(work / CHECKPOINTS),
        max_length=None,  # TRL's default cuts rows, and drops those that lose all their labels, without a word
        padding_free=settings.machine.packing,
        per_device_train_batch_size=1,
        num_train_epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=_SCHEDULES[settings.schedule],
        warmup_steps=settings.warmup_steps,
        weight_decay=settings.objective.weight_decay,
        optim=_optimizer(settings, on_gpu=on_gpu),
        bf16=on_gpu and torch.cuda.is_bf16_supported(),
        use_cpu=loaded.device.type == "cpu",
        **checkpointing_arguments(checkpointing),
        remove_unused_columns=not data.weighted,
        seed=settings.seed,
        data_seed=settings.seed,
        dataloader_pin_memory=on_gpu,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        save_total_limit=2,
        report_to=report_to(settings.machine),
        train_sampling_strategy="group_by_length" if settings.group_by_length else "random",
        disable_tqdm=True,
    )
    if arguments.n_gpu > 1:
        raise EnvironmentProblem(
            f"{arguments.n_gpu} GPUs are visible to one process",
            fix="CUDA_VISIBLE_DEVICES=0 tokensieve train …, or torchrun --nproc-per-node",
        )
    micro, steps = _micro_batches(settings, arguments.world_size)
    arguments.per_device_train_batch_size = micro
    arguments.gradient_accumulation_steps = steps
    return arguments


def _micro_batches(settings: TrainSettings, processes: int) -> tuple[int, int]:
    """Rows in one forward pass of one process, and passes in a step."""
    micro = settings.machine.micro_batch_size or max(1, settings.batch_size // processes)
    if settings.batch_size % (micro * processes):
        raise InputError(
            f"batches of {settings.batch_size} rows cannot be made of {processes} processes x {micro} rows",
            where="train.machine.micro_batch_size",
            fix="choose a batch_size that is a multiple of both",
        )
    return micro, settings.batch_size // (micro * processes)


def _optimizer(settings: TrainSettings, *, on_gpu: bool) -> str:
    if settings.optimizer == "adamw_8bit" and (not on_gpu or find_spec("bitsandbytes") is None):
        raise EnvironmentProblem(
            "adamw_8bit needs a CUDA device and bitsandbytes",
            where="train.optimizer",
            fix="pip install bitsandbytes, or optimizer: adamw",
        )
    return _OPTIMIZERS[settings.optimizer]


def check_batch(bound: BoundLoss, settings: TrainSettings) -> None:
    """Refuse batches in portions, or on several devices, for a loss whose weights depend on the whole batch."""
    portions = settings.machine.micro_batch_size not in (None, settings.batch_size)
    if bound.loss.batch_statistic and (portions or int(os.environ.get("WORLD_SIZE", "1")) > 1):
        raise InputError(
            f"the weights of the loss {settings.objective.loss} depend on the whole batch, which must be one pass",
            where="train.machine.micro_batch_size",
            fix="leave micro_batch_size out, on one device, with a batch_size that fits",
        )


def trainable(loaded: LoadedModel, settings: TrainSettings) -> tuple[PreTrainedModel, LoraConfig | None]:
    """The model with the right weights open to change, and the adapter that TRL is to put on it."""
    model = loaded.model
    adapted = isinstance(model, PeftModel)
    if settings.method == "full" and getattr(model, "is_quantized", False):
        raise InputError(
            f"the model's weights are quantised ({loaded.settings.quantisation}), so they cannot be trained themselves",
            where="train.method",
            fix="method: lora, or leave --quantisation out",
        )
    if settings.method == "full":
        if adapted:
            model = model.merge_and_unload()
        return model.requires_grad_(True), None
    if adapted:  # go on with the adapter that is there
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("lora_" in name)
        return model, None
    lora = settings.lora
    return model, LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_dora=lora.dora,
        target_modules="all-linear",
        task_type=TaskType.CAUSAL_LM,
    )


def report_to(settings: MachineSettings) -> list[str] | str:
    """The trainer's argument of this name.

    Raises:
        EnvironmentProblem: a tracker's package is not installed.
    """
    for name in settings.trackers:
        if find_spec(name) is None:
            raise EnvironmentProblem(
                f"the tracker {name} is not installed",
                where="train.machine.trackers",
                fix=f"pip install {_PACKAGES.get(name, name)}",
            )
    return list(settings.trackers) or "none"


def name_run(trainer: Trainer, out: Path) -> None:
    """Let the trackers call the run by the folder of its result.

    TensorBoard's files go to ``tensorboard/NAME`` beside that folder, where one ``tensorboard --logdir`` shows all, or
    to TENSORBOARD_LOGGING_DIR; by default they would be in the working folder, which is removed at the end.
    """
    trainer.args.run_name = out.name
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and "TENSORBOARD_LOGGING_DIR" not in os.environ:
            callback.logging_dir = str(out.parent / "tensorboard" / out.name)
