"""Calibrate: try policies, anchors, learning rates and epochs on a model and its data; write the choice as a recipe."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import yaml
from pydantic import BaseModel

from tokensieve.calibration.halving import (
    Baseline,
    Candidate,
    Trial,
    halve,
    lengthen,
    most_accurate,
    parse_candidates,
    ranked,
)
from tokensieve.calibration.probe import Probe
from tokensieve.calibration.trials import FINALISTS, TrialProgress, Trials
from tokensieve.config import (
    STRICT,
    CalibrateSettings,
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
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel, settings_of
from tokensieve.types import Scored

RESULT_NAME: Final = "calibration.json"
RECIPE_NAME: Final = "recipe.yaml"


class Calibration(BaseModel):
    """Result of ``tokensieve calibrate``; its JSON is ``calibration.json``."""

    model_config = STRICT

    model: str
    settings: CalibrateSettings
    base_accuracy: float | None
    """The base's accuracy on the target's validation problems, a fraction; None where the target is rows."""
    base_nll: float
    """The base's mean nll in nats of the target's validation responses."""
    probe: Probe
    """Place of the lesson, by a pilot."""
    rungs: tuple[tuple[Trial, ...], ...]
    """Trials of each rung, best first; none where the rule decides."""
    longer: tuple[Trial, ...] = ()
    """The last rung's best of every kind, trained for more epochs."""
    interpolated: tuple[Trial, ...] = ()
    """Interpolations of the best models with the base."""
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
    progress: TrialProgress | None = None,
) -> Calibration:
    """Choose policy, anchors and learning rate for a model and its data by short runs (successive halving).

    A pilot says first whether the lesson sits in the unlikely tokens. Then every candidate is trained on a share of the
    rows and compared on target validation data; the better half goes on to a larger share. The last rung's best of
    every kind are trained for more epochs as long as that is worth it, and the best models are interpolated with the
    base. Each is worth its share of the best gain minus its share of the best's drift (see ``utilities``), and the one
    of the highest value is taken. With ``by = "rule"`` the pilot alone decides: policy
    ``stm`` at the settings' perplexity where the lesson sits in the likely tokens, all tokens with anchors where it
    does not, at the training settings' own learning rate. ``out/recipe.yaml`` is a study of the choice beside plain
    fine-tuning and STM 2.5, for
    ``tokensieve run``.

    Args:
        scored: training rows with the base's scores.
        model: the base.
        settings: target, candidates, learning rates, rungs.
        out: folder of the result; every trial is kept there, a killed call goes on.
        training: all other settings of training.
        progress: called with the trial that is trained (or what else goes on), the unit, and the units done and in all.

    Raises:
        InputError: no target, a candidate that is no policy, an ``out`` that holds the result of another call, or as in
            training and evaluation.
        EnvironmentProblem: as in training and evaluation.
    """
    settings = as_settings(CalibrateSettings, settings, "settings")
    training = as_settings(TrainSettings, training, "training")
    scored = as_rows(Scored, scored)
    if (settings.task is None) == (settings.rows is None):
        got = "neither" if settings.task is None else "both"
        raise InputError(f"expected a target, either a task or rows, got {got}", fix="--task NAME, or --rows DATA")
    base = settings_of(model)
    out = Path(out)
    pin_call(
        out,
        f"{base.model_dump_json()}\n{scored.manifest.digest}\n{settings.model_dump_json()}\n"
        f"{training.model_dump_json()}\n",
    )
    trials = Trials(scored, base, settings, training, out, progress)
    probe = trials.probe()
    accuracy, _, nll = trials.base_score()
    rungs: list[list[Trial]] = []
    longer: list[Trial] = []
    mixed: list[Trial] = []
    reasons = [_lesson(probe)]
    if settings.by == "rule":
        chosen = _by_rule(probe, settings, training)
        reasons.append(f"{chosen.name} follows from it by rule; no run was compared.")
    else:
        base_point, price = Baseline(accuracy=accuracy, nll=nll), settings.search.drift_price
        candidates = [one for text in settings.candidates for one in parse_candidates(text, settings.rates)]
        rungs = halve(candidates, settings.search.rungs, trials.run, base_point, price)
        longer = lengthen(rungs[-1], settings.search.epoch_factors, trials.run, base_point, price)
        finalists = ranked([*rungs[-1], *longer], base_point, price)
        mixed = [trials.interpolated(one.candidate, alpha) for one in finalists[:FINALISTS] for alpha in trials.alphas]
        best = ranked([*finalists, *mixed], base_point, price)[0]
        chosen = best.candidate
        reasons.extend(_reasons(best, [*finalists, *mixed], accuracy))
    result = Calibration(
        model=base.model,
        settings=settings,
        base_accuracy=accuracy,
        base_nll=nll,
        probe=probe,
        rungs=tuple(tuple(rung) for rung in rungs),
        longer=tuple(longer),
        interpolated=tuple(mixed),
        chosen=chosen,
        reasons=tuple(reasons),
        train=trials.settings_of(chosen),
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
    """A study of the choice beside plain and STM 2.5, each at the learning rate and epochs that solved most."""
    arms: list[dict[str, object]] = []
    for name, policy in (("plain", "plain"), ("STM 2.5", "stm:2.5")):
        kind = Candidate(policy=policy, learning_rate=found.chosen.learning_rate)
        whole = [(*rung, *found.longer) for rung in found.rungs[-1:]] + list(reversed(found.rungs[:-1]))
        rungs = [[trial for trial in rung if trial.candidate.kind == kind.kind] for rung in whole]
        known = next((rung for rung in rungs if rung), None)
        best = kind if known is None else most_accurate(known).candidate
        arms.append({"name": name, "policy": policy, "train": _own_settings(best, training)})
    objective: dict[str, object] = {} if found.chosen.loss == "nll" else {"loss": found.chosen.loss}
    if found.chosen.anchors:
        objective["kl"] = found.train.objective.kl.model_dump(mode="json", exclude_defaults=True)
    own = _own_settings(found.chosen, training)
    if objective:
        own["objective"] = objective
    arms.append({"name": "calibrated", "policy": found.chosen.policy, "alpha": found.chosen.alpha, "train": own})
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


def _own_settings(candidate: Candidate, training: TrainSettings) -> dict[str, object]:
    """Settings of training in which a candidate's arm differs from the study's."""
    own: dict[str, object] = {"learning_rate": candidate.learning_rate}
    if candidate.epoch_factor != 1.0:
        own["epochs"] = training.epochs * candidate.epoch_factor
    return own


def _without_anchors(training: TrainSettings) -> ObjectiveSettings:
    return training.objective.model_copy(update={"kl": KlSettings()})


def _by_rule(probe: Probe, settings: CalibrateSettings, training: TrainSettings) -> Candidate:
    """The candidate that the probe alone suggests."""
    rate = training.learning_rate
    if probe.in_unlikely_tokens:
        return Candidate(policy="plain", anchors=True, learning_rate=rate)
    return Candidate(policy=f"stm:{settings.probe.unlikely:g}", learning_rate=rate)


def _lesson(probe: Probe) -> str:
    """The probe's finding in a sentence."""
    where = "sits in" if probe.in_unlikely_tokens else "does not sit in"
    return (
        f"The lesson {where} the unlikely tokens: a short pilot takes {probe.share_learnt:.0%} of their nll on "
        f"validation rows ({probe.unlikely_before:.2f} to {probe.unlikely_after:.2f} nats; they are "
        f"{probe.unlikely_share:.0%} of the tokens)."
    )


def _reasons(best: Trial, finalists: list[Trial], base_accuracy: float | None) -> tuple[str, ...]:
    """The choice in sentences."""
    said = [
        f"{best.candidate.name} was chosen among {len(finalists)} finalists trained on {best.share:.0%} of the rows."
    ]
    top = most_accurate(finalists)
    if best.accuracy is not None and top.accuracy is not None and base_accuracy is not None:
        said.append(
            f"It solves {best.accuracy:.0%} of the target's validation problems; the best finalist solves "
            f"{top.accuracy:.0%}, the base {base_accuracy:.0%}."
        )
    if top is not best:
        said.append(
            f"Its drift from the base is {best.drift:.4f} nats per token, that of {top.candidate.name} is "
            f"{top.drift:.4f}: it gives up a smaller share of the gain than of the drift."
        )
    if best.candidate.epoch_factor != 1.0:
        said.append(f"{best.candidate.epoch_factor:g} times the epochs gain more than their drift costs.")
    if best.candidate.alpha != 1.0:
        said.append(f"Only {best.candidate.alpha:g} of the update is kept: it gives up less of what the base can do.")
    if base_accuracy and best.accuracy is not None and best.accuracy <= base_accuracy:
        said.append("No candidate solves more than the base: these rows do not teach the model what it cannot do.")
    if best.candidate.anchors:
        said.append("KL to the base on anchors keeps the skills on which a short pilot drifted most.")
    return tuple(said)
