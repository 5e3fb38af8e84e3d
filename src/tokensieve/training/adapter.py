"""Result of a training run: a folder with weights, log and manifest, and how they are written and read."""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, cast

from tokensieve.config import ModelSettings, TrainSettings
from tokensieve.data.manifest import Manifest, ModelIdentity, read_manifest
from tokensieve.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, Trainer, TrainerState

    from tokensieve.models import LoadedModel

LOG_NAME: Final = "log.jsonl"
CHECKPOINTS: Final = "checkpoints"
"""Folder of the checkpoints in a run's working folder."""

KEPT: Final = "kept"
"""Folder of the weights along a run that stay, in its working folder; in the result it is called checkpoints."""
CHOSEN_AGAIN: Final = "anchors_chosen_again"
"""Fact of a run's manifest, and key of its trainer's log: the second choice of anchors."""

Method: TypeAlias = Literal["lora", "dora", "full"]


@dataclass(frozen=True, slots=True)
class StepLog:
    """One optimiser step.

    Attributes:
        step: number of the step, from 1.
        epoch: passes over the data at its end, a fraction.
        loss: mean nll in nats over the step's trained tokens, before the step (weighted where selection is soft).
        learning_rate: as it was in the step.
        grad_norm: L2 norm of the gradient before clipping.
        trained_tokens: tokens that contributed to the loss.
        anchor_kl: KL to the base on the step's anchors before the step, nats per token; NaN without anchors.
        kl_weight: factor of that KL in the step; NaN without anchors.
    """

    step: int
    epoch: float
    loss: float
    learning_rate: float
    grad_norm: float
    trained_tokens: int
    anchor_kl: float = math.nan
    kl_weight: float = math.nan


@dataclass(frozen=True, slots=True)
class Adapter:
    """A finished training run.

    Attributes:
        folder: a PEFT adapter, or after full fine-tuning a whole model; safetensors in both cases.
        method: what was trained.
        log: one entry a step.
        model: the model that was trained from.
        manifest: settings, inputs, versions and what was found, as every stage's.
    """

    folder: Path
    method: Method
    log: tuple[StepLog, ...]
    model: ModelIdentity
    manifest: Manifest

    @property
    def checkpoint(self) -> str | None:
        """The checkpoint that validation chose, in a sentence; None where the last one is the result."""
        chosen = self.manifest.facts.get("checkpoint")
        if not isinstance(chosen, dict):
            return None
        return (
            f"weights of step {chosen['step']} of {self.manifest.facts['steps']}: {chosen['measure']} "
            f"{chosen['score']:.4g}, {chosen['why']}"
        )

    @property
    def course(self) -> str:
        """The training in a line: loss of the first and the last step, and where there are anchors the KL on them."""
        if not self.log:
            return "no step was made"
        first, last = self.log[0], self.log[-1]
        told = [f"loss {first.loss:.4g} → {last.loss:.4g} nats a token in {len(self.log):,} steps"]
        if last.anchor_kl == last.anchor_kl:
            told.append(f"KL to the base on anchors {last.anchor_kl:.3g} nats a token, weight {last.kl_weight:.3g}")
        warmup = self.manifest.settings.get("warmup_steps")
        if isinstance(warmup, int) and warmup >= len(self.log):
            told.append(f"all of them in the warm-up of {warmup} steps, below the learning rate that was asked for")
        again = self.manifest.facts.get(CHOSEN_AGAIN)
        if isinstance(again, dict):
            told.append(f"anchors chosen again after step {again['step']}")
        return "; ".join(told)

    def on(self, base: ModelSettings) -> ModelSettings:
        """The settings that load the trained model.

        Args:
            base: the settings the training was started with; device, numbers and attention are taken from there.
        """
        if self.method == "full":
            return base.model_copy(update={"model": str(self.folder), "revision": None, "adapter": None})
        return base.model_copy(update={"adapter": str(self.folder)})


