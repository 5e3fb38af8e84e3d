"""Inspect: a profile of data that is scored or will be, or an audit of labels that another tool made."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from pydantic import BaseModel

from tokensieve.config import DataSettings, InspectSettings, ModelSettings, as_settings
from tokensieve.data.dataset import Rows, as_rows
from tokensieve.data.formats.files import Located
from tokensieve.data.manifest import MANIFEST_NAME, Manifest, ModelIdentity, read_manifest
from tokensieve.errors import InputError
from tokensieve.inspection.audit import audit
from tokensieve.inspection.label_rows import LabelRow, holds_labels, read_rows, unread_columns
from tokensieve.inspection.profile import profile_scored, profile_selected
from tokensieve.inspection.results import Inspection, MaskAudit
from tokensieve.types import Progress, Scored, Selected

if TYPE_CHECKING:
    from tokensieve.data.arrow_io import StageRow
    from tokensieve.data.formats import Source
    from tokensieve.data.formats.sources import Data
    from tokensieve.models import LoadedModel, ModelLike

    NamedModel: TypeAlias = LoadedModel | ModelSettings | str
    """A model whose tokenizer is found by its name, or is in memory."""

_TASK: Final = "task:"
_OF_PROFILES: Final = ("policy", "thresholds", "top", "own_answers")
_OF_AUDITS: Final = ("labels",)
_NEEDS_MODEL: Final = "--model with the model that is about to be trained"


def inspect_data(
    data: "Data | Rows[StageRow]",
    model: "ModelLike | None" = None,
    settings: InspectSettings | Mapping[str, object] = InspectSettings(),
    read: DataSettings | Mapping[str, object] = DataSettings(),
    *,
    progress: Progress | None = None,
) -> Inspection | MaskAudit:
    """Look at training data before training: what the loss will see, or whether a loss mask is right.

    Rows with token ids and labels, as another tool or ``export`` wrote them, are audited: which tokens are trained is
    held against the model's chat template. Everything else is profiled: the folder of ``select`` as it is, that of
    ``score`` under ``settings.policy``, a data set once the model has scored it.

    Args:
        data: as in ``load``; or the folder of a stage or of an export, or a stage's rows.
        model: whose tokenizer, chat template and scores; None is the one that the folder names.
        settings: policy, thresholds and lengths of lists of a profile; convention of an audit's labels.
        read: how a data set is read; of labels and of folders of stages split and limit only.
        progress: called after every shard that is scored.

    Returns:
        The profile or the audit. An audit's faults are in its checks; nothing is raised for them.

    Raises:
        InputError: no model is known, a setting has no effect on such data, or it cannot be told what the labels mean:
            how far they are shifted, or whether the rows were made with the model's chat template.
    """
    settings = as_settings(InspectSettings, settings, "settings")
    read = as_settings(DataSettings, read, "read")
    folder = Path(data) if isinstance(data, str | Path) and data else None
    manifest = data.manifest if isinstance(data, Rows) else _manifest_in(folder)
    stage = manifest.stage if manifest is not None else None
    where = str(folder or "rows")
    if manifest is not None and stage in ("scored", "selected"):
        _refuse(settings, _OF_AUDITS, "on data without labels")
        _refuse_reading(read, ("limit",), "on the folder of a stage")
        chosen = _model_of(manifest, model, where)
        if stage == "scored":
            return profile_scored(as_rows(Scored, data), where, chosen, settings, limit=read.limit)
        _refuse(settings, ("policy",), "on a folder that select made, which has its own")
        return profile_selected(as_rows(Selected, data), where, chosen, settings, limit=read.limit)
    if manifest is not None and folder is not None and stage == "exported":
        left_out = bool(manifest.facts.get("share_left_out"))
        own = model if model is not None else _settings_of(manifest.model)
        return _audit(_data_of(folder), where, own, settings, read, selective=left_out)
    if stage in ("samples", "evaluated", "anchors", "trained"):
        raise InputError(f"a folder of the stage {stage!r} holds no training data", where=where)
    is_task = isinstance(data, str) and data.startswith(_TASK)
    if not isinstance(data, Rows) and stage is None and not is_task:
        from tokensieve.data.formats import find

        source = find(data, read)
        head = next(iter(source.iterate()), None)
        if isinstance(head, Located) and holds_labels(head.record):
            return _audit(source, source.where, model, settings, read)
    if model is None:
        raise InputError("the data is not scored yet, and no model is given", where=str(data), fix=_NEEDS_MODEL)
    _refuse(settings, _OF_AUDITS, "on data without labels")
    from tokensieve.models import load_model
    from tokensieve.pipeline import load
    from tokensieve.scoring import score

    loaded = load_model(model)
    scored = score(load(data, loaded, read), loaded, progress=progress)
    return profile_scored(scored, str(folder or type(data).__name__), loaded, settings)


def _manifest_in(folder: Path | None) -> Manifest | None:
    """The manifest of a finished stage's folder; None for data of another kind."""
    return read_manifest(folder) if folder is not None and (folder / MANIFEST_NAME).is_file() else None


