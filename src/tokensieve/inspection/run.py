"""Inspect: a profile of data that is scored or will be, or an audit of labels that another tool made."""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from pydantic import BaseModel

from tokensieve.config import DataSettings, InspectSettings, SelectSettings, as_settings
from tokensieve.data.dataset import Rows, open_rows
from tokensieve.data.formats.files import Located
from tokensieve.data.manifest import MANIFEST_NAME, ModelIdentity, read_manifest
from tokensieve.errors import InputError
from tokensieve.inspection.advice import Facts, advise
from tokensieve.inspection.audit import audit
from tokensieve.inspection.label_rows import LabelRow, holds_labels, read_rows, unread_columns
from tokensieve.inspection.own_answers import compare_answers, score_answers
from tokensieve.inspection.results import Inspection, MaskAudit, OwnAnswers
from tokensieve.inspection.survey import survey
from tokensieve.selection import parse_policy
from tokensieve.selection.policy import Traits, protected_T
from tokensieve.types import Progress, Scored, Selected

if TYPE_CHECKING:
    from tokensieve.data.arrow_io import StageRow
    from tokensieve.data.formats import Source
    from tokensieve.data.formats.sources import Data
    from tokensieve.models import ModelLike

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
    stage = None
    if isinstance(data, Rows):
        stage = data.manifest.stage
    elif folder is not None and (folder / MANIFEST_NAME).is_file():
        stage = read_manifest(folder).stage
    if stage in ("scored", "selected"):
        rows = data if isinstance(data, Rows) else open_rows(cast(Path, folder))
        return _profile_rows(
            cast("Rows[StageRow]", rows), str(folder or "rows"), model, settings, read, score_read=False
        )
    if stage == "exported":
        made = read_manifest(cast(Path, folder))
        left_out = bool(made.facts.get("share_left_out"))
        source = _data_of(cast(Path, folder))
        return _audit(source, str(folder), model or _named(made.model), settings, read, selective=left_out)
    if stage in ("samples", "evaluated", "anchors", "trained"):
        raise InputError(f"a folder of the stage {stage!r} holds no training data", where=str(folder))
    is_task = isinstance(data, str) and data.startswith(_TASK)
    if stage is None and not is_task:
        from tokensieve.data.formats import find

        source = find(cast("Data", data), read)
        head = next(iter(source.iterate()), None)
        if isinstance(head, Located) and holds_labels(head.record):
            return _audit(source, source.where, model, settings, read)
    if model is None:
        raise InputError("the data is not scored yet, and no model is given", where=str(data), fix=_NEEDS_MODEL)
    from tokensieve.models import load_model
    from tokensieve.pipeline import load
    from tokensieve.scoring import score

    loaded = load_model(model)
    scored = score(load(cast("Data", data), loaded, read), loaded, progress=progress)
    return _profile_rows(scored, str(folder or type(data).__name__), loaded, settings, read, score_read=True)


# --- profile --------------------------------------------------------------------------------------------------------


def _profile_rows(
    rows: "Rows[StageRow] | Rows[Scored]",
    source: str,
    model: "ModelLike | None",
    settings: InspectSettings,
    read: DataSettings,
    *,
    score_read: bool,
) -> Inspection:
    """Profile scored or selected rows; ``score_read`` says that reading has heeded its settings already."""
    from tokensieve.pipeline import first, select, tokenizer_of

    _refuse(settings, _OF_AUDITS, "on data without labels")
    if not score_read:
        _refuse_reading(read, ("limit",), "on the folder of a stage")
    made_by = rows.manifest.model
    if model is not None and not score_read:
        _check_tokenizer(made_by, model, source)
    chosen = model if model is not None else _named(made_by)
    if chosen is None:
        raise InputError("the manifest names no model", where=source, fix="--model NAME")
    tokenizer = tokenizer_of(cast("str", chosen))[0]
    limited = rows if score_read else first(cast("Rows[Scored]", rows), read.limit)
    with ExitStack() as stack:
        if rows.manifest.stage == "selected":
            _refuse(settings, ("policy",), "on a folder that select made, which has its own")
            selected = cast("Rows[Selected]", limited)
        else:
            # Decided where select decides; on disk, so that memory does not grow with the rows.
            place = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "selected"
            selected = select(cast("Rows[Scored]", limited), SelectSettings(policy=settings.policy), place)
        return _profiled(selected, source, chosen, settings, lambda token: str(tokenizer.decode([token])))


