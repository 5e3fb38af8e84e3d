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
from tokensieve.models.speed import NOTHING, Work
from tokensieve.selection import EAFT_TOP_K, code_digest, parse_policy
from tokensieve.study.inputs import ProblemSet, StudyInputs
from tokensieve.study.steps import (
    NOT_TRAINED,
    Step,
    settings_json,
    step_key,
)
from tokensieve.types import BASE_SCORER, JSON, Example, Progress


class TrainingSteps:
    """Makes the steps of a study's arms up to their trained models; nothing is run.

    ``start`` everywhere is the step whose trained model an arm goes on from; None is the model under study.
    """

    def __init__(self, inputs: StudyInputs) -> None:
        self._inputs = inputs
        self._settings = inputs.settings
        self._root = inputs.root
        self._searched: set[tuple[str, str]] = set()

    def generate(self, target: TargetSettings, arm: ArmSettings, start: Step | None) -> Step:
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
        settings = self._settings.generate_of(arm).model_copy(update={"arm": name_of_origin(arm.data, arm.name)})
        limit = self._settings.data.limit

        def build(folder: Path, progress: Progress) -> None:
            if not inputs.without_model(start, folder):
                model, data = inputs.model(start), inputs.train_data
                generate(target.task, model, settings, folder, limit=limit, data=data, progress=progress)

        problems = inputs.task_key(target.task, "train", limit, inputs.train_data)
        key = step_key("generate", settings_json(settings), [inputs.key_of_model(start), problems])
        rows = self._rows(target)
        answers = rows.count * (settings.sampling.n or arm_of(settings).samples)
        work = Work(read=rows.count * rows.prompt_tokens, drawn=answers * rows.answer_tokens)
        return Step("generate", _label(target, arm), key, build, _needed(start), work)

    def scores(
        self,
        target: TargetSettings,
        arm: ArmSettings,
        generate: Step | None,
        start: Step | None,
        trained_by: Callable[[str], Step],
    ) -> tuple[Step, ...]:
        """The steps that score an arm's rows: by the base, then by every other scorer that its selection reads.

        Args:
            target: what is learnt.
            arm: whose rows they are.
            generate: made them; None where they are the task's own.
            start: as everywhere; its model is the base that scores.
            trained_by: the training step of an earlier arm, by its name.
        """
        steps = [self._score(target, arm, generate, start)]
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
            if self._inputs.without_model(score, folder):
                return
            rows = open_scored(self._root / score.folder_name)
            progress(0, len(rows))
            select(rows, settings, folder, mix=arm.mix)

        mix = [] if arm.mix is None else [arm.mix, *mix_digest(arm.mix).values()]
        key = step_key("select", settings.for_key(), [score.key, code_digest(policy), *mix])
        return Step("select", f"{target.task} · {arm.name}", key, build, (score,))

    def anchors(
        self, target: TargetSettings, arm: ArmSettings, settings: AnchorSettings, score: Step, start: Step | None
    ) -> tuple[Step, ...]:
        """The steps that select the pilot's rows, every response token of them, and make the anchors."""
        from tokensieve.anchors import make_anchors
        from tokensieve.pipeline import open_selected

        whole = ArmSettings(name=f"{arm.data.value}, every token", data=arm.data)
        select = self.select(target, whole, score, 0)

        def build(folder: Path, progress: Progress) -> None:
            if self._inputs.without_model(select, folder):
                return
            progress(0, settings.count)
            rows, work = open_selected(self._root / select.folder_name), self._root / "anchors-work"
            make_anchors(rows, self._inputs.settings_of(start), settings, folder, work=work)

        read = self._inputs.content_keys(settings.data, settings.pilot.adapter)
        key = step_key("anchors", settings_json(settings), [self._inputs.key_of_model(start), select.key, *read])
        work = self._search_work(target, settings, select)
        return select, Step("anchors", f"{target.task} · {arm.name}", key, build, (select, *_needed(start)), work)

    def train(
        self,
        target: TargetSettings,
        label: str,
        settings: TrainSettings,
        select: Step,
        anchors: Step | None,
        start: Step | None,
    ) -> Step:
        """One training run."""
        from tokensieve.pipeline import open_selected
        from tokensieve.training import train

        def build(folder: Path, progress: Progress) -> None:
            if self._inputs.without_model(select, folder):
                return
            rows = open_selected(self._root / select.folder_name)
            if len(rows) == 0:
                write_atomically(folder / NOT_TRAINED, b"no row is left to train on\n")
            else:
                model = self._inputs.settings_of(start)
                train(rows, model, self._held(settings, anchors), folder, progress=progress)

        made = (select, *_needed(anchors))
        held_to = self._inputs.content_keys(settings.objective.kl.anchors, settings.objective.validation.rows)
        inputs = [self._inputs.key_of_model(start), *(one.key for one in made), *held_to]
        key = step_key("train", settings_json(settings), inputs)
        needs = (*made, *_needed(start))
        rows = self._rows(target)
        beside = 1 if anchors is None else 2  # as many anchors in every optimiser step
        work = Work(trained=rows.count * rows.row_tokens * settings.epochs * beside)
        return Step("train", label, key, build, needs, work)

    def repair(self, label: str, alpha: float, train: Step) -> Step:
        """The trained model interpolated with the base."""
        from tokensieve.repair import interpolate

        def build(folder: Path, progress: Progress) -> None:
            progress(0, 1)
            if self._inputs.without_model(train, folder):
                return
            shutil.rmtree(folder, ignore_errors=True)  # left half done by a kill
            interpolate(self._root / train.folder_name, self._settings.model, alpha, folder)

        return Step("repair", label, step_key("repair", {"alpha": alpha}, [train.key]), build, (train,))

    def _score(self, target: TargetSettings, arm: ArmSettings, generate: Step | None, start: Step | None) -> Step:
        from tokensieve.pipeline import load, open_examples
        from tokensieve.scoring import score

        inputs = self._inputs
        scoring = self._settings.score.by(BASE_SCORER)
        limit = None if generate else self._settings.data.limit
        reading = self._settings.data.model_copy(update={"limit": limit, "data": inputs.train_data})
        source = generate.key if generate else inputs.task_key(target.task, reading.split, limit, inputs.train_data)

        def build(folder: Path, progress: Progress) -> None:
            if inputs.without_model(start, folder):
                return
            data: Rows[Example] | str = f"task:{target.task}/{reading.split}"
            if generate is not None:
                data = open_examples(self._root / generate.folder_name)
            rows = load(data, inputs.model(start), reading)
            score(rows, inputs.model(start), scoring, out=folder, progress=progress)

        settings = {**_score_json(scoring), "data": settings_json(reading, exclude={"data", "limit"})}
        key = step_key("score", settings, [inputs.key_of_model(start), source])
        needs = (*_needed(generate), *_needed(start))
        return Step("score", _label(target, arm), key, build, needs, self._score_work(target))

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
            key, loaded = train.key, partial(self._inputs.model, train)

        def build(folder: Path, progress: Progress) -> None:
            if not self._inputs.without_model(before, folder):
                score(open_scored(self._root / before.folder_name), loaded(), settings, out=folder, progress=progress)

        label = f"{_label(target, arm)} · by {scorer}"
        key = step_key("score", _score_json(settings), [before.key, key])
        return Step("score", label, key, build, needs, self._score_work(target))

    def _rows(self, target: TargetSettings) -> ProblemSet:
        """Training rows of a target, or prompts whose answers are drawn, at most."""
        return self._inputs.problem_set(
            target.task, self._settings.data.split, self._settings.data.limit, self._inputs.train_data
        )

    def _score_work(self, target: TargetSettings) -> Work:
        rows = self._rows(target)
        return Work(read=rows.count * rows.row_tokens)

    def _search_work(self, target: TargetSettings, settings: AnchorSettings, select: Step) -> Work:
        """Work of a search for anchors; candidates and pilots that an earlier search of the study has made are free."""
        from tokensieve.anchors.make import work_of

        rows = self._rows(target)
        phases = work_of(settings, round(min(settings.pilot.rows, rows.count) * rows.row_tokens))
        drawn = settings.model_dump_json(exclude={"count", "random_share", "top_k", "refreshable", "pilot"})
        pilot = drawn + settings.pilot.model_dump_json() + select.key
        made = {"candidates": drawn, "pilot": pilot, "drift": pilot + settings.model_dump_json(exclude={"count"})}
        new = (phases[phase] for phase in phases if (phase, made[phase]) not in self._searched)
        work = sum(new, NOTHING)
        self._searched |= {(phase, made[phase]) for phase in phases}
        return work

    def _held(self, settings: TrainSettings, anchors: Step | None) -> TrainSettings:
        """The settings of a run with the folder of its anchors."""
        if anchors is None:
            return settings
        kl = settings.objective.kl.model_copy(update={"anchors": self._root / anchors.folder_name})
        return settings.model_copy(update={"objective": settings.objective.model_copy(update={"kl": kl})})


def _needed(step: Step | None) -> tuple[Step, ...]:
    return () if step is None else (step,)


def _label(target: TargetSettings, arm: ArmSettings) -> str:
    """The rows of an arm, for people: by their origin, where the arm makes them in its own way by its name too."""
    return f"{target.task} · {arm.data.value}{f' · {arm.name}' if arm.generate.given() else ''}"


def _score_json(settings: ScoreSettings) -> dict[str, JSON]:
    from tokensieve.scoring import NO_PART_OF_THE_RESULT

    return settings_json(settings, exclude=NO_PART_OF_THE_RESULT)