def open_adapter(folder: str | Path) -> Adapter:
    """The finished training run in a folder.

    Raises:
        InputError: there is none, or what is there was not trained by this package.
    """
    path = Path(folder)
    manifest = read_manifest(path)
    if manifest.stage != "trained" or manifest.model is None:
        raise InputError(
            f"this is the folder of a stage {manifest.stage!r}, expected one of training",
            where=str(path),
            fix="tokensieve train … makes one",
        )
    log = path / LOG_NAME
    if not log.is_file():
        raise InputError(f"{LOG_NAME} is missing", where=str(path), fix="run tokensieve train again")
    method = cast(Method, manifest.facts["method"])
    return Adapter(path, method, tuple(read_log(log)), manifest.model, manifest)


def steps_of(state: "TrainerState") -> tuple[StepLog, ...]:
    """The trainer's history as our log, one entry a step."""
    entries = [entry for entry in state.log_history if "loss" in entry]
    return tuple(
        StepLog(
            step=entry["step"],
            epoch=entry["epoch"],
            loss=entry["loss"],
            learning_rate=entry["learning_rate"],
            grad_norm=entry.get("grad_norm", float("nan")),
            trained_tokens=entry["trained_tokens"],
            anchor_kl=entry.get("anchor_kl", math.nan),
            kl_weight=entry.get("kl_weight", math.nan),
        )
        for entry in entries
    )


def method_of(settings: TrainSettings) -> Method:
    """Method of a run with these settings."""
    if settings.method == "full":
        return "full"
    return "dora" if settings.lora.dora else "lora"


def read_log(path: Path) -> Iterable[StepLog]:
    """The steps of a training log, in order."""
    for line in path.read_text(encoding="utf-8").splitlines():
        fields: dict[str, float | None] = json.loads(line)
        yield StepLog(**{name: math.nan if value is None else value for name, value in fields.items()})  # type: ignore[arg-type]


def write_log(path: Path, log: Iterable[StepLog]) -> None:
    """Write a training log, one JSON object a step; NaN is null."""
    lines = (
        json.dumps({name: None if value != value else value for name, value in asdict(step).items()}) + "\n"
        for step in log
    )
    path.write_text("".join(lines), encoding="utf-8")


def whole_weights(trainer: "Trainer") -> "dict[str, Tensor] | None":
    """The weights gathered from all processes, in which each of them takes part; None where every one has them all."""
    if not trainer.is_fsdp_enabled:
        return None
    weights: dict[str, Tensor] = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return weights


def save_weights(trainer: "Trainer", loaded: "LoadedModel", folder: Path, state: "dict[str, Tensor] | None") -> None:
    """Write the weights as safetensors; for a whole model its tokenizer too.

    Args:
        trainer: holds the model.
        loaded: the model before training, for its name and tokenizer.
        folder: of the result.
        state: what ``whole_weights`` gave.
    """
    from peft import PeftModel

    from tokensieve.models.fetch import GGUF_SUFFIX

    model = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(model, PeftModel):
        config = model.peft_config[model.active_adapter]
        of_a_folder = Path(str(config.base_model_name_or_path)).is_dir() and not loaded.identity.name.endswith(
            GGUF_SUFFIX
        )
        if not of_a_folder or loaded.settings.revision is not None:
            config.base_model_name_or_path = loaded.identity.name
            config.revision = loaded.identity.revision
        model.save_pretrained(str(folder), save_embedding_layers=False, state_dict=state)
        return
    _end_answers_as_trained(model, loaded)
    model.save_pretrained(str(folder), state_dict=state)
    loaded.tokenizer.save_pretrained(str(folder))


def _end_answers_as_trained(model: "PreTrainedModel", loaded: "LoadedModel") -> None:
    """Let the saved generation settings end an answer with the end-of-turn tokens that were taught."""
    generation = model.generation_config
    if generation is None or not loaded.tokenizer.chat_template:
        return
    known = generation.eos_token_id
    listed = [known] if isinstance(known, int) else list(known or ())
    if taught := sorted(loaded.chat.stop_ids - set(listed)):
        generation.eos_token_id = [*listed, *taught]
