"""One training run from selected rows to a finished folder."""

import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from tokensieve.config import MachineSettings, ModelSettings, TrainSettings, as_settings
from tokensieve.data.dataset import Rows, as_rows, open_rows
from tokensieve.data.hashing import refuse_another_tokenizer
from tokensieve.data.manifest import (
    MANIFEST_NAME,
    Counts,
    Manifest,
    Timing,
    digest_of_file,
    package_versions,
    read_manifest,
    write_atomically,
)
from tokensieve.errors import CheckFailed, InputError
from tokensieve.models import LoadedModel, ModelLike, load_model, settings_of
from tokensieve.models.gguf import SUFFIX
from tokensieve.models.weights import check_finite
from tokensieve.training.adapter import CHECKPOINTS, LOG_NAME, Adapter, StepLog, method_of, open_adapter, write_log
from tokensieve.training.dataset import TrainingSet, write_training_set
from tokensieve.training.guards import (
    alone_in,
    kept_random_state,
    kept_special_tokens,
    out_of_memory_explained,
    quiet_libraries,
)
from tokensieve.training.losses import parse_loss
from tokensieve.types import Anchor, Progress, Selected

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from tokensieve.training.trainer import SelectedTokensTrainer

_DRAFT = "draft.json"
_RESULT = "result"


def train(
    rows: Rows[Selected] | str | Path,
    model: ModelLike = "pocket",
    settings: TrainSettings | Mapping[str, object] | None = None,
    out: str | Path | None = None,
    progress: "Progress | None" = None,
) -> Adapter:
    """Fine-tune a model on the selected tokens.

    Trains through TRL's SFTTrainer on ids and labels that are made once and neither cut nor dropped; the trainer's
    data loader is held to the rows' own counts. The loss is the mean nll in nats over the trained tokens of the global
    batch, weighted where the selection is soft. A model that already has an adapter goes on with it (LoRA) or is
    merged with it first (full).

    While it runs, a hidden folder beside ``out`` holds checkpoints, one every ``checkpoint_minutes``; after a kill the
    same call goes on from the last one. ``out`` appears whole at the end. A folder that holds the result of the same
    call already is opened and returned. One run at a time works on an ``out``.

    Args:
        rows: what to train on, selected with this model's tokenizer and chat template; or their folder.
        model: the model to start from, in any form that ``load_model`` takes; a model of transformers is changed.
        settings: how to train; a dict counts as the settings it spells, None is the defaults.
        out: folder of the result.
        progress: called with the steps done and the steps in all.

    Raises:
        InputError: rows that are not selected, or were made with another tokenizer or template; nothing to train; sizes
            that do not fit; an ``out`` that holds something else, or that another run is working on.
        EnvironmentProblem: no room on the device or the disk, or a package is missing.
        CheckFailed: the loss or a trained weight became NaN, or the trainer lost rows or tokens.
    """
    started = time.monotonic()
    settings = as_settings(TrainSettings, settings, "settings")
    parse_loss(settings.objective.loss)
    if out is None:
        raise InputError("expected the folder of the result", where="train", fix="train(rows, model, out=FOLDER)")
    out = Path(out)
    rows = as_rows(Selected, rows)
    loaded = load_model(_for_training(model, settings))
    refuse_another_tokenizer(
        rows.manifest.model, loaded.identity, fix="score and select the data again with the model that is to be trained"
    )
    work = out.parent / f".{out.name}.training"
    with alone_in(work, out):
        data = write_training_set(rows, work / "rows.arrow")
        folder = settings.objective.kl.anchors
        anchors = None if folder is None else open_anchors(folder, loaded)
        draft = _draft(rows.manifest, loaded, settings, data, anchors)
        if _is_done(out, draft):
            shutil.rmtree(work, ignore_errors=True)
            return open_adapter(out)
        _pin(work, draft)
        with quiet_libraries(), kept_random_state(), out_of_memory_explained():
            trainer, log = _run(loaded, data, settings, work, progress, anchors)
            if trainer.is_world_process_zero():
                _save(trainer, loaded, work / _RESULT)
                _finish(work, out, draft, data, log, started)
            trainer.accelerator.wait_for_everyone()
    return open_adapter(out)


