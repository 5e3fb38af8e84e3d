"""Settings of training, and of the anchors that hold a model to its base."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field, model_validator

from tokensieve.config.base import STRICT


class LoraSettings(BaseModel):
    """The low-rank adapter."""

    model_config = STRICT

    r: int = Field(16, gt=0)
    """Rank."""
    alpha: int = Field(32, gt=0)
    """Scale: the update is multiplied by alpha / r."""
    dropout: float = Field(0.05, ge=0, lt=1)
    """Dropout on the adapter's input."""
    dora: bool = False
    """Weight-decomposed variant (DoRA)."""


class MachineSettings(BaseModel):
    """Fit of a fine-tuning run to the machine; the same run to float rounding, whatever is chosen."""

    model_config = STRICT

    micro_batch_size: int | None = Field(None, gt=0)
    """Rows in one forward pass on one device; by default the whole batch."""
    packing: bool = False
    """The rows of a forward pass as one sequence without padding; the same batches, the same loss."""
    gradient_checkpointing: bool | None = None
    """Recompute activations to save memory; by default on a GPU."""
    checkpoint_minutes: float = Field(10.0, ge=0)
    """Minutes between checkpoints; after a kill a run goes on from the last one."""
    trackers: tuple[
        Literal["tensorboard", "wandb", "mlflow", "trackio", "comet_ml", "clearml", "swanlab", "neptune", "dvclive"],
        ...,
    ] = ()
    """Experiment trackers that get every step's log, each by its own package and environment variables."""


class PilotSettings(BaseModel):
    """A short fine-tuning run that shows where the model drifts."""

    model_config = STRICT

    adapter: Path | None = None
    """A finished training run to take in place of the pilot: folder of an adapter or of a whole model."""
    rows: int = Field(160, gt=0)
    """Training rows, the first ones, in one epoch."""
    method: Literal["lora", "full"] = "lora"
    """As in `train`."""
    learning_rate: float = Field(2e-4, gt=0)
    """Peak learning rate."""
    batch_size: int = Field(16, gt=0)
    """Rows in one optimiser step."""


class AnchorSettings(BaseModel):
    """Anchors: rows on which a model in training is held to its base, and the search for them."""

    model_config = STRICT

    source: Literal["dialogues", "answers", "rows", "text"] = "dialogues"
    """Candidates: dialogues drawn from the base itself; the base's own answers to prompts; responses as they are; plain
    text, all of it response."""
    data: str | None = None
    """Of source answers a data set with the prompts, or task:NAME for a task's training prompts, whose answers are
    checked; of source rows the rows; of source text a UTF-8 file."""
    candidates: int = Field(1600, gt=0)
    """Rows to choose from: dialogues drawn, prompts, rows, or pieces of the text."""
    count: int = Field(150, gt=0)
    """Anchors that are kept."""
    random_share: float = Field(0.25, ge=0, le=1)
    """Share of the anchors drawn at random, so that skills the pilot left alone stay covered; 1 is the control."""
    top_k: int = Field(256, gt=0)
    """Entries kept of the base's distribution at each token; the rest of the mass counts as one entry."""
    n: int = Field(4, gt=0)
    """Answers to each prompt of source answers: the likeliest is kept, of a task's the likeliest correct one."""
    max_new_tokens: int = Field(256, gt=0)
    """Longest drawn answer, or piece of text, in tokens."""
    temperature: float = Field(1.0, ge=0)
    """Sampling temperature of drawn rows."""
    refreshable: bool = False
    """Keep all candidates with their distributions, so that `train --kl.refresh` can choose again among them."""
    seed: int = Field(0, ge=0)
    """Seed of drawing, of the pilot and of the random share."""
    pilot: PilotSettings = PilotSettings()
    """The run whose drift decides."""

    @model_validator(mode="after")
    def _check_data(self) -> "AnchorSettings":
        if self.source == "dialogues" and self.data is not None:
            raise ValueError(f"anchors from dialogues read no data, got {self.data}; leave it out, or name a source")
        if self.source != "dialogues" and self.data is None:
            raise ValueError(f"anchors from {self.source} need their data, got none")
        return self


