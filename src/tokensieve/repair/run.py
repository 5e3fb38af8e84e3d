"""Repair after training without training: candidates on one frontier of target score against drift, one is chosen."""

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
    as_settings,
)
from tokensieve.data.dataset import Rows
from tokensieve.data.listed_files import pin_call
from tokensieve.data.manifest import write_atomically
from tokensieve.drift import DriftProbe, ProbeDrift, tuned_settings
from tokensieve.errors import InputError
from tokensieve.evaluation import evaluate, mean_nll
from tokensieve.models import LoadedModel, fingerprint, load_model, settings_of
from tokensieve.pipeline import load
from tokensieve.pipeline.rows import tell_unread
from tokensieve.repair.candidates import check_alpha, interpolate, reduce_intruders
from tokensieve.tasks import get_task
from tokensieve.types import Progress, Tokens

RESULT_NAME: Final = "repair.json"
_TRAINING_STATE: Final = (
    "optimizer*", "scheduler.pt", "scaler.pt", "rng_state*", "training_args.bin", "trainer_state.json", "global_step*",
)  # fmt: skip
"""Files of a trainer's checkpoint that are no part of the model."""


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
        got = "neither" if settings.task is None else "both"
        raise InputError(f"expected a target, either a task or rows, got {got}", fix="--task NAME, or --rows DATA")
    before = settings_of(base)
    for factor in (*settings.alphas, *settings.intruders):
        check_alpha(factor)
    out, tuned = Path(out), Path(tuned)
    if not tuned.is_dir():
        raise InputError("there is no such folder", where=str(tuned), fix="the folder of train")
    if settings.task is not None:
        get_task(settings.task)  # an unknown one is said before the folder is taken
    rows = _target_rows(before, settings)
    weights = [fingerprint(tuned_settings(str(folder), before)) for folder in (tuned, *settings.checkpoints)]
    pin_call(out, f"{before.model_dump_json()}\n{tuned}\n{settings.model_dump_json()}\n{' '.join(weights)}\n")
    made = _candidates(tuned, before, settings, out / "candidates")
    value = _score(load_model(before), rows, settings, out / "scores" / "base")
    points = [Candidate(name="base", folder=None, score=value, probes=())]
    probe = DriftProbe(before, settings.drift)
    for done, (name, make) in enumerate(made.items()):
        scores = out / "scores" / name.replace(" ", "-").strip("/").replace("/", "-")
        points.append(_measured(name, make(), before, rows, settings, probe, scores))
        if progress is not None:
            progress(done + 1, len(made))
    best = choose(points[1:], settings.tolerance)
    points = [one.model_copy(update={"chosen": one is best}) for one in points]
    result = Repair(base=before.model, tuned=str(tuned), settings=settings, candidates=tuple(points), rule=_RULE)
    copy = partial(shutil.copytree, str(best.folder), ignore=shutil.ignore_patterns(*_TRAINING_STATE))
    _once(copy, out / "model")
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
        # Two runs may both have a checkpoint-100.
        name = str(checkpoint) if checkpoint.name in made else checkpoint.name
        if name in made:
            raise InputError("the checkpoint is named twice", where=str(checkpoint), fix="name it once")
        made[name] = partial(Path, checkpoint)
    return made


def _once(write: Callable[[Path], object], folder: Path) -> Path:
    """The folder, written whole or not at all."""
    if not folder.exists():
        draft = folder.with_name(f".{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.parent.mkdir(parents=True, exist_ok=True)
        write(draft)
        draft.replace(folder)
    return folder


def _measured(
    name: str,
    folder: Path,
    base: ModelSettings,
    rows: Rows[Tokens] | None,
    settings: RepairSettings,
    probe: DriftProbe,
    out: Path,
) -> Candidate:
    """One candidate's point; its model is gone from memory when the next one is loaded."""
    model = load_model(tuned_settings(str(folder), base))
    value = _score(model, rows, settings, out)
    return Candidate(name=name, folder=str(folder), score=value, probes=probe.measure(model).probes)


def _target_rows(base: ModelSettings, settings: RepairSettings) -> Rows[Tokens] | None:
    """The target's rows, whose tokens are the same for every candidate; None where the target is a task."""
    if settings.rows is None:
        return None
    rows = load(settings.rows, base, DataSettings(limit=settings.limit))
    tell_unread(settings.rows, rows.manifest.facts.get("noted"))
    return rows


def _score(model: LoadedModel, rows: Rows[Tokens] | None, settings: RepairSettings, out: Path) -> float:
    """Target score of one model; higher is better."""
    if rows is not None:
        return -mean_nll(rows, model)
    rules = EvaluateSettings(tasks=(str(settings.task),), split="validation", limit=settings.limit, data=settings.data)
    return next(iter(evaluate(model, rules, out).accuracies().values()))
