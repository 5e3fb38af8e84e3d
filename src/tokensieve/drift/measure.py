"""Drift of a tuned model from its base in nats per token: forward KL and change of nll, without a benchmark."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import BaseModel, ValidationError

from tokensieve import metrics
from tokensieve.config import STRICT, DriftSettings, ModelSettings, as_settings
from tokensieve.data.hashing import cache_folder
from tokensieve.data.manifest import digest_of, write_atomically
from tokensieve.drift.divergence import BaseStates, RowDivergence
from tokensieve.drift.probe_rows import answer_rows, dialogue_rows, text_rows
from tokensieve.errors import InputError
from tokensieve.metrics import Estimate
from tokensieve.models import LoadedModel, context_length, load_model
from tokensieve.pipeline import load
from tokensieve.pipeline.rows import tell_unread
from tokensieve.types import Tokens

RESULT_NAME: Final = "drift.json"


class ProbeDrift(BaseModel):
    """Drift on one set of rows.

    The interval is a percentile bootstrap over rows (a row's tokens belong together), of the ratio of sums.
    """

    model_config = STRICT

    name: str
    """Name of the set: dialogues, answers, rows or text."""
    rows: int
    """Rows with at least one response token."""
    tokens: int
    """Response tokens."""
    kl: Estimate
    """Forward KL(base || tuned), nats per token."""
    nll_change: Estimate
    """Mean nll under the tuned model minus that under the base, nats per token."""
    base_perplexity: float | None
    """exp of the mean nll under the base."""
    tuned_perplexity: float | None
    """exp of the mean nll under the tuned model."""


class Drift(BaseModel):
    """Result of ``tokensieve drift``; its JSON is ``drift.json``."""

    model_config = STRICT

    base: str
    tuned: str
    settings: DriftSettings
    probes: tuple[ProbeDrift, ...]
    """One entry a set of rows."""


def measure_drift(
    base: LoadedModel | ModelSettings | str,
    tuned: LoadedModel | ModelSettings | str,
    settings: DriftSettings | Mapping[str, object] | None = None,
    out: str | Path | None = None,
) -> Drift:
    """Measure how far a tuned model has moved from its base, without any benchmark.

    Forward KL(base || tuned) in nats per token on the base's own samples, which predicts forgetting across fine-tuning
    methods (RL's Razor, arXiv 2509.04259), and the change of nll on the same tokens. Rows are drawn from the base once
    and kept, so that several tuned models are measured on the same ones.

    Args:
        base: the model before training.
        tuned: the model after training; same tokenizer and vocabulary.
        settings: the rows; the default draws self-dialogues.
        out: folder for the drawn rows and ``drift.json``; None keeps the drawn rows in the user's cache.

    Raises:
        InputError: other tokenizers or vocabularies, no rows, an ``out`` with another pair's result, or as in
            ``load_model`` and in reading the data.
        EnvironmentProblem: no memory or disk space, or as in ``load_model``.
    """
    settings = as_settings(DriftSettings, settings, "settings")
    out = None if out is None else Path(out)
    if out is not None:
        _check_place(out / RESULT_NAME, _base_name(base), _name_of(tuned))
    if not isinstance(tuned, LoadedModel):
        context_length(tuned)  # a model that is not there is found before the base has drawn its rows
    result = DriftProbe(base, settings, out).measure(tuned)
    if out is not None:
        write_atomically(out / RESULT_NAME, result.model_dump_json(indent=2).encode())
    return result


class DriftProbe:
    """Rows of a base and its hidden states on them, made once; measures any number of tuned models.

    Args:
        base: the model before training; loaded once where it is not, and not kept.
        settings: the rows.
        folder: for the drawn rows; None is the user's cache.

    Raises:
        InputError: as in ``probe_sets`` and ``load_model``.
    """

    def __init__(
        self, base: LoadedModel | ModelSettings | str, settings: DriftSettings, folder: Path | None = None
    ) -> None:
        loaded = load_model(base)
        self._name, self._settings = loaded.identity.name, settings
        sets = probe_sets(loaded, settings, folder or _cached(loaded, settings))
        self._lengths = {key: len(rows) for key, rows in sets.items()}
        self._states = BaseStates([row for rows in sets.values() for row in rows], loaded)

    def measure(self, tuned: LoadedModel | ModelSettings | str) -> Drift:
        """Drift of one tuned model.

        Raises:
            InputError: another tokenizer or vocabulary, or as in ``load_model``.
        """
        found = iter(self._states.compare(tuned))
        probes = tuple(summarise(key, [next(found) for _ in range(size)]) for key, size in self._lengths.items())
        return Drift(base=self._name, tuned=_name_of(tuned), settings=self._settings, probes=probes)


def _base_name(base: LoadedModel | ModelSettings | str) -> str:
    if isinstance(base, LoadedModel):
        return base.identity.name
    return base if isinstance(base, str) else base.model


def _check_place(path: Path, base: str, tuned: str) -> None:
    """Refuse a place whose result is of another pair of models, or was not written by ``measure_drift``."""
    if not path.is_file():
        return
    try:
        there = Drift.model_validate_json(path.read_bytes())
    except ValidationError:
        there = None
    if there is None or (there.base, there.tuned) != (base, tuned):
        held = "something else" if there is None else f"the drift of {there.tuned} from {there.base}"
        raise InputError(f"the file holds {held}, and would be overwritten", where=str(path), fix="another --out")


def tuned_settings(tuned: str, base: ModelSettings) -> ModelSettings:
    """Settings that load a tuned model: an adapter on the base, or a whole model with the base's dtype and device.

    Args:
        tuned: a folder or Hub name of an adapter, or of a whole model; a folder counts as an adapter where it holds
            ``adapter_config.json``.
        base: settings of the model before training.
    """
    if (Path(tuned) / "adapter_config.json").is_file():
        return base.model_copy(update={"adapter": tuned})
    return base.model_copy(update={"model": tuned, "revision": None, "adapter": None})


def probe_sets(base: LoadedModel, settings: DriftSettings, folder: Path) -> dict[str, list[Tokens]]:
    """The rows that the settings ask for, by name of their set; drawn ones are kept in ``folder``.

    Raises:
        InputError: no set is asked for, or one has no response token.
    """
    sets: dict[str, list[Tokens]] = {}
    if settings.dialogues and settings.rows is None:
        sets["dialogues"] = list(dialogue_rows(base, settings, folder / "dialogues"))
    if settings.prompts is not None:
        sets["answers"] = list(answer_rows(settings.prompts, base, settings, folder / "answers"))
    if settings.rows is not None:
        rows_read = load(settings.rows, base)
        tell_unread(settings.rows, rows_read.manifest.facts.get("noted"))
        sets["rows"] = list(rows_read)[: settings.limit]
    if settings.text is not None:
        sets["text"] = text_rows(settings.text, base.tokenizer, settings.limit)
    for name, rows in sets.items():
        if not any(row.in_response_T[1:].any() for row in rows):
            raise InputError(f"the set {name!r} has no response token to measure on", fix="other rows, or more of them")
    if not sets:
        raise InputError(
            "no rows to measure drift on", fix="--dialogues 128, --prompts DATA, --rows DATA or --text FILE"
        )
    return sets


def summarise(name: str, rows: Iterable[RowDivergence], *, seed: int = 0) -> ProbeDrift:
    """Means per token over rows, with bootstrap intervals over rows."""
    kept = [row for row in rows if len(row.kl_N)]
    tokens_R = np.array([len(row.kl_N) for row in kept], dtype=np.float64)
    kl_R = np.array([row.kl_N.sum(dtype=np.float64) for row in kept])
    base_R = np.array([row.base_nll_N.sum(dtype=np.float64) for row in kept])
    tuned_R = np.array([row.tuned_nll_N.sum(dtype=np.float64) for row in kept])
    return ProbeDrift(
        name=name,
        rows=len(kept),
        tokens=int(tokens_R.sum()),
        kl=metrics.mean_per_token(kl_R, tokens_R, seed=seed),
        nll_change=metrics.mean_per_token(tuned_R - base_R, tokens_R, seed=seed),
        base_perplexity=_finite(float(np.exp(base_R.sum() / tokens_R.sum()))) if kept else None,
        tuned_perplexity=_finite(float(np.exp(tuned_R.sum() / tokens_R.sum()))) if kept else None,
    )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _name_of(model: LoadedModel | ModelSettings | str) -> str:
    if isinstance(model, str):
        return model
    settings = model.settings if isinstance(model, LoadedModel) else model
    return settings.adapter or settings.model


def _cached(base: LoadedModel, settings: DriftSettings) -> Path:
    """Folder in the user's cache for the rows that this base draws under these settings."""
    drawn = settings.model_dump(mode="json", exclude={"rows", "text", "data"})
    return cache_folder() / "drift" / digest_of({"base": base.identity.model_dump(mode="json"), **drawn})[:16]
