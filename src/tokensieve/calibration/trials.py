"""Trials of a calibration: a candidate is trained on a share of the rows, and its gain and drift are measured."""

import shutil
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from tokensieve.anchors import PHASES, Phase, make_anchors, train_pilot
from tokensieve.calibration.halving import Candidate, Trial
from tokensieve.calibration.probe import Probe, probe_lesson
from tokensieve.config import (
    AnchorSettings,
    CalibrateSettings,
    DataSettings,
    EvaluateSettings,
    KlSettings,
    ModelSettings,
    TrainSettings,
)
from tokensieve.data.dataset import Rows
from tokensieve.data.manifest import write_atomically
from tokensieve.drift import DriftProbe
from tokensieve.evaluation import evaluate, mean_nll
from tokensieve.models import LoadedModel, load_model
from tokensieve.pipeline import first, load, select
from tokensieve.pipeline.rows import tell_unread
from tokensieve.repair import interpolate
from tokensieve.training import open_adapter, train
from tokensieve.types import Progress, Scored, Tokens

TrialProgress = Callable[[str, str, int, int], None]
"""Called with what goes on, the unit, the units done and in all; a title lasts until the next one."""
FINALISTS: Final = 3
"""Trials whose interpolations with the base are tried."""


class Trials:
    """Trains and measures candidates; each trial's result is kept in a file and not made twice.

    Args:
        scored: training rows with the base's scores.
        base: settings that load the base.
        settings: target, measure of drift, anchors.
        training: all other settings of training.
        out: folder of the calibration.
        progress: called with what is trained or drawn, and how far it is.
    """

    def __init__(
        self,
        scored: Rows[Scored],
        base: ModelSettings,
        settings: CalibrateSettings,
        training: TrainSettings,
        out: Path,
        progress: TrialProgress | None,
    ) -> None:
        self._scored, self._base, self._settings, self._training = scored, base, settings, training
        self._out, self._progress = out, progress
        self._done = 0
        halved = len(settings.candidates) * len(settings.rates) * 2  # each rung has about half of the one before
        self._about = halved + len(settings.search.epoch_factors) + FINALISTS * len(settings.search.alphas)
        dora = training.method == "lora" and training.lora.dora
        self.alphas = () if dora else settings.search.alphas
        """Interpolations that are tried; a DoRA update has none."""

    def run(self, candidate: Candidate, share: float) -> Trial:
        """One candidate on a share of the rows."""
        return self._kept(candidate, share, lambda folder: self._trained(candidate, share, folder))

    def interpolated(self, candidate: Candidate, alpha: float) -> Trial:
        """A candidate of the last rung, interpolated with the base; nothing is trained."""
        share = self._settings.search.rungs[-1]
        tuned = self._folder(candidate, share) / "model"
        mixed = candidate.model_copy(update={"alpha": alpha})

        def make(folder: Path) -> ModelSettings:
            shutil.rmtree(folder / "model", ignore_errors=True)  # left half done by a kill
            interpolate(tuned, self._base, alpha, folder / "model")
            return open_adapter(folder / "model").on(self._base)

        return self._kept(mixed, share, make)

    def probe(self) -> Probe:
        """The pilot's gain on the unlikely and on the likely tokens of the validation rows."""
        kept = self._out / "probe.json"
        if kept.is_file():
            return Probe.model_validate_json(kept.read_text(encoding="utf-8"))
        base = load_model(self._base)
        told = self._told(*PHASES["pilot"])
        rows = select(self._scored, "plain")
        pilot = train_pilot(rows, base, self._base, self._anchor_settings, self._work, told)
        tuned = load_model(open_adapter(pilot).on(self._base))
        found = probe_lesson(self._validation, base, tuned, self._settings)
        write_atomically(kept, found.model_dump_json(indent=2).encode())
        return found

    def _folder(self, candidate: Candidate, share: float) -> Path:
        name = f"{share:g}-{candidate.name}".replace(",", "").replace(" ", "-").replace("/", "_").replace(":", "_")
        return self._out / "trials" / name

    def _kept(self, candidate: Candidate, share: float, make: Callable[[Path], ModelSettings]) -> Trial:
        """The trial's result from its file, or from a model that is made now."""
        folder = self._folder(candidate, share)
        kept = folder / "trial.json"
        if kept.is_file():
            found = Trial.model_validate_json(kept.read_text(encoding="utf-8"))
        else:
            found = self._measured(candidate, share, folder, make)
            write_atomically(kept, found.model_dump_json(indent=2).encode())
        self._done += 1
        return found

    def _told(self, title: str, unit: str) -> Progress:
        """Progress of one piece of work."""

        def tell(done: int, total: int) -> None:
            if self._progress is not None:
                self._progress(title, unit, done, total)

        return tell

    def settings_of(self, candidate: Candidate) -> TrainSettings:
        """Settings of training for a candidate."""
        kl = KlSettings()
        if candidate.anchors:
            kl = KlSettings(anchors=self._anchors, weight=self._settings.search.kl_weight)
        loss = self._training.objective.loss if candidate.loss == "nll" else candidate.loss
        objective = self._training.objective.model_copy(update={"kl": kl, "loss": loss})
        return self._training.model_copy(
            update={
                "learning_rate": candidate.learning_rate,
                "epochs": self._training.epochs * candidate.epoch_factor,
                "objective": objective,
            }
        )

    def base_score(self) -> tuple[float | None, int, float]:
        """Accuracy, problems and nll of the base on the target's validation data."""
        return self._score(load_model(self._base), self._out / "base")

    def _trained(self, candidate: Candidate, share: float, folder: Path) -> ModelSettings:
        """The settings that load a candidate after training on a share of the rows."""
        rows = first(select(self._scored, candidate.policy), max(1, round(share * len(self._scored))))
        number = self._done + 1
        title = f"trial {number} of about {max(number, self._about)}, {share:.0%} of the rows: {candidate.name}"
        told = self._told(title, "steps")
        return train(rows, self._base, self.settings_of(candidate), folder / "model", told).on(self._base)

    def _measured(
        self, candidate: Candidate, share: float, folder: Path, make: Callable[[Path], ModelSettings]
    ) -> Trial:
        started = time.monotonic()
        tuned = load_model(make(folder))
        accuracy, problems, nll = self._score(tuned, folder / "evaluation")
        drift = [found.kl.value for found in self._drift.measure(tuned).probes]
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
    def _drift(self) -> DriftProbe:
        """The base's rows and hidden states, made when the first trial is measured."""
        return DriftProbe(self._base, self._settings.drift)

    @cached_property
    def _anchors(self) -> Path:
        """Folder of the anchors, made when the first candidate needs them."""
        folder = self._out.resolve() / "anchors"  # the recipe names it, and may be run from anywhere
        make_anchors(
            select(self._scored, "plain"), self._base, self._anchor_settings, folder, work=self._work, watcher=self
        )
        return folder

    def planned(self, seconds: Mapping[Phase, float]) -> None:
        """Nothing; see ``AnchorWatcher``."""

    def advanced(self, phase: Phase, done: int, total: int) -> None:
        """Tell how far the search for anchors is; see ``AnchorWatcher``."""
        self._told(*PHASES[phase])(done, total)

    @property
    def _anchor_settings(self) -> AnchorSettings:
        """The anchors' settings, with a pilot that is trained as the candidates are."""
        pilot = self._settings.anchors.pilot.model_copy(update={"method": self._training.method})
        return self._settings.anchors.model_copy(update={"pilot": pilot})

    @property
    def _work(self) -> Path:
        """Folder of the pilot and of the anchors' candidates."""
        return self._out / "anchors-work"
