"""One training run from selected rows to a finished folder."""

import shutil
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from tokensieve.config import ModelSettings, TrainSettings, as_settings
from tokensieve.data.dataset import Rows, as_training_rows, open_rows, open_rows_of
from tokensieve.data.hashing import refuse_another_tokenizer
from tokensieve.data.manifest import (
    Counts,
    Manifest,
    Timing,
    digest_of_file,
    package_versions,
)
from tokensieve.errors import CheckFailed, InputError
from tokensieve.launch import device_of_launch, portion_of_launch
from tokensieve.models import LoadedModel, ModelLike, load_model, settings_of
from tokensieve.models.weights import check_finite
from tokensieve.training.adapter import (
    CHECKPOINTS,
    KEPT,
    LOG_NAME,
    Adapter,
    StepLog,
    method_of,
    open_adapter,
    save_weights,
    steps_of,
    whole_weights,
    write_log,
)
from tokensieve.training.dataset import TrainingSet, check_all_was_trained, write_training_set
from tokensieve.training.guards import (
    RESULT,
    alone_in,
    is_done,
    kept_random_state,
    kept_special_tokens,
    latest_checkpoint,
    out_of_memory_explained,
    pin,
    quiet_libraries,
)
from tokensieve.training.losses import parse_loss
from tokensieve.types import JSON, Anchor, Progress, Selected

if TYPE_CHECKING:
    from tokensieve.training.trainer import SelectedTokensTrainer
    from tokensieve.training.validation import Validation