@dataclass(frozen=True, slots=True)
class _Decided:
    """A selection's settings and facts, as its manifest tells them."""

    settings: SelectSettings
    threshold_nats: float
    error_nats: float
    structure: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, rows: Rows[Selected]) -> "_Decided":
        """Read the manifest."""
        written, facts = rows.manifest.settings, rows.manifest.facts
        known = {key: value for key, value in written.items() if key in SelectSettings.model_fields}
        if known.get("paper_exact"):
            known.pop("protect", None)
        threshold = facts.get("threshold_nats")
        error = facts.get("nll_error_nats")
        return cls(
            settings=SelectSettings.model_validate(known),
            threshold_nats=float(threshold) if isinstance(threshold, int | float) else math.inf,
            error_nats=float(error) if isinstance(error, int | float) else 1e-5,
            structure=cast("Mapping[str, Sequence[int]]", facts.get("structure_ids") or {}),
        )


def _profiled(
    rows: Rows[Selected], source: str, model: "ModelLike", settings: InspectSettings, piece: Callable[[int], str]
) -> Inspection:
    decided = _Decided.of(rows)
    text = lru_cache(maxsize=None)(piece)  # at most one entry for each of the vocabulary
    found = survey(
        lambda: iter(rows),
        scorer=decided.settings.scorer,
        thresholds=settings.thresholds,
        threshold_nats=decided.threshold_nats,
        error_nats=decided.error_nats,
        piece=text,
        protected_T=lambda tokens: protected_T(tokens, decided.settings, decided.structure),
        top=settings.top,
    )
    own: OwnAnswers | None = None
    if settings.own_answers is not None:
        answers = score_answers(settings.own_answers, model)
        own = compare_answers(rows, decided.settings.scorer, answers, settings.top)
        if not own.rows:
            raise InputError(
                f"no answer has the id of a row; an answer's is {answers[0].tokens.id if answers else 'not there'}",
                where=str(settings.own_answers),
                fix="tokensieve generate for the same task and split",
            )
    return Inspection(
        source=source,
        policy=decided.settings.policy,
        model=rows.manifest.model,
        profile=found.whole,
        sources=found.sources,
        classes=found.classes,
        most_masked=found.most_masked,
        most_affected=found.most_affected,
        near=found.near,
        protected=found.protected,
        own_answers=own,
        advice=advise(Facts(found, _traits(decided.settings.policy), own)),
        dropped=dict(rows.manifest.counts.dropped),
    )


def _traits(policy: str) -> Traits:
    """A policy's answers about itself; those of none in particular for a function of the user's own."""
    try:
        return parse_policy(policy).traits
    except InputError:
        return Traits()


def _check_tokenizer(made_by: ModelIdentity | None, model: "ModelLike", source: str) -> None:
    from tokensieve.data.hashing import refuse_another_tokenizer
    from tokensieve.pipeline import tokenizer_of

    refuse_another_tokenizer(
        made_by, tokenizer_of(cast("str", model))[1], fix=f"leave --model out: {source} names its own"
    )


def _named(identity: ModelIdentity | None) -> "ModelLike | None":
    """Settings of the model that a manifest names."""
    from tokensieve.config import ModelSettings

    if identity is None:
        return None
    given = {"model": identity.name, "revision": identity.revision, "template_kwargs": identity.template_kwargs}
    return ModelSettings.model_validate(given)


# --- audit ----------------------------------------------------------------------------------------------------------


def _audit(
    source: "Source",
    where: str,
    model: "ModelLike | None",
    settings: InspectSettings,
    read: DataSettings,
    *,
    selective: bool = False,
) -> MaskAudit:
    from tokensieve.inspection.response_ids import response_finder
    from tokensieve.models import LoadedModel, load_chat, load_model, settings_of

    _refuse(settings, _OF_PROFILES, "on rows that have labels")
    _refuse_reading(read, ("split", "limit"), "on rows that have labels")
    if model is None:
        raise InputError(
            "the rows are tokenised already, and no model is given whose chat template they are held against",
            where=where,
            fix=_NEEDS_MODEL,
        )
    if not isinstance(model, BaseModel | str | Path | LoadedModel):
        model = load_model(model)
    if isinstance(model, LoadedModel):
        chat, name = model.chat, model.identity.name
    else:
        chosen = settings_of(cast("str", model))
        chat, name = load_chat(chosen), chosen.model
    head = next(iter(source.iterate()), None)

    def rows() -> Iterator[LabelRow]:
        return read_rows(cast("Iterator[Located]", islice(source.iterate(), read.limit)), source.name)

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