class KlSettings(BaseModel):
    """KL divergence to the base on anchors, added to the loss of the training rows."""

    model_config = STRICT

    anchors: Path | None = None
    """Folder that `tokensieve anchors` has made; without it no anchors are rehearsed."""
    weight: float = Field(5.0, ge=0)
    """Factor of the mean KL (nats per anchor token) in the loss; the first value where a budget is set."""
    rows: int | None = Field(None, gt=0)
    """Anchor rows in one optimiser step, over all devices; by default the batch size."""
    budget: float | None = Field(None, gt=0)
    """Drift in nats per token that the weight is steered to while training; without it the weight stays."""
    range: float = Field(16.0, ge=1)
    """With a budget: the weight stays within a factor of this of its first value."""
    refresh: float | None = Field(None, gt=0, lt=1)
    """Share of the steps after which the anchors are chosen again, once, where the model in training has drifted most;
    needs `anchors --refreshable`. Without it the first choice stays."""


class ValidationSettings(BaseModel):
    """Validation while training, by which the best checkpoint becomes the result in place of the last."""

    model_config = STRICT

    rows: str | None = None
    """Data set whose responses' mean nll decides, lowest first: as `load` takes it, such as task:gsm8k/validation."""
    task: str | None = None
    """Task in place of rows: its accuracy on validation problems decides, highest first."""
    every_steps: int | None = Field(None, gt=0)
    """Optimiser steps between two validations; by default an epoch."""
    limit: int = Field(100, gt=0)
    """The first N rows or problems."""
    data: Path | None = None
    """Folder with local copies of the benchmarks, one folder a task."""

    @model_validator(mode="after")
    def _check_one(self) -> "ValidationSettings":
        if self.rows is not None and self.task is not None:
            raise ValueError("rows and task exclude each other: one measure decides")
        return self


class ObjectiveSettings(BaseModel):
    """Objective of training: the loss of a trained token, penalties, and the measure that chooses a checkpoint."""

    model_config = STRICT

    loss: str = "nll"
    """nll; or a published loss on the model in training: dft, eaft, infosft, profit, talr, asft, kl, reverse_kl,
    online_stm, base_stm, each with its argument as NAME:NUMBER."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's weight decay, towards 0."""
    l2_to_start: float = Field(0.0, ge=0)
    """Factor of the trained weights' distance from their start, added to their gradient after clipping."""
    kl: KlSettings = KlSettings()
    """Anchors that hold the model to its base."""
    validation: ValidationSettings = ValidationSettings()
    """Choice of the checkpoint; without data the last one is the result."""


class TrainSettings(BaseModel):
    """One fine-tuning run; the defaults are the paper's STM runs."""

    model_config = STRICT

    method: Literal["lora", "full"] = "lora"
    """Train an adapter, or all weights."""
    learning_rate: float = Field(2e-5, gt=0)
    """Peak learning rate."""
    epochs: float = Field(3.0, gt=0)
    """Passes over the data."""
    batch_size: int = Field(4, gt=0)
    """Rows in one optimiser step, over all devices."""
    warmup_steps: int = Field(20, ge=0)
    """Steps until the peak learning rate."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Course of the learning rate after the warm-up."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """adamw_8bit needs bitsandbytes and a GPU."""
    group_by_length: bool = False
    """Batches of rows of like length: less padding (a fifth of the time on short rows), another order."""
    seed: int = Field(0, ge=0)
    """Order of the rows and initial adapter weights."""
    lora: LoraSettings = LoraSettings()
    """The adapter, where the method is lora."""
    objective: ObjectiveSettings = ObjectiveSettings()
    """Loss, penalties, choice of the checkpoint."""
    machine: MachineSettings = MachineSettings()
    """Micro-batches, packing, checkpointing, trackers."""
