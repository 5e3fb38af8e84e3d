"""From a model and its training rows to a folder of anchors: candidates, pilot, drift, choice, distributions."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import numpy as np

from tokensieve.anchors.choose import Choice, choose
from tokensieve.anchors.clusters import cluster
from tokensieve.config import AnchorSettings, DriftSettings, LoraSettings, ModelSettings, TrainSettings, as_settings
from tokensieve.data.dataset import Rows, ShardRun, as_rows
from tokensieve.data.manifest import Counts, Manifest, digest_of, package_versions
from tokensieve.drift import probe_sets, row_divergences, tuned_settings
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel, load_model, settings_of
from tokensieve.pipeline import first
from tokensieve.scoring.response_states import top_log_probs
from tokensieve.training import train
from tokensieve.types import JSON, Anchor, Selected, Tokens

_CLUSTERS: Final = 8
_SHARD_ROWS: Final = 128


def make_anchors(
    rows: Rows[Selected] | str | Path | None,
    model: LoadedModel | ModelSettings | str | Path,
    settings: AnchorSettings | Mapping[str, object] | None = None,
    out: str | Path = "anchors",
    *,
    work: Path | None = None,
) -> Rows[Anchor]:
    """Choose the rows on which a model in training should be held to its base.

    A short pilot is trained on the first training rows; the candidates on which it has drifted most from the base, in
    forward KL per token, become anchors, and some are drawn at random beside them. The base's distribution at every
    response token of an anchor is stored (top k entries), so that training needs no second model in memory.

    Args:
        rows: training rows as ``select`` has made them; None where ``settings.pilot.adapter`` names a finished run.
        model: the base.
        settings: candidates, pilot and choice.
        out: folder of the result.
        work: folder in which candidates and pilot are kept, so that a killed call goes on and another one with the same
            base, rows and settings uses them again; None is a hidden folder beside ``out``.

    Returns:
        The anchors in the order of the candidates. The manifest's facts hold the mean drift of candidates and anchors
        and the clusters of prompts: share among candidates and anchors, drift, an example.

    Raises:
        InputError: no training rows and no pilot, or as in drawing, training and measuring.
        EnvironmentProblem: no memory or disk space.
    """
    settings = as_settings(AnchorSettings, settings, "settings")
    rows = None if rows is None else as_rows(Selected, rows)
    out = Path(out)
    base_settings = settings_of(model)
    if rows is None and settings.pilot.adapter is None:
        raise InputError(
            "expected training rows for the pilot", fix="give the folder of select, or --pilot.adapter RUN"
        )
    base = load_model(base_settings)
    inputs = {"rows": rows.manifest.digest} if rows is not None and settings.pilot.adapter is None else {}
    draft = Manifest(
        stage="anchors",
        settings=cast("dict[str, JSON]", settings.model_dump(mode="json")),
        inputs=inputs,
        model=base.identity,
        versions=dict(package_versions()),
        seed=settings.seed,
    )
    work = work or out.parent / f".{out.name}.anchors"
    with ShardRun[Anchor](out, draft) as run:
        if run.finished is not None:
            return run.finished
        candidates = _candidates(base, settings, work)
        pilot = settings.pilot.adapter or train_pilot(cast("Rows[Selected]", rows), base, base_settings, settings, work)
        found = row_divergences(candidates, base, tuned_settings(str(pilot), base_settings))
        drifts = [row.mean_kl for row in found]
        choices = choose(drifts, settings.count, settings.random_share, settings.seed)
        run.make(
            (choices[start : start + _SHARD_ROWS] for start in range(0, len(choices), _SHARD_ROWS)),
            lambda shard: _anchors(candidates, drifts, shard, base, settings),
        )
        facts = _facts(candidates, drifts, choices, base, settings.seed)
        counts = Counts(
            rows_in=len(candidates), rows_out=len(choices), dropped={"not chosen": len(candidates) - len(choices)}
        )
        return run.finish(counts, facts)


def _candidates(base: LoadedModel, settings: AnchorSettings, work: Path) -> list[Tokens]:
    """Rows to choose from, as the settings' source says."""
    if settings.source != "dialogues" and settings.data is None:
        raise InputError(f"source {settings.source} needs a data set", where="anchors.data", fix="--data DATA")
    probes = DriftSettings(
        dialogues=settings.candidates if settings.source == "dialogues" else 0,
        prompts=settings.data if settings.source == "answers" else None,
        rows=settings.data if settings.source == "rows" else None,
        limit=settings.candidates,
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
        seed=settings.seed,
    )
    drawn = digest_of({"base": base.identity.model_dump(mode="json"), "rows": probes.model_dump(mode="json")})
    (rows,) = probe_sets(base, probes, work / f"candidates-{drawn[:12]}").values()
    return rows


def train_pilot(
    rows: Rows[Selected], loaded: LoadedModel, base: ModelSettings, settings: AnchorSettings, work: Path
) -> Path:
    """Train the pilot, a short run on the first training rows; returns its folder inside ``work``.

    Args:
        rows: training rows.
        loaded: the base, loaded.
        base: settings of the base.
        settings: hold the pilot's.
        work: folder of pilots, named by what they were made of; one that is there already is taken.
    """
    pilot = settings.pilot
    short = TrainSettings(
        method=pilot.method,
        learning_rate=pilot.learning_rate,
        epochs=1,
        batch_size=pilot.batch_size,
        warmup_steps=0,
        seed=settings.seed,
        lora=LoraSettings(),
    )
    trained = first(rows, pilot.rows)
    run = {"base": loaded.identity.model_dump(mode="json"), "rows": trained.manifest.digest}
    name = digest_of({**run, "settings": short.model_dump(mode="json")})
    return train(trained, base, short, work / f"pilot-{name[:12]}").folder


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
    prompts = [row.ids_T[: int(np.argmax(row.in_response_T))] for row in candidates]
    chosen = {choice.index for choice in choices}
    clusters: list[dict[str, JSON]] = []
    for one in cluster(prompts, _CLUSTERS, seed):
        example = base.tokenizer.decode(prompts[one.centre].tolist(), skip_special_tokens=True)
        clusters.append(
            {
                "candidates": len(one.members),
                "anchors": sum(index in chosen for index in one.members),
                "drift": _mean([drifts[index] for index in one.members]),
                "example": " ".join(example.split())[:160],
            }
        )
    return {
        "drift_of_candidates": _mean(drifts),
        "drift_of_anchors": _mean([drifts[choice.index] for choice in choices]),
        "anchors_at_random": sum(choice.at_random for choice in choices),
        "clusters": [*sorted(clusters, key=lambda entry: -cast(float, entry["drift"] or 0.0))],
    }


def _mean(values: Sequence[float]) -> float | None:
    known = [value for value in values if value == value]
    return float(np.mean(known)) if known else None