def _model_of(manifest: Manifest, model: "ModelLike | None", where: str) -> "NamedModel":
    """The model that was given, if the rows were made with its tokenizer, else the one that the manifest names.

    Raises:
        InputError: another tokenizer or chat template, or no model is known.
    """
    from tokensieve.data.hashing import refuse_another_tokenizer
    from tokensieve.pipeline import tokenizer_of

    own = _settings_of(manifest.model)
    if model is not None:
        given = _named(model)
        refuse_another_tokenizer(
            manifest.model, tokenizer_of(given)[1], fix=f"leave --model out: {where} names its own"
        )
        return given
    if own is None:
        raise InputError("the manifest names no model", where=where, fix="--model NAME")
    return own


def _named(model: "ModelLike") -> "NamedModel":
    from tokensieve.models import LoadedModel, load_model

    if isinstance(model, str | Path):
        return str(model)
    return model if isinstance(model, ModelSettings | LoadedModel) else load_model(model)


def _settings_of(identity: ModelIdentity | None) -> ModelSettings | None:
    """Settings of the model that a manifest names."""
    if identity is None:
        return None
    given = {"model": identity.name, "revision": identity.revision, "template_kwargs": identity.template_kwargs}
    return ModelSettings.model_validate(given)


def _audit(
    source: "Source",
    where: str,
    model: "ModelLike | None",
    settings: InspectSettings,
    read: DataSettings,
    *,
    selective: bool = False,
) -> MaskAudit:
    from tokensieve.inspection.row_layout import response_finder
    from tokensieve.models import LoadedModel, load_chat, settings_of

    _refuse(settings, _OF_PROFILES, "on rows that have labels")
    _refuse_reading(read, ("split", "limit"), "on rows that have labels")
    if model is None:
        raise InputError(
            "the rows are tokenised already, and no model is given whose chat template they are held against",
            where=where,
            fix=_NEEDS_MODEL,
        )
    known = _named(model)
    if isinstance(known, LoadedModel):
        chat, name = known.chat, known.identity.name
    else:
        chosen = settings_of(known)
        chat, name = load_chat(chosen), chosen.model
    head = next(iter(source.iterate()), None)

    def rows() -> Iterator[LabelRow]:
        return read_rows(islice(source.iterate(), read.limit), source.name)

    unread = unread_columns(head.record) if isinstance(head, Located) else []
    return audit(
        rows,
        response_finder(chat),
        source=where,
        model=name,
        labels=settings.labels,
        selective=selective,
        unread=tuple(unread),
    )


def _data_of(folder: Path) -> "Source":
    """The rows of an export's folder."""
    from tokensieve.data.formats import find
    from tokensieve.exports import DATA

    place = next((folder / path for path in DATA.values() if (folder / path).exists()), None)
    if place is None:
        raise InputError("the export's data is missing", where=str(folder), fix="tokensieve export again")
    return find(place, DataSettings())


def _refuse(settings: InspectSettings, names: Sequence[str], where: str) -> None:
    """Raise for a setting that was changed and has no effect."""
    _refuse_changed(settings, InspectSettings(), names, where)


def _refuse_reading(read: DataSettings, heeded: Sequence[str], where: str) -> None:
    names = [name for name in DataSettings.model_fields if name not in heeded]
    _refuse_changed(read, DataSettings(), names, where)


def _refuse_changed(given: BaseModel, default: BaseModel, names: Sequence[str], where: str) -> None:
    changed = [name for name in names if getattr(given, name) != getattr(default, name)]
    if changed:
        option = changed[0].replace("_", "-")
        raise InputError(f"--{option} has no effect {where}", where=f"--{option}", fix=f"leave --{option} out")
