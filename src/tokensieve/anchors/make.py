"""From a model and its training rows to a folder of anchors: candidates, pilot, drift, choice, distributions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol, cast

import numpy as np

from tokensieve.anchors.candidates import Candidates, candidates_folder, find_candidates
from tokensieve.anchors.clusters import cluster
from tokensieve.anchors.cost import Phase, estimate_seconds
from tokensieve.config import AnchorSettings, LoraSettings, ModelSettings, TrainSettings, as_settings
from tokensieve.data.dataset import Rows, ShardRun, as_rows
from tokensieve.data.manifest import MANIFEST_NAME, Counts, Manifest, digest_of, package_versions
from tokensieve.drift import row_divergences, tuned_settings
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel, load_model, settings_of
from tokensieve.pipeline import first
from tokensieve.scoring.response_states import top_log_probs
from tokensieve.training import train
from tokensieve.training.anchor_choice import CANDIDATES, Choice, choose
from tokensieve.types import JSON, Anchor, IntArray, Progress, Selected, Tokens

_CLUSTERS: Final = 8
_SHARD_ROWS: Final = 128
_SHOWN: Final = 240
"""Characters of an example."""


class AnchorWatcher(Protocol):
    """Whoever is told how a search for anchors goes; the command line prints it."""

    def planned(self, seconds: Mapping[Phase, float]) -> None:
        """The phases that are to come, with a rough time for each; those done by an earlier call are left out."""

    def advanced(self, phase: Phase, done: int, total: int) -> None:
        """Work inside a phase: drawn turns or prompts, steps of the pilot, rows measured."""


class Silent:
    """A watcher that says nothing."""

    def planned(self, seconds: Mapping[Phase, float]) -> None:
        """Nothing."""

    def advanced(self, phase: Phase, done: int, total: int) -> None:
        """Nothing."""


def make_anchors(
    rows: Rows[Selected] | str | Path | None,
    model: LoadedModel | ModelSettings | str | Path,
    settings: AnchorSettings | Mapping[str, object] | None = None,
    out: str | Path = "anchors",
    *,
    work: Path | None = None,
    watcher: AnchorWatcher | None = None,
) -> Rows[Anchor]:
    """Choose the rows on which a model in training should be held to its base.

    A short pilot is trained on the first training rows; the candidates on which it has drifted most from the base, in
    forward KL per token, become anchors, and some are drawn at random beside them. The base's distribution at every
    response token of an anchor is stored (top k entries), so that training needs no second model in memory.

    Args:
        rows: training rows as ``select`` has made them; None where ``settings.pilot.adapter`` names a finished run.
        model: the base.
        settings: candidates, pilot and choice.
        out: folder of the result; with ``settings.refreshable`` all candidates lie in a folder inside it.
        work: folder in which candidates and pilot are kept, so that a killed call goes on and another one with the same
            base, rows and settings uses them again; None is a hidden folder beside ``out``.
        watcher: told what is to come, and how far it is.

    Returns:
        The anchors in the order of the candidates. The manifest's counts begin at what was drawn; its facts hold the
        mean drift of candidates and anchors and the clusters of prompts: share among candidates and anchors, drift,
        examples.

    Raises:
        InputError: no training rows and no pilot, or as in drawing, training and measuring.
        EnvironmentProblem: no memory or disk space.
    """
    settings = as_settings(AnchorSettings, settings, "settings")
    rows = None if rows is None else as_rows(Selected, rows)
    out, watcher = Path(out), watcher or Silent()
    base_settings = settings_of(model)
    if rows is None and settings.pilot.adapter is None:
        raise InputError(
            "expected training rows for the pilot", fix="give the folder of select, or --pilot.adapter RUN"
        )
    if settings.pilot.adapter is not None:
        rows = None
    base = load_model(base_settings)
    draft = Manifest(
        stage="anchors",
        settings=cast("dict[str, JSON]", settings.model_dump(mode="json")),
        inputs={} if rows is None else {"rows": rows.manifest.digest},
        model=base.identity,
        versions=dict(package_versions()),
        seed=settings.seed,
    )
    work = work or out.parent / f".{out.name}.anchors"
    with ShardRun[Anchor](out, draft) as run:
        if run.finished is not None:
            return run.finished
        pilot = settings.pilot.adapter or _pilot_folder(cast("Rows[Selected]", rows), base, settings, work)
        watcher.planned(_planned(rows, base, settings, work, pilot))
        candidates = find_candidates(base, settings, work, _told(watcher, "candidates"))
        if rows is not None:
            train_pilot(rows, base, base_settings, settings, work, _told(watcher, "pilot"))
        watcher.advanced("drift", 0, len(candidates.rows))
        found = row_divergences(candidates.rows, base, tuned_settings(str(pilot), base_settings))
        drifts = [row.mean_kl for row in found]
        choices = choose(drifts, settings.count, settings.random_share, settings.seed)
        if settings.refreshable:
            _keep_candidates(candidates, drifts, choices, base, settings, draft, out / CANDIDATES)
        run.make(
            (choices[start : start + _SHARD_ROWS] for start in range(0, len(choices), _SHARD_ROWS)),
            lambda shard: _anchors(candidates.rows, drifts, shard, base, settings),
        )
        watcher.advanced("drift", len(candidates.rows), len(candidates.rows))
        left = len(candidates.rows) - len(choices)
        counts = Counts(
            rows_in=candidates.drawn, rows_out=len(choices), dropped={**candidates.dropped, "not chosen": left}
        )
        return run.finish(counts, _facts(candidates.rows, drifts, choices, base, settings.seed))


def _told(watcher: AnchorWatcher, phase: Phase) -> Progress:
    return lambda done, total: watcher.advanced(phase, done, total)


def train_pilot(
    rows: Rows[Selected],
    loaded: LoadedModel,
    base: ModelSettings,
    settings: AnchorSettings,
    work: Path,
    progress: Progress | None = None,
) -> Path:
    """Train the pilot, a short run on the first training rows; returns its folder inside ``work``.

    Args:
        rows: training rows.
        loaded: the base, loaded.
        base: settings of the base.
        settings: hold the pilot's.
        work: folder of pilots, named by what they were made of; one that is there already is taken.
        progress: called with the steps done and those in all.
    """
    folder = _pilot_folder(rows, loaded, settings, work)
    return train(first(rows, settings.pilot.rows), base, _pilot_settings(settings), folder, progress).folder


def _planned(
    rows: Rows[Selected] | None, base: LoadedModel, settings: AnchorSettings, work: Path, pilot: Path
) -> Mapping[Phase, float]:
    """Seconds of the phases that no earlier call has done."""
    done = {"pilot"} if (pilot / MANIFEST_NAME).is_file() else set()
    if any(candidates_folder(base, settings, work).glob(f"**/rows/{MANIFEST_NAME}")):
        done.add("candidates")
    seconds = estimate_seconds(settings, base, rows)
    return {phase: needed for phase, needed in seconds.items() if needed and phase not in done}


def _keep_candidates(
    candidates: Candidates,
    drifts: Sequence[float],
    choices: Sequence[Choice],
    base: LoadedModel,
    settings: AnchorSettings,
    draft: Manifest,
    out: Path,
) -> None:
    """All candidates with their distributions, for a choice that is made again while training."""
    at_random = {choice.index for choice in choices if choice.at_random}
    every = [Choice(index, index in at_random) for index in range(len(candidates.rows))]
    with ShardRun[Anchor](out, draft) as run:
        if run.finished is None:
            run.make(
                (every[start : start + _SHARD_ROWS] for start in range(0, len(every), _SHARD_ROWS)),
                lambda shard: _anchors(candidates.rows, drifts, shard, base, settings),
            )
            run.finish(Counts(rows_in=len(every), rows_out=len(every)))


def _pilot_settings(settings: AnchorSettings) -> TrainSettings:
    pilot = settings.pilot
    return TrainSettings(
        method=pilot.method,
        learning_rate=pilot.learning_rate,
        epochs=1,
        batch_size=pilot.batch_size,
        warmup_steps=0,
        seed=settings.seed,
        lora=LoraSettings(),
    )


def _pilot_folder(rows: Rows[Selected], base: LoadedModel, settings: AnchorSettings, work: Path) -> Path:
    """Folder of a short run on the first training rows, named after all that decides it."""
    run = {
        "base": base.identity.model_dump(mode="json"),
        "rows": first(rows, settings.pilot.rows).manifest.digest,
        "settings": _pilot_settings(settings).model_dump(mode="json"),
    }
    return work / f"pilot-{digest_of(run)[:12]}"


def _anchors(
    candidates: Sequence[Tokens],
    drifts: Sequence[float],
    choices: Sequence[Choice],
    base: LoadedModel,
    settings: AnchorSettings,
) -> list[Anchor]:
    chosen = [candidates[choice.index] for choice in choices]
    return [
        Anchor(row, ids_NK, log_p_NK, drifts[choice.index], choice.at_random)
        for row, choice, (ids_NK, log_p_NK) in zip(
            chosen, choices, top_log_probs(chosen, base, settings.top_k), strict=True
        )
    ]


def _facts(
    candidates: Sequence[Tokens], drifts: Sequence[float], choices: Sequence[Choice], base: LoadedModel, seed: int
) -> dict[str, JSON]:
    """Mean drift, and by cluster of prompts how many candidates and anchors it has."""
    prompts = [_prompt(row) for row in candidates]
    chosen = {choice.index for choice in choices}

    def shown(index: int) -> str:
        text = base.tokenizer.decode(prompts[index].tolist(), skip_special_tokens=True)
        return " ".join(text.split())[:_SHOWN]

    clusters: list[dict[str, JSON]] = []
    for one in cluster(prompts, _CLUSTERS, seed):
        clusters.append(
            {
                "candidates": len(one.members),
                "anchors": sum(index in chosen for index in one.members),
                "drift": _mean([drifts[index] for index in one.members]),
                "examples": [shown(index) for index in one.typical],
            }
        )
    return {
        "candidates": len(candidates),
        "drift_of_candidates": _mean(drifts),
        "drift_of_anchors": _mean([drifts[choice.index] for choice in choices]),
        "anchors_at_random": sum(choice.at_random for choice in choices),
        "clusters": [*sorted(clusters, key=lambda entry: -cast(float, entry["drift"] or 0.0))],
    }


def _prompt(row: Tokens) -> IntArray:
    """Token ids before the first response token; the whole row where that is no more than a begin-of-text token."""
    start = int(np.argmax(row.in_response_T))
    return row.ids_T[:start] if start > 1 else row.ids_T


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else None