def _for_training(model: ModelLike, settings: TrainSettings) -> ModelLike:
    """All weights are trained in float32: in bfloat16 a small step would round to no step at all."""
    if not isinstance(model, ModelSettings | str | Path):
        return model
    named = settings_of(model)
    if settings.method == "full" and named.dtype == "auto":
        return named.model_copy(update={"dtype": "float32"})
    return named


def open_anchors(folder: Path, loaded: LoadedModel) -> Rows[Anchor]:
    """Anchors whose distributions are those of the model that is about to be trained.

    Raises:
        InputError: the folder holds no anchors, or those of another model.
    """
    rows = open_rows(folder)
    if rows.manifest.stage != "anchors" or rows.manifest.model is None:
        raise InputError(
            f"expected a folder of anchors, got one of {rows.manifest.stage} rows",
            where=str(folder),
            fix="tokensieve anchors SELECTED --out FOLDER",
        )
    base, ours = rows.manifest.model, loaded.identity
    for part in ("weights_digest", "adapter_digest", "tokenizer_digest"):
        if getattr(base, part) != getattr(ours, part):
            raise InputError(
                f"the anchors hold the distributions of {base.name}, whose {part.replace('_', ' ')} is not that of "
                f"{ours.name}",
                where=str(folder),
                fix="make the anchors with the model that is to be trained",
            )
    return cast("Rows[Anchor]", rows)


def _draft(
    manifest: Manifest,
    loaded: LoadedModel,
    settings: TrainSettings,
    data: TrainingSet,
    anchors: Rows[Anchor] | None,
) -> Manifest:
    inputs = {"rows": manifest.digest, "training_set": digest_of_file(data.path)}
    if anchors is not None:
        inputs["anchors"] = anchors.manifest.digest
    return Manifest(
        stage="trained",
        settings=settings.model_dump(mode="json"),
        inputs=inputs,
        model=loaded.identity,
        versions=dict(package_versions()),
        seed=settings.seed,
        counts=Counts(
            rows_in=data.rows + data.empty_rows,
            rows_out=data.rows,
            dropped={"no trained token": data.empty_rows} if data.empty_rows else {},
        ),
    )


def _is_done(out: Path, draft: Manifest) -> bool:
    """True where the folder is this run's result; another's is refused rather than overwritten."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if (out / MANIFEST_NAME).is_file() and _same_run(read_manifest(out), draft):
        return True
    raise InputError(
        "the folder holds something else than this run", where=str(out), fix="choose another --out, or delete it"
    )


def _same_run(one: Manifest, other: Manifest) -> bool:
    """True where two manifests are of one run, whatever machine settings each was made with."""
    settings = [_without_machine(manifest) for manifest in (one, other)]
    same = all(getattr(one, part) == getattr(other, part) for part in ("stage", "inputs", "model"))
    return same and settings[0] is not None and settings[0] == settings[1]


def _without_machine(manifest: Manifest) -> TrainSettings | None:
    """A run's settings, new ones at their defaults; None where another version had settings that are gone."""
    try:
        return TrainSettings.model_validate({**manifest.settings, "machine": {}})
    except ValidationError:
        return None


def _pin(work: Path, draft: Manifest) -> None:
    """Keep an earlier start's checkpoints only where it was a start of this very run, in the same portions."""
    path = work / _DRAFT
    if path.is_file() and not _goes_on(path, draft):
        shutil.rmtree(work / CHECKPOINTS, ignore_errors=True)
    shutil.rmtree(work / _RESULT, ignore_errors=True)
    write_atomically(path, draft.model_dump_json(indent=2).encode())


