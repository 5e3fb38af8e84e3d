"""Repair after training without training: candidates on one frontier of target score against drift, one is chosen."""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
from pydantic import BaseModel

from tokensieve.config import (
    STRICT,
    DataSettings,
    EvaluateSettings,
    ModelSettings,
    RepairSettings,
    ScoreSettings,
    as_settings,
)
from tokensieve.data.listed_files import pin_call
from tokensieve.data.manifest import write_atomically
from tokensieve.drift import DriftProbe, ProbeDrift, tuned_settings
from tokensieve.errors import InputError
from tokensieve.evaluation import evaluate
from tokensieve.models import LoadedModel, load_model, settings_of
from tokensieve.pipeline import load
from tokensieve.repair.candidates import check_alpha, interpolate, reduce_intruders
from tokensieve.scoring import score
from tokensieve.types import Progress

RESULT_NAME: Final = "repair.json"


class Candidate(BaseModel):
    """One point of the frontier."""

    model_config = STRICT

    name: str
    """base, tuned, alpha 0.5, intruders 0, or the name of a checkpoint's folder."""
    folder: str | None
    """Folder of its weights; null for the base."""
    score: float
    """Accuracy on the target's validation problems (fraction), or minus the mean nll of the target rows (nats)."""
    probes: tuple[ProbeDrift, ...]
    """Drift from the base by set of rows; empty for the base."""
    chosen: bool = False

    @property
    def kl(self) -> float:
        """Mean over the sets of rows of KL(base || candidate), nats per token; 0 for the base."""
        values = [probe.kl.value for probe in self.probes if probe.kl.value is not None]
        return float(np.mean(values)) if values else 0.0


class Repair(BaseModel):
    """Result of ``tokensieve repair``; its JSON is ``repair.json``."""

    model_config = STRICT

    base: str
    tuned: str
    settings: RepairSettings
    candidates: tuple[Candidate, ...]
    rule: str
    """The rule of the choice in words."""

    @property
    def chosen(self) -> Candidate:
        """The candidate that the rule took."""
        return next(one for one in self.candidates if one.chosen)


def repair_model(
    tuned: str | Path,
    base: LoadedModel | ModelSettings | str | Path,
    settings: RepairSettings | Mapping[str, object],
    out: str | Path,
    progress: Progress | None = None,
) -> Repair:
    """Choose between a tuned model and its base, without training: least drift at nearly the best target score.

    Candidates are the tuned model, interpolations of its weights with the base's (Wortsman et al., arXiv 2109.01903),
    LoRA adapters with reduced intruder dimensions, and earlier checkpoints. Each is scored on target validation data
    and measured for drift; the base's point is shown beside them and never chosen.

    Args:
        tuned: folder of the adapter or whole model after training.
        base: the model before training.
        settings: candidates, target and rule.
        out: folder of the result: ``out/model`` is the chosen candidate as an ordinary adapter or model,
            ``out/repair.json`` the frontier. ``out/candidates`` keeps the others' evaluations and weights.
        progress: called after every candidate.

    Raises:
        InputError: no target, factors outside [0, 1], DoRA or another adapter that cannot be scaled, or an ``out``
            that holds the result of another call.
        EnvironmentProblem: as in evaluation.
    """
    settings = as_settings(RepairSettings, settings, "settings")
    if (settings.task is None) == (settings.rows is None):
        raise InputError("expected a target, either a task or rows", fix="--task NAME, or --rows DATA")
    before = settings_of(base)
    for factor in (*settings.alphas, *settings.intruders):
        check_alpha(factor)
    out, tuned = Path(out), Path(tuned)
    pin_call(out, f"{before.model_dump_json()}\n{tuned}\n{settings.model_dump_json()}\n")
    made = _candidates(tuned, before, settings, out / "candidates")
    points = [Candidate(name="base", folder=None, score=_score(before, settings, out / "scores" / "base"), probes=())]
    with DriftProbe(before, settings.drift) as probe:
        for done, (name, make) in enumerate(made.items()):
            folder = make()
            model = load_model(tuned_settings(str(folder), before))
            value = _score(model, settings, out / "scores" / name.replace(" ", "-"))
            probes = probe.measure(model).probes
            points.append(Candidate(name=name, folder=str(folder), score=value, probes=probes))
            if progress is not None:
                progress(done + 1, len(made))
    best = choose(points[1:], settings.tolerance)
    points = [one.model_copy(update={"chosen": one is best}) for one in points]
    result = Repair(base=before.model, tuned=str(tuned), settings=settings, candidates=tuple(points), rule=_RULE)
    if not (out / "model").exists():
        shutil.copytree(str(best.folder), out / "model")
    write_atomically(out / RESULT_NAME, result.model_dump_json(indent=2).encode())
    return result


_RULE: Final = "least drift among the candidates whose target score is within the tolerance of the best candidate's"


def choose(candidates: Sequence[Candidate], tolerance: float) -> Candidate:
    """The candidate of least drift among those within ``tolerance`` of the best score; ties go to the higher score."""
    best = max(one.score for one in candidates)
    near = [one for one in candidates if one.score >= best - tolerance]
    return min(near, key=lambda one: (one.kl, -one.score))


def _candidates(
    tuned: Path, base: ModelSettings, settings: RepairSettings, work: Path
) -> dict[str, Callable[[], Path]]:
    """Name of each candidate to what makes its weights."""
    made: dict[str, Callable[[], Path]] = {"tuned": lambda: tuned}
    for alpha in settings.alphas:
        write = partial(interpolate, tuned, base, alpha)
        made[f"alpha {alpha:g}"] = partial(_once, write, work / f"alpha-{alpha:g}")
    for keep in settings.intruders:
        write = partial(reduce_intruders, tuned, base, keep)
        made[f"intruders {keep:g}"] = partial(_once, write, work / f"intruders-{keep:g}")
    for checkpoint in settings.checkpoints:
        made[checkpoint.name] = partial(Path, checkpoint)
    return made


def _once(write: Callable[[Path], None], folder: Path) -> Path:
    """The folder, written whole or not at all."""
    if not folder.exists():
        draft = folder.with_name(f".{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.parent.mkdir(parents=True, exist_ok=True)
        write(draft)
        draft.replace(folder)
    return folder


def _score(model: LoadedModel | ModelSettings, settings: RepairSettings, out: Path) -> float:
    """Target score of one model; higher is better."""
    if settings.task is not None:
        rules = EvaluateSettings(tasks=(settings.task,), split="validation", limit=settings.limit, data=settings.data)
        return next(iter(evaluate(model, rules, out).accuracies().values()))
    loaded = load_model(model)
    rows = load(str(settings.rows), loaded, DataSettings(limit=settings.limit))
    scored = score(rows, loaded, ScoreSettings(entropy=False, rank=False, use_store=False))
    nll_N = np.concatenate([row.nll_T()[row.tokens.in_response_T] for row in scored] or [np.zeros(0, np.float32)])
    known_N = nll_N[~np.isnan(nll_N)]
    if not len(known_N):
        raise InputError("the target rows have no response token", where=str(settings.rows))
    return -float(known_N.mean(dtype=np.float64)) if math.isfinite(float(known_N.sum())) else -math.inf