def train(
    rows: Rows[Selected] | str | Path,
    model: ModelLike = "pocket",
    settings: TrainSettings | Mapping[str, object] | None = None,
    out: str | Path | None = None,
    progress: "Progress | None" = None,
    *,
    checkpoints: int = 0,
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
        checkpoints: weights along the run that stay, at even distances, in ``checkpoints/step-N`` of the result, such
            as candidates for ``repair``.

    Raises:
        InputError: rows that are not selected, or were made with another tokenizer or template; nothing to train; sizes
            that do not fit; an ``out`` that holds something else, or that another run is working on.
        EnvironmentProblem: no room on the device or the disk, or a package is missing.
        CheckFailed: the loss or a trained weight became NaN, or the trainer lost rows or tokens.
    """
    started = time.monotonic()
    settings = as_settings(TrainSettings, settings, "settings")
    parse_loss(settings.objective.loss)
    if settings.objective.kl.refresh is not None and settings.objective.kl.anchors is None:
        raise InputError("there are no anchors to choose again", where="train.kl.refresh", fix="--kl.anchors FOLDER")
    if out is None:
        raise InputError("expected the folder of the result", where="train", fix="train(rows, model, out=FOLDER)")
    if checkpoints < 0:
        raise InputError(f"expected 0 or more, got {checkpoints}", where="--keep-checkpoints")
    out = Path(out)
    rows = as_training_rows(rows)
    from tokensieve.training.validation import choice_of, open_validation

    loaded = load_model(_for_training(model, settings))
    refuse_another_tokenizer(
        rows.manifest.model, loaded.identity, fix="score and select the data again with the model that is to be trained"
    )
    work = out.parent / f".{out.name}.training"
    with alone_in(work, out):
        portion = portion_of_launch()
        # Each process of a launcher reads a file of its own: none is written while another one reads it.
        data = write_training_set(rows, work / f"rows-{portion}.arrow")
        folder = settings.objective.kl.anchors
        anchors = None if folder is None else open_anchors(folder, loaded)
        validation = open_validation(loaded, settings.objective.validation)
        draft = _draft(rows.manifest, loaded, settings, data, anchors, validation)
        if is_done(out, draft):
            if checkpoints and not (out / CHECKPOINTS).is_dir():
                raise InputError(
                    "the folder holds this run without checkpoints", where=str(out), fix="choose another --out"
                )
            shutil.rmtree(work, ignore_errors=True)
            return open_adapter(out)
        if portion.index == 0:  # the others meet it before they look for checkpoints
            pin(work, draft)
            if checkpoints:  # there even where the run has too few steps for one, so that the same call finds it again
                (work / KEPT).mkdir(exist_ok=True)
        with quiet_libraries(), kept_random_state(), out_of_memory_explained():
            trainer, log, more = _run(loaded, data, settings, work, out, progress, anchors, validation, checkpoints)
            state = whole_weights(trainer)
            if trainer.is_world_process_zero():
                save_weights(trainer, loaded, work / RESULT, state)
                chosen = None if validation is None else choice_of(trainer.state, validation)
                _finish(work, out, draft, data, log, more, started, chosen)
            trainer.accelerator.wait_for_everyone()
    return open_adapter(out)


def _for_training(model: ModelLike, settings: TrainSettings) -> ModelLike:
    """The model on this process' own device; in float32 where all weights are trained: bfloat16 rounds steps away."""
    if not isinstance(model, ModelSettings | str | Path):
        return model
    named = settings_of(model)
    if named.device == "auto":
        named = named.model_copy(update={"device": device_of_launch()})
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
    return open_rows_of(Anchor, folder)


def _draft(
    manifest: Manifest,
    loaded: LoadedModel,
    settings: TrainSettings,
    data: TrainingSet,
    anchors: Rows[Anchor] | None,
    validation: "Validation | None",
) -> Manifest:
    inputs = {"rows": manifest.digest, "training_set": digest_of_file(data.path)}
    if anchors is not None:
        inputs["anchors"] = anchors.manifest.digest
    if validation is not None:
        inputs["validation"] = validation.digest
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


def _run(
    loaded: LoadedModel,
    data: TrainingSet,
    settings: TrainSettings,
    work: Path,
    out: Path,
    progress: "Progress | None",
    anchors: Rows[Anchor] | None,
    validation: "Validation | None",
    checkpoints: int,
) -> "tuple[SelectedTokensTrainer, tuple[StepLog, ...], Mapping[str, JSON]]":
    from tokensieve.training.anchor_choice import refresh_facts
    from tokensieve.training.arguments import name_run
    from tokensieve.training.callbacks import KeepWeights
    from tokensieve.training.trainer import make_trainer

    with kept_special_tokens(loaded):
        trainer = make_trainer(loaded, data, settings, work, progress, list(anchors or ()), validation)
        name_run(trainer, out)
        if checkpoints:
            trainer.add_callback(KeepWeights(trainer, loaded, work / KEPT, checkpoints))
        checkpoint = latest_checkpoint(work)
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    check_all_was_trained(trainer, data, settings.epochs)
    try:
        check_finite(trainer.model, where="the trained model")
    except InputError as error:  # the last step's loss is taken before its update
        raise CheckFailed(error.problem, where="the last step", fix="lower train.learning_rate") from None
    return trainer, steps_of(trainer.state), refresh_facts(trainer.state)


def _finish(
    work: Path,
    out: Path,
    draft: Manifest,
    data: TrainingSet,
    log: tuple[StepLog, ...],
    more: Mapping[str, JSON],
    started: float,
    chosen: dict[str, JSON] | None,
) -> None:
    """Complete the result beside ``out`` and move it there in one step."""
    result = work / RESULT
    _complete_checkpoints(work / KEPT, result)
    write_log(result / LOG_NAME, log)
    draft.model_copy(
        update={
            "facts": {
                "method": method_of(TrainSettings.model_validate(draft.settings)),
                "trained_tokens": data.trained_tokens,
                "rows_without_trained_tokens": data.empty_rows,
                "steps": len(log),
                **({} if chosen is None else {"checkpoint": chosen}),
                **more,
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


def _complete_checkpoints(kept: Path, result: Path) -> None:
    """Move the weights that stay into the result, with its configuration and tokenizer beside each."""
    if not kept.is_dir():
        return
    beside = [path for path in result.iterdir() if path.is_file() and "safetensors" not in path.name]
    for folder in kept.iterdir():
        for path in beside:
            shutil.copy(path, folder / path.name)
    kept.replace(result / CHECKPOINTS)