def _goes_on(path: Path, draft: Manifest) -> bool:
    """True where the trainer can go on from the checkpoints of the start that is described in a file."""
    try:
        earlier = Manifest.model_validate_json(path.read_bytes())
        before, now = (MachineSettings.model_validate(m.settings["machine"]) for m in (earlier, draft))
    except (ValidationError, KeyError):  # written by another version
        return False
    # How often it saves is free to change; a checkpoint counts the passes within an epoch, so their size is not.
    return _same_run(earlier, draft) and now == before.model_copy(update={"checkpoint_minutes": now.checkpoint_minutes})


def _run(
    loaded: LoadedModel,
    data: TrainingSet,
    settings: TrainSettings,
    work: Path,
    progress: "Progress | None",
    anchors: Rows[Anchor] | None,
) -> "tuple[SelectedTokensTrainer, tuple[StepLog, ...]]":
    from tokensieve.training.trainer import check_all_was_trained, latest_checkpoint, make_trainer, steps_of

    with kept_special_tokens(loaded):
        trainer = make_trainer(loaded, data, settings, work, progress, list(anchors or ()))
        checkpoint = latest_checkpoint(work)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    check_all_was_trained(trainer, data, settings.epochs)
    try:
        check_finite(trainer.model, where="the trained model")
    except InputError as error:  # the last step's loss is taken before its update
        raise CheckFailed(error.problem, where="the last step", fix="lower train.learning_rate") from None
    return trainer, steps_of(trainer.state)


def _save(trainer: "SelectedTokensTrainer", loaded: LoadedModel, folder: Path) -> None:
    """Write the weights as safetensors; for a whole model its tokenizer too."""
    from peft import PeftModel

    model = trainer.accelerator.unwrap_model(trainer.model)
    if isinstance(model, PeftModel):
        config = model.peft_config[model.active_adapter]
        of_a_folder = Path(str(config.base_model_name_or_path)).is_dir() and not loaded.identity.name.endswith(SUFFIX)
        if not of_a_folder or loaded.settings.revision is not None:
            config.base_model_name_or_path = loaded.identity.name
            config.revision = loaded.identity.revision
        model.save_pretrained(str(folder), save_embedding_layers=False)
        return
    _end_answers_as_trained(model, loaded)
    model.save_pretrained(str(folder))
    loaded.tokenizer.save_pretrained(str(folder))


def _end_answers_as_trained(model: "PreTrainedModel", loaded: LoadedModel) -> None:
    """Let the saved generation settings end an answer with the end-of-turn tokens that were taught."""
    generation = model.generation_config
    if generation is None or not loaded.tokenizer.chat_template:
        return
    known = generation.eos_token_id
    listed = [known] if isinstance(known, int) else list(known or ())
    if taught := sorted(loaded.chat.stop_ids - set(listed)):
        generation.eos_token_id = [*listed, *taught]


def _finish(
    work: Path, out: Path, draft: Manifest, data: TrainingSet, log: tuple[StepLog, ...], started: float
) -> None:
    """Complete the result beside ``out`` and move it there in one step."""
    result = work / _RESULT
    write_log(result / LOG_NAME, log)
    draft.model_copy(
        update={
            "facts": {
                "method": method_of(TrainSettings.model_validate(draft.settings)),
                "trained_tokens": data.trained_tokens,
                "rows_without_trained_tokens": data.empty_rows,
                "steps": len(log),
            },
            "timing": Timing(
                started_at=datetime.now(UTC).isoformat(timespec="seconds"), wall_s=time.monotonic() - started
            ),
        }
    ).write(result)
    try:
        if out.exists():
            out.rmdir()
        result.replace(out)
    except OSError as error:
        raise InputError(
            f"the folder was filled while the run went on ({error.strerror}); its result is in {result}",
            where=str(out),
            fix=f"move {out} away, then mv {result} {out}",
        ) from error
    shutil.rmtree(work, ignore_errors=True)
