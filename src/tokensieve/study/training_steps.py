"""Steps of a study up to a trained model: its data, their scores and selection, anchors, training, interpolation."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tokensieve.config import (
    ARM_PREFIX,
    AnchorSettings,
    ArmSettings,
    ModelSettings,
    ScoreSettings,
    TargetSettings,
    TrainSettings,
)
from tokensieve.data.dataset import Rows
from tokensieve.data.manifest import write_atomically
from tokensieve.errors import InputError
from tokensieve.models.device import SAMPLE, SCORE, TRAIN
from tokensieve.selection import EAFT_TOP_K, code_digest, parse_policy
from tokensieve.study.inputs import StudyInputs
from tokensieve.study.steps import (
    ANSWER_TOKENS,
    NOT_TRAINED,
    ROW_TOKENS,
    Step,
    settings_json,
    step_key,
    without_model,
)
from tokensieve.types import BASE_SCORER, JSON, Example, Progress


class TrainingSteps:
    """Makes the steps of a study's arms up to their trained models; nothing is run."""

    def __init__(self, inputs: StudyInputs) -> None:
        self._inputs = inputs
        self._settings = inputs.settings
        self._root = inputs.root

    def generate(self, target: TargetSettings, arm: ArmSettings) -> Step:
        """An arm's data, where a model makes them."""
        from tokensieve.generation import generate
        from tokensieve.generation.arms import arm_of, name_of_origin

        inputs = self._inputs
        if self._settings.data.split != "train":
            raise InputError(
                f"{arm.data.value} is made of a task's train split, so data.split {self._settings.data.split!r} has no"
                " effect on it",
                where=arm.name,
                fix="data: {split: train}",
            )
        settings = self._settings.generate.model_copy(update={"arm": name_of_origin(arm.data, arm.name)})
        limit = self._settings.data.limit

        def build(folder: Path, progress: Progress) -> None:
            generate(
                target.task, inputs.base(), settings, folder, limit=limit, data=inputs.train_data, progress=progress
            )

        problems = inputs.task_key(target.task, "train", limit, inputs.train_data)
        key = step_key("generate", settings_json(settings), [inputs.model_key, problems])
        answers = self._rows(target) * (settings.sampling.n or arm_of(settings).samples)
        work = answers * ANSWER_TOKENS * SAMPLE
        return Step("generate", f"{target.task} · {arm.data.value}", key, build, work=work)

    def scores(
        self, target: TargetSettings, arm: ArmSettings, generate: Step | None, trained_by: Callable[[str], Step]
    ) -> tuple[Step, ...]:
        """The steps that score an arm's rows: by the base, then by every other scorer that its selection reads.

        Args:
            target: what is learnt.
            arm: whose rows they are.
            generate: made them; None where they are the task's own.
            trained_by: the training step of an earlier arm, by its name.
        """
        steps = [self._score(target, arm, generate)]
        policy = parse_policy(arm.policy)  # a wrong one is to be known before hours of scoring, not after
        for scorer in dict.fromkeys((arm.scorer, *policy.traits.other_scorers)):
            if scorer != BASE_SCORER:
                steps.append(self._score_by(scorer, target, arm, steps[-1], trained_by))
        needs_top_k = "top_entropy" in policy.traits.needs and self._settings.score.entropy_top_k != EAFT_TOP_K
        if needs_top_k:
            raise InputError(
                f"{arm.policy} needs the entropy of the {EAFT_TOP_K} likeliest entries",
                where=arm.name,
                fix=f"score: {{entropy_top_k: {EAFT_TOP_K}}}",
            )
        return tuple(steps)

    def select(self, target: TargetSettings, arm: ArmSettings, score: Step, seed: int) -> Step:
        """The selection of the tokens that are trained."""
        from tokensieve.pipeline import mix_digest, open_scored, select

        policy = parse_policy(arm.policy)
        drawn = policy.traits.seeded or arm.mix is not None
        settings = arm.select_settings(seed if drawn else 0)

        def build(folder: Path, progress: Progress) -> None:
            rows = open_scored(self._root / score.folder_name)
            progress(0, len(rows))
            select(rows, settings, folder, mix=arm.mix)

        mix = [] if arm.mix is None else [arm.mix, *mix_digest(arm.mix).values()]
        key = step_key("select", settings.for_key(), [score.key, code_digest(policy), *mix])
        return Step("select", f"{target.task} · {arm.name}", key, build, (score,))

    def anchors(
        self, target: TargetSettings, arm: ArmSettings, settings: AnchorSettings, score: Step
    ) -> tuple[Step, ...]:
        """The steps that select the pilot's rows, every response token of them, and make the anchors."""
        from tokensieve.anchors import make_anchors
        from tokensieve.pipeline import open_selected

        whole = ArmSettings(name=f"{arm.data.value}, every token", data=arm.data)
        select = self.select(target, whole, score, 0)

        def build(folder: Path, progress: Progress) -> None:
            progress(0, settings.count)
            rows = open_selected(self._root / select.folder_name)
            make_anchors(rows, self._settings.model, settings, folder, work=self._root / "anchors-work")

        key = step_key("anchors", settings_json(settings), [self._inputs.model_key, select.key])
        return select, Step("anchors", f"{target.task} · {arm.name}", key, build, (select,))

    def train(
        self, target: TargetSettings, label: str, settings: TrainSettings, select: Step, anchors: Step | None
    ) -> Step:
        """One training run."""
        from tokensieve.pipeline import open_selected
        from tokensieve.training import train

        def build(folder: Path, progress: Progress) -> None:
            rows = open_selected(self._root / select.folder_name)
            if len(rows) == 0:
                write_atomically(folder / NOT_TRAINED, b"no row is left to train on\n")
            else:
                train(rows, self._settings.model, self._held(settings, anchors), folder, progress=progress)

        needs = (select,) if anchors is None else (select, anchors)
        key = step_key("train", settings_json(settings), [self._inputs.model_key, *(step.key for step in needs)])
        work = self._rows(target) * ROW_TOKENS * settings.epochs * TRAIN
        return Step("train", label, key, build, needs, work)

    def repair(self, label: str, alpha: float, train: Step) -> Step:
        """The trained model interpolated with the base."""
        from tokensieve.repair import interpolate

        def build(folder: Path, progress: Progress) -> None:
            progress(0, 1)
            if without_model(self._root / train.folder_name, folder):
                return
            shutil.rmtree(folder, ignore_errors=True)  # left half done by a kill
            interpolate(self._root / train.folder_name, self._settings.model, alpha, folder)

        return Step("repair", label, step_key("repair", {"alpha": alpha}, [train.key]), build, (train,))

    def _score(self, target: TargetSettings, arm: ArmSettings, generate: Step | None) -> Step:
        from tokensieve.pipeline import load, open_examples
        from tokensieve.scoring import score

        inputs = self._inputs
        scoring = self._settings.score.by(BASE_SCORER)
        limit = None if generate else self._settings.data.limit
        reading = self._settings.data.model_copy(update={"limit": limit, "data": inputs.train_data})
        source = generate.key if generate else inputs.task_key(target.task, reading.split, limit, inputs.train_data)

        def build(folder: Path, progress: Progress) -> None:
            data: Rows[Example] | str = f"task:{target.task}/{reading.split}"
            if generate is not None:
                data = open_examples(self._root / generate.folder_name)
            rows = load(data, inputs.base(), reading)
            score(rows, inputs.base(), scoring, out=folder, progress=progress)

        settings = {**_score_json(scoring), "data": settings_json(reading, exclude={"data", "limit"})}
        key = step_key("score", settings, [inputs.model_key, source])
        needs = () if generate is None else (generate,)
        return Step("score", f"{target.task} · {arm.data.value}", key, build, needs, self._score_work(target))

    def _score_by(
        self, scorer: str, target: TargetSettings, arm: ArmSettings, before: Step, trained_by: Callable[[str], Step]
    ) -> Step:
        """Scores by another model, beside those that an earlier step has made."""
        from tokensieve.models import load_model
        from tokensieve.pipeline import open_scored
        from tokensieve.scoring import score

        model = self._settings.score.models.get(scorer)
        if model is None:
            known = ", ".join((BASE_SCORER, *self._settings.score.models))
            raise InputError(
                f"the policy reads scores by {scorer!r}; the study's scorers are: {known}",
                where=arm.name,
                fix=f"score: {{models: {{{scorer}: {{model: NAME}}}}}}, or arm:NAME for the model of an earlier arm",
            )
        settings = self._settings.score.by(scorer)
        if isinstance(model, ModelSettings):
            needs: tuple[Step, ...] = (before,)
            key, loaded = self._inputs.key_of(model), partial(load_model, model)
        else:
            train = trained_by(model.removeprefix(ARM_PREFIX))
            needs = (before, train)
            key, loaded = train.key, partial(self._inputs.after, train)

        def build(folder: Path, progress: Progress) -> None:
            score(open_scored(self._root / before.folder_name), loaded(), settings, out=folder, progress=progress)

        label = f"{target.task} · {arm.data.value} · by {scorer}"
        key = step_key("score", _score_json(settings), [before.key, key])
        return Step("score", label, key, build, needs, self._score_work(target))

    def _rows(self, target: TargetSettings) -> int:
        """Training rows of a target, or prompts whose answers are drawn, at most."""
        return self._inputs.problem_count(
            target.task, self._settings.data.split, self._settings.data.limit, self._inputs.train_data
        )

    def _score_work(self, target: TargetSettings) -> float:
        return self._rows(target) * ROW_TOKENS * SCORE

    def _held(self, settings: TrainSettings, anchors: Step | None) -> TrainSettings:
        """The settings of a run with the folder of its anchors."""
        if anchors is None:
            return settings
        kl = settings.objective.kl.model_copy(update={"anchors": self._root / anchors.folder_name})
        return settings.model_copy(update={"objective": settings.objective.model_copy(update={"kl": kl})})


def _score_json(settings: ScoreSettings) -> dict[str, JSON]:
    from tokensieve.scoring import NO_PART_OF_THE_RESULT

    return settings_json(settings, exclude=NO_PART_OF_THE_RESULT)
