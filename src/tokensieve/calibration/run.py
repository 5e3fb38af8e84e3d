"""Calibrate: try policies, anchors and learning rates on a model and its data, and write the choice as a recipe."""

import time
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import yaml
from pydantic import BaseModel

from tokensieve.anchors import make_anchors
from tokensieve.calibration.halving import Candidate, Trial, choose, halve
from tokensieve.config import (
    STRICT,
    CalibrateSettings,
    DataSettings,
    EvaluateSettings,
    KlSettings,
    ModelSettings,
    ObjectiveSettings,
    StudySettings,
    TrainSettings,
    as_settings,
)
from tokensieve.data.dataset import Rows, as_rows
from tokensieve.data.listed_files import pin_call
from tokensieve.data.manifest import write_atomically
from tokensieve.drift import DriftProbe
from tokensieve.errors import InputError
from tokensieve.evaluation import evaluate, mean_nll
from tokensieve.models import LoadedModel, load_model, settings_of
from tokensieve.pipeline import first, load, select
from tokensieve.pipeline.rows import tell_unread
from tokensieve.training import train
from tokensieve.types import Progress, Scored, Tokens

RESULT_NAME: Final = "calibration.json"
RECIPE_NAME: Final = "recipe.yaml"
_ANCHORS: Final = " + anchors"


class Calibration(BaseModel):
    """Result of ``tokensieve calibrate``; its JSON is ``calibration.json``."""

    model_config = STRICT

    model: str
    settings: CalibrateSettings
    base_accuracy: float | None
    """The base's accuracy on the target's validation problems, a fraction; None where the target is rows."""
    base_nll: float
    """The base's mean nll in nats of the target's validation responses."""
    rungs: tuple[tuple[Trial, ...], ...]
    """Trials of each rung, best first."""
    chosen: Candidate
    reasons: tuple[str, ...]
    """The choice in sentences."""
    train: TrainSettings
    """Settings of the chosen run."""


def calibrate(
    scored: Rows[Scored] | str | Path,
    model: LoadedModel | ModelSettings | str | Path,
    settings: CalibrateSettings | Mapping[str, object],
    out: str | Path,
    training: TrainSettings | Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Choose policy, anchors and learning rate for a model and its data by short runs (successive halving).

    Every candidate is trained on a share of the rows, then compared on target validation data; the better half goes on
    to a larger share. Of the finalists that cannot be told from the best, the one of least drift from the base is
    chosen. ``out/recipe.yaml`` is a study of the choice beside plain fine-tuning and STM 2.5, for ``tokensieve run``.

    Args:
        scored: training rows with the base's scores.
        model: the base.
        settings: target, candidates, learning rates, rungs.
        out: folder of the result; every trial is kept there, a killed call goes on.
        training: all other settings of training.
        progress: called after every trial.

    Raises:
        InputError: no target, a candidate that is no policy, an ``out`` that holds the result of another call, or as in
            training and evaluation.
        EnvironmentProblem: as in training and evaluation.
    """
    settings = as_settings(CalibrateSettings, settings, "settings")
    training = as_settings(TrainSettings, training, "training")
    scored = as_rows(Scored, scored)
    if (settings.task is None) == (settings.rows is None):
        raise InputError("expected a target, either a task or rows", fix="--task NAME, or --rows DATA")
    base = settings_of(model)
    out = Path(out)
    pin_call(
        out,
        f"{base.model_dump_json()}\n{scored.manifest.digest}\n{settings.model_dump_json()}\n"
        f"{training.model_dump_json()}\n",
    )
    trials = _Trials(scored, base, settings, training, out, progress)
    rungs = halve(_candidates(settings), settings.rungs, trials.run)
    best = choose(rungs[-1])
    accuracy, _, nll = trials.base_score()
    result = Calibration(
        model=base.model,
        settings=settings,
        base_accuracy=accuracy,
        base_nll=nll,
        rungs=tuple(tuple(rung) for rung in rungs),
        chosen=best.candidate,
        reasons=_reasons(best, rungs[-1], accuracy),
        train=trials.settings_of(best.candidate),
    )
    write_atomically(out / RESULT_NAME, result.model_dump_json(indent=2).encode())
    if settings.task is not None and not (out / RECIPE_NAME).is_file():  # it may have been edited since
        text = yaml.safe_dump(_recipe(result, base, training, scored), sort_keys=False, allow_unicode=True)
        header = f"# {settings.task} with {base.model}: the calibrated run beside plain fine-tuning and STM 2.5.\n"
        write_atomically(out / RECIPE_NAME, (header + text).encode())
    return result


def _recipe(
    found: Calibration, base: ModelSettings, training: TrainSettings, scored: Rows[Scored]
) -> dict[str, object]:
    """A study of the choice beside plain and STM 2.5, each at its own best learning rate of the calibration."""
    last = [trial.candidate for rung in reversed(found.rungs) for trial in rung]
    arms: list[dict[str, object]] = []
    for name, policy in (("plain", "plain"), ("STM 2.5", "stm:2.5")):
        best = next((one for one in last if one.policy == policy and not one.anchors), None)
        rate = found.chosen.learning_rate if best is None else best.learning_rate
        arms.append({"name": name, "policy": policy, "train": {"learning_rate": rate}})
    own: dict[str, object] = {"learning_rate": found.chosen.learning_rate}
    if found.chosen.anchors:
        own["objective"] = {"kl": found.train.objective.kl.model_dump(mode="json", exclude_defaults=True)}
    arms.append({"name": "calibrated", "policy": found.chosen.policy, "train": own})
    recipe = StudySettings.model_validate(
        {
            "name": f"calibrated-{found.settings.task}",
            "title": f"{found.settings.task}: the calibrated run beside plain fine-tuning and STM 2.5",
            "model": base,
            "targets": [{"task": found.settings.task, "others": found.settings.others}],
            "arms": arms,
            "train": training.model_copy(update={"objective": _without_anchors(training)}),
            "data": {"limit": len(scored)},
            "notes": found.reasons,
        }
    )
    return recipe.model_dump(mode="json", exclude_defaults=True)


def _without_anchors(training: TrainSettings) -> ObjectiveSettings:
    return training.objective.model_copy(update={"kl": KlSettings()})


def _candidates(settings: CalibrateSettings) -> list[Candidate]:
    return [
        Candidate(policy=text.removesuffix(_ANCHORS), anchors=text.endswith(_ANCHORS), learning_rate=rate)
        for text in settings.candidates
        for rate in settings.rates
    ]


class _Trials:
    """Trains and measures candidates; each trial's result is kept in a file and not made twice."""

    def __init__(
        self,
        scored: Rows[Scored],
        base: ModelSettings,
        settings: CalibrateSettings,
        training: TrainSettings,
        out: Path,
        progress: Progress | None,
    ) -> None:
        self._scored, self._base, self._settings, self._training = scored, base, settings, training
        self._out, self._progress = out, progress
        self._done = 0
        self._total = len(settings.candidates) * len(settings.rates) * 2  # each rung has about half of the one before

    def run(self, candidate: Candidate, share: float) -> Trial:
        """One candidate on a share of the rows."""
        name = f"{share:g}-{candidate.name}".replace(" ", "-").replace("/", "_").replace(":", "_")
        folder = self._out / "trials" / name
        kept = folder / "trial.json"
        if kept.is_file():
            found = Trial.model_validate_json(kept.read_text(encoding="utf-8"))
        else:
            found = self._tried(candidate, share, folder)
            write_atomically(kept, found.model_dump_json(indent=2).encode())
        self._done += 1
        if self._progress is not None:
            self._progress(self._done, max(self._total, self._done))
        return found

    def settings_of(self, candidate: Candidate) -> TrainSettings:
        """Settings of training for a candidate."""
        kl = KlSettings()
        if candidate.anchors:
            kl = KlSettings(anchors=self._anchors, weight=self._settings.kl_weight)
        objective = self._training.objective.model_copy(update={"kl": kl})
        return self._training.model_copy(update={"learning_rate": candidate.learning_rate, "objective": objective})

    def base_score(self) -> tuple[float | None, int, float]:
        """Accuracy, problems and nll of the base on the target's validation data."""
        return self._score(load_model(self._base), self._out / "base")

    def _tried(self, candidate: Candidate, share: float, folder: Path) -> Trial:
        started = time.monotonic()
        rows = first(select(self._scored, candidate.policy), max(1, round(share * len(self._scored))))
        tuned = load_model(train(rows, self._base, self.settings_of(candidate), folder / "model").on(self._base))
        accuracy, problems, nll = self._score(tuned, folder / "evaluation")
        drift = [found.kl.value for found in self._probe.measure(tuned).probes]
        return Trial(
            candidate=candidate,
            share=share,
            accuracy=accuracy,
            problems=problems,
            nll=nll,
            drift=float(np.mean([value for value in drift if value is not None])),
            wall_s=time.monotonic() - started,
        )

    def _score(self, loaded: LoadedModel, out: Path) -> tuple[float | None, int, float]:
        """Accuracy and problems, where the target is a task, and mean nll of the validation responses."""
        settings, accuracy, problems = self._settings, None, 0
        if settings.task is not None:
            rules = EvaluateSettings(
                tasks=(settings.task,), split="validation", limit=settings.limit, data=settings.data
            )
            (found,) = evaluate(loaded, rules, out).scores
            accuracy, problems = found.accuracy.value, found.answers
        return accuracy, problems, mean_nll(self._validation, loaded)

    @cached_property
    def _validation(self) -> Rows[Tokens]:
        """The target's validation rows, whose tokens are the same for every trial."""
        settings = self._settings
        source = settings.rows or f"task:{settings.task}/validation"
        rows = load(source, self._base, DataSettings(limit=settings.limit, data=settings.data))
        tell_unread(source, rows.manifest.facts.get("noted"))
        return rows

    @cached_property
    def _probe(self) -> DriftProbe:
        """The base's rows and hidden states, made when the first trial is measured."""
        return DriftProbe(self._base, self._settings.drift)

    @cached_property
    def _anchors(self) -> Path:
        """Folder of the anchors, made when the first candidate needs them."""
        folder = self._out / "anchors"
        pilot = self._settings.anchors.pilot.model_copy(update={"method": self._training.method})
        rules = self._settings.anchors.model_copy(update={"pilot": pilot})
        make_anchors(select(self._scored, "plain"), self._base, rules, folder)
        return folder


def _reasons(best: Trial, finalists: list[Trial], base_accuracy: float | None) -> tuple[str, ...]:
    """The choice in sentences."""
    said = [
        f"{best.candidate.name} was chosen among {len(finalists)} finalists trained on {best.share:.0%} of the rows."
    ]
    top = max(finalists, key=lambda trial: (trial.accuracy or 0.0, -trial.nll))
    if best.accuracy is not None and top.accuracy is not None and base_accuracy is not None:
        said.append(
            f"It solves {best.accuracy:.0%} of the target's validation problems; the best finalist solves "
            f"{top.accuracy:.0%}, the base {base_accuracy:.0%}."
        )
    others = [trial.drift for trial in finalists if trial is not best]
    if others:
        said.append(
            f"Its drift from the base is {best.drift:.4f} nats per token; the other finalists' are "
            f"{min(others):.4f} to {max(others):.4f}. Among finalists that cannot be told from the best, the least "
            "drift decides."
        )
    masks = best.candidate.policy != "plain"
    said.append(
        "The lesson can be learnt without the unlikely tokens, so they are left out."
        if masks
        else "The lesson sits in the unlikely tokens too, so all tokens are trained."
    )
    if best.candidate.anchors:
        said.append("KL to the base on anchors keeps the skills on which a short pilot drifted most.")
    return tuple(said)
