"""From a study's settings to its steps: what depends on what, and under which key each result is kept."""

import shutil
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from pydantic import BaseModel

from tokensieve.config import (
    ARM_PREFIX,
    AnchorSettings,
    ArmSettings,
    DriftSettings,
    EvaluateSettings,
    ModelSettings,
    ScoreSettings,
    StudySettings,
    TargetSettings,
    TrainSettings,
)
from tokensieve.data.dataset import Rows
from tokensieve.data.manifest import digest_of, write_atomically
from tokensieve.errors import InputError
from tokensieve.report.number_format import learning_rate
from tokensieve.selection import EAFT_TOP_K, code_digest, parse_policy
from tokensieve.study.at_hand import is_at_hand, key_by_name
from tokensieve.study.steps import ArmPlan, ArmRun, Plan, Step, TargetPlan, step_key
from tokensieve.study.trained_model import write_shown_tokens, write_update
from tokensieve.types import BASE_SCORER, JSON, Example, Origin, Progress

if TYPE_CHECKING:
    from tokensieve.drift import DriftProbe
    from tokensieve.models import LoadedModel

NOT_TRAINED: Final = "not_trained"
"""File in place of a result where an arm has no row to train on; it says so in words."""


TARGET_PROMPTS: Final = "target"
"""Prompts of drift's answers: those of each target's training split, or of another one as target/SPLIT."""

DRIFT_NAME: Final = "drift.json"
"""File of a drift step's result."""


class Planner:
    """Builds the plan of a study. The base model is loaded once, when the first step asks for it.

    Args:
        settings: the study.
        root: folder of the run.
        by_name: where the model under study is not on this machine, take keys from the names of models and tasks, so
            that the plan needs neither weights, data nor the Hub. Such a plan can be shown, not run.
    """

    def __init__(self, settings: StudySettings, root: Path, *, by_name: bool = False) -> None:
        self.by_name = by_name and not is_at_hand(settings.model)
        self.settings = settings
        self.root = root
        self._base: LoadedModel | None = None
        self._tuned: tuple[str, LoadedModel] | None = None
        self._probe: tuple[Step, DriftProbe] | None = None
        self._draws: dict[str, Step] = {}
        self._problems: dict[tuple[str, str, int | None, Path | None], str] = {}
        self._runs: dict[tuple[str, str], tuple[ArmRun, ...]] = {}

    def plan(self) -> Plan:
        """All steps of the study with their keys; nothing is run."""
        self._check_validation()
        tasks = dict.fromkeys(task for target in self.settings.targets for task in (target.task, *target.others))
        base = {task: self._evaluate(task, "base", None) for task in tasks}
        targets = tuple(self._target(target) for target in self.settings.targets)
        return Plan(self.settings, base, targets, tuple(self._draws.values()))

    def base(self) -> "LoadedModel":
        """The model under study."""
        from tokensieve.models import load_model

        if self._base is None:
            self._base = load_model(self.settings.model)
        return self._base

    def _target(self, target: TargetSettings) -> TargetPlan:
        arms = (arm for arm in self.settings.arms if arm.is_for(target.task))
        return TargetPlan(target, tuple(self._arm(target, arm) for arm in arms))

    def _arm(self, target: TargetSettings, arm: ArmSettings) -> ArmPlan:
        generate = None if arm.data is Origin.GROUND_TRUTH else self._generate(target, arm)
        scores = self._scores(target, arm, generate)
        seeds = self.settings.seeds
        selects = {seed: self._select(target, arm, scores[-1], seed) for seed in seeds}
        anchors = () if arm.anchors is None else self._anchors(target, arm, arm.anchors, scores[0])
        rates = self.settings.rates_of(arm)
        runs = tuple(self._run(target, arm, selects[seed], seed, rate, anchors) for rate in rates for seed in seeds)
        self._runs[target.task, arm.name] = runs
        return ArmPlan(arm, generate, scores, selects, runs, anchors)

    def _run(
        self, target: TargetSettings, arm: ArmSettings, select: Step, seed: int, rate: float, anchors: tuple[Step, ...]
    ) -> ArmRun:
        several = len(self.settings.rates_of(arm)) > 1
        label = f"{target.task} · {arm.name}{f' · {learning_rate(rate)}' if several else ''} · seed {seed}"
        settings = self.settings.train_of(arm).model_copy(update={"seed": seed, "learning_rate": rate})
        train = self._train(label, settings, select, anchors[-1] if anchors else None)
        repair = None if arm.alpha == 1.0 else self._repair(label, arm.alpha, train)
        tuned = repair or train
        evaluations = {task: self._evaluate(task, label, tuned) for task in (target.task, *target.others)}
        validation = self._evaluate(target.task, label, tuned, validation=True) if several else None
        rows = self._drift_rows(target)
        drift = None if rows is None else self._drift(label, rows, tuned)
        shown = self._tokens(label, select, seed, tuned)
        update = self._update(label, tuned)
        return ArmRun(seed, rate, train, repair, evaluations, validation, drift, update, shown)

    def _repair(self, label: str, alpha: float, train: Step) -> Step:
        """The trained model interpolated with the base."""
        from tokensieve.repair import interpolate

        def build(folder: Path, progress: Progress) -> None:
            progress(0, 1)
            source = self.root / train.folder_name
            if (source / NOT_TRAINED).is_file():
                write_atomically(folder / NOT_TRAINED, b"there is no trained model\n")
                return
            shutil.rmtree(folder, ignore_errors=True)  # left half done by a kill
            interpolate(source, self.settings.model, alpha, folder)

        return Step("repair", label, step_key("repair", {"alpha": alpha}, [train.key]), build, (train,))

    def _drift_rows(self, target: TargetSettings) -> DriftSettings | None:
        """The rows on which drift is measured; the prompts ``target`` are those of the target's own training split."""
        rows = self.settings.evaluate.drift
        prompts = None if rows is None else rows.prompts
        if rows is None or prompts is None:
            return rows
        word, _, split = prompts.partition("/")
        changes: dict[str, str | Path | None] = {"data": rows.data or self._train_data}
        if word == TARGET_PROMPTS:
            changes["prompts"] = f"task:{target.task}/{split or 'train'}"
        return rows.model_copy(update=changes)

    def _anchors(
        self, target: TargetSettings, arm: ArmSettings, settings: AnchorSettings, score: Step
    ) -> tuple[Step, ...]:
        """The steps that select the pilot's rows, every response token of them, and make the anchors."""
        from tokensieve.anchors import make_anchors
        from tokensieve.pipeline import open_selected

        whole = ArmSettings(name=f"{arm.data.value}, every token", data=arm.data)
        select = self._select(target, whole, score, 0)

        def build(folder: Path, progress: Progress) -> None:
            progress(0, settings.count)
            rows = open_selected(self.root / select.folder_name)
            make_anchors(rows, self.settings.model, settings, folder, work=self.root / "anchors-work")

        key = step_key("anchors", _json(settings), [self._model_key, select.key])
        return select, Step("anchors", f"{target.task} · {arm.name}", key, build, (select,))

    def _draw(self, rows: DriftSettings) -> Step:
        """The base's rows on which drift is measured, drawn once for all runs that are measured on them."""
        from tokensieve.drift import probe_sets

        def build(folder: Path, progress: Progress) -> None:
            progress(0, 1)
            folder.mkdir(parents=True, exist_ok=True)  # rows that are read, not drawn, leave nothing in it
            probe_sets(self.base(), rows, folder)

        key = step_key("draw", _json(rows, exclude={"data"}), [self._model_key])
        return self._draws.setdefault(key, Step("draw", "rows for drift", key, build))

    def _drift(self, label: str, rows: DriftSettings, train: Step) -> Step:
        """The drift of one trained model from the base."""
        drawn = self._draw(rows)

        def build(folder: Path, progress: Progress) -> None:
            if (self.root / train.folder_name / NOT_TRAINED).is_file():
                write_atomically(folder / NOT_TRAINED, b"there is no trained model\n")
                return
            progress(0, 1)
            found = self._drift_probe(rows, drawn).measure(self._after(train))
            write_atomically(folder / DRIFT_NAME, found.model_dump_json(indent=2).encode())

        key = step_key("drift", _json(rows, exclude={"data"}), [self._model_key, train.key])
        return Step("drift", label, key, build, (train, drawn))

    def _of_trained(self, verb: str, label: str, inputs: list[str], tuned: Step, write: Callable[[Path], None]) -> Step:
        """A step that measures a trained model, and says so where there is none."""

        def build(folder: Path, progress: Progress) -> None:
            if (self.root / tuned.folder_name / NOT_TRAINED).is_file():
                write_atomically(folder / NOT_TRAINED, b"there is no trained model\n")
                return
            progress(0, 1)
            write(folder)

        return Step(verb, label, step_key(verb, {}, [*inputs, tuned.key]), build, (tuned,))

    def _update(self, label: str, tuned: Step) -> Step | None:
        """The weight update of one trained model; None where the study does not measure it."""
        if not self.settings.evaluate.update:
            return None
        trained = self.root / tuned.folder_name
        return self._of_trained(
            "update", label, [self._model_key], tuned, lambda folder: write_update(trained, self.base(), folder)
        )

    def _tokens(self, label: str, select: Step, seed: int, tuned: Step) -> Step | None:
        """The shown rows under the trained model of the first seed; None for other seeds, or where it is not asked."""
        if not self.settings.evaluate.tokens or seed != self.settings.seeds[0]:
            return None
        selected = self.root / select.folder_name
        return self._of_trained(
            "tokens",
            label,
            [select.key],
            tuned,
            lambda folder: write_shown_tokens(selected, self._after(tuned), folder),
        )

    def _generate(self, target: TargetSettings, arm: ArmSettings) -> Step:
        from tokensieve.generation import generate
        from tokensieve.generation.arms import name_of_origin

        if self.settings.data.split != "train":
            raise InputError(
                f"{arm.data.value} is made of a task's train split, so data.split {self.settings.data.split!r} has no"
                " effect on it",
                where=arm.name,
                fix="data: {split: train}",
            )
        settings = self.settings.generate.model_copy(update={"arm": name_of_origin(arm.data, arm.name)})
        limit = self.settings.data.limit

        def build(folder: Path, progress: Progress) -> None:
            generate(target.task, self.base(), settings, folder, limit=limit, data=self._train_data, progress=progress)

        key = step_key(
            "generate",
            _json(settings),
            [self._model_key, self._task_key(target.task, "train", limit, self._train_data)],
        )
        return Step("generate", f"{target.task} · {arm.data.value}", key, build)

    def _scores(self, target: TargetSettings, arm: ArmSettings, generate: Step | None) -> tuple[Step, ...]:
        """The steps that score an arm's rows: by the base, then by every other scorer that its selection reads."""
        steps = [self._score(target, arm, generate)]
        policy = parse_policy(arm.policy)  # a wrong one is to be known before hours of scoring, not after
        for scorer in dict.fromkeys((arm.scorer, *policy.traits.other_scorers)):
            if scorer != BASE_SCORER:
                steps.append(self._score_by(scorer, target, arm, steps[-1]))
        needs_top_k = "top_entropy" in policy.traits.needs and self.settings.score.entropy_top_k != EAFT_TOP_K
        if needs_top_k:
            raise InputError(
                f"{arm.policy} needs the entropy of the {EAFT_TOP_K} likeliest entries",
                where=arm.name,
                fix=f"score: {{entropy_top_k: {EAFT_TOP_K}}}",
            )
        return tuple(steps)

    def _score(self, target: TargetSettings, arm: ArmSettings, generate: Step | None) -> Step:
        from tokensieve.pipeline import load, open_examples
        from tokensieve.scoring import score

        scoring = self.settings.score.by(BASE_SCORER)
        limit = None if generate else self.settings.data.limit
        reading = self.settings.data.model_copy(update={"limit": limit, "data": self._train_data})
        split = reading.split
        source = generate.key if generate else self._task_key(target.task, split, limit, self._train_data)

        def build(folder: Path, progress: Progress) -> None:
            data: Rows[Example] | str = f"task:{target.task}/{split}"
            if generate is not None:
                data = open_examples(self.root / generate.folder_name)
            rows = load(data, self.base(), reading)
            score(rows, self.base(), scoring, out=folder, progress=progress)

        settings = {**_score_json(scoring), "data": _json(reading, exclude={"data", "limit"})}
        label = f"{target.task} · {arm.data.value}"
        needs = () if generate is None else (generate,)
        return Step("score", label, step_key("score", settings, [self._model_key, source]), build, needs)

    def _score_by(self, scorer: str, target: TargetSettings, arm: ArmSettings, before: Step) -> Step:
        """Scores by another model, beside those that an earlier step has made."""
        from tokensieve.models import fingerprint, load_model
        from tokensieve.pipeline import open_scored
        from tokensieve.scoring import score

        model = self.settings.score.models.get(scorer)
        if model is None:
            known = ", ".join((BASE_SCORER, *self.settings.score.models))
            raise InputError(
                f"the policy reads scores by {scorer!r}; the study's scorers are: {known}",
                where=arm.name,
                fix=f"score: {{models: {{{scorer}: {{model: NAME}}}}}}, or arm:NAME for the model of an earlier arm",
            )
        settings = self.settings.score.by(scorer)
        if isinstance(model, ModelSettings):
            needs: tuple[Step, ...] = (before,)
            key = key_by_name(model) if self.by_name else fingerprint(model)
            load = partial(load_model, model)
        else:
            train = self._trained_by(model.removeprefix(ARM_PREFIX), target, arm)
            needs = (before, train)
            key, load = train.key, partial(self._after, train)

        def build(folder: Path, progress: Progress) -> None:
            score(open_scored(self.root / before.folder_name), load(), settings, out=folder, progress=progress)

        label = f"{target.task} · {arm.data.value} · by {scorer}"
        return Step("score", label, step_key("score", _score_json(settings), [before.key, key]), build, needs)

    def _trained_by(self, name: str, target: TargetSettings, arm: ArmSettings) -> Step:
        """The training step of an earlier arm with the first seed, whose model scores another arm's rows."""
        runs = self._runs.get((target.task, name))
        if runs is None:
            raise InputError(
                f"the model of arm {name!r} is to score this arm's rows, so {name!r} must stand before it",
                where=arm.name,
                fix=f"change the order of the arms, and train {name!r} on {target.task} too",
            )
        if len({run.learning_rate for run in runs}) > 1:
            raise InputError(
                f"the model of arm {name!r} is to score this arm's rows, but {name!r} is trained at several rates",
                where=arm.name,
                fix=f"name an arm of one rate: {{name: scorer, train: {{learning_rate: {runs[0].learning_rate:g}}}}}",
            )
        return runs[0].train

    def _select(self, target: TargetSettings, arm: ArmSettings, score: Step, seed: int) -> Step:
        from tokensieve.pipeline import mix_digest, open_scored, select

        policy = parse_policy(arm.policy)
        drawn = policy.traits.seeded or arm.mix is not None
        settings = arm.select_settings(seed if drawn else 0)

        def build(folder: Path, progress: Progress) -> None:
            rows = open_scored(self.root / score.folder_name)
            progress(0, len(rows))
            select(rows, settings, folder, mix=arm.mix)

        mix = [] if arm.mix is None else [arm.mix, *mix_digest(arm.mix).values()]
        key = step_key("select", settings.for_key(), [score.key, code_digest(policy), *mix])
        return Step("select", f"{target.task} · {arm.name}", key, build, (score,))

    def _drift_probe(self, rows: DriftSettings, drawn: Step) -> "DriftProbe":
        """The base's rows and hidden states, made once for all runs of a target; the last ones are kept."""
        from tokensieve.drift import DriftProbe

        if self._probe is None or self._probe[0] is not drawn:
            self._probe = None  # frees the one before
            self._probe = (drawn, DriftProbe(self.base(), rows, self.root / drawn.folder_name))
        return self._probe[1]

    def _train(self, label: str, settings: TrainSettings, select: Step, anchors: Step | None) -> Step:
        from tokensieve.pipeline import open_selected
        from tokensieve.training import train

        def build(folder: Path, progress: Progress) -> None:
            rows = open_selected(self.root / select.folder_name)
            if len(rows) == 0:
                write_atomically(folder / NOT_TRAINED, b"no row is left to train on\n")
            else:
                train(rows, self.settings.model, self._held(settings, anchors), folder, progress=progress)

        needs = (select,) if anchors is None else (select, anchors)
        key = step_key("train", _json(settings), [self._model_key, *(step.key for step in needs)])
        return Step("train", label, key, build, needs)

    def _held(self, settings: TrainSettings, anchors: Step | None) -> TrainSettings:
        """The settings of a run with the folder of its anchors."""
        if anchors is None:
            return settings
        kl = settings.objective.kl.model_copy(update={"anchors": self.root / anchors.folder_name})
        return settings.model_copy(update={"objective": settings.objective.model_copy(update={"kl": kl})})

    def _evaluate(self, task: str, label: str, train: Step | None, *, validation: bool = False) -> Step:
        from tokensieve.evaluation import evaluate

        is_target = any(task == t.task for t in self.settings.targets)
        settings = self.settings.evaluate.of(task, is_target=is_target)
        if validation:
            settings = self._on_validation(settings)

        def build(folder: Path, progress: Progress) -> None:
            if train is not None and (self.root / train.folder_name / NOT_TRAINED).is_file():
                write_atomically(folder / NOT_TRAINED, b"there is no trained model\n")
                return
            model = self.base() if train is None else self._after(train)
            evaluate(model, settings, folder, progress=progress)

        problems = self._task_key(task, settings.split, settings.limit, settings.data)
        inputs = [self._model_key, problems] if train is None else [train.key, problems]
        told = f"{task} {settings.split} · {label}" if validation else f"{task} · {label}"
        needs = () if train is None else (train,)
        return Step("evaluate", told, step_key("evaluate", _json(settings), inputs), build, needs)

    def _check_validation(self) -> None:
        """Refuse a target without validation problems for an arm whose rate is chosen on them."""
        from tokensieve.tasks import get_task

        for task in (target.task for target in self.settings.targets):
            swept = any(arm.is_for(task) and len(self.settings.rates_of(arm)) > 1 for arm in self.settings.arms)
            if swept and "validation" not in (splits := get_task(task).splits):
                raise InputError(
                    f"a learning rate is chosen on the target's validation problems, and {task} has none; its splits"
                    f" are: {', '.join(splits)}",
                    where="sweep",
                    fix="another target, or one learning rate for every arm",
                )

    def _on_validation(self, settings: EvaluateSettings) -> EvaluateSettings:
        """The settings of answering the problems on which a rate is chosen."""
        limit = self.settings.sweep.validation_limit or settings.limit
        return settings.model_copy(update={"split": "validation", "limit": limit})

    def _after(self, train: Step) -> "LoadedModel":
        """The trained model; the last one stays loaded, since its evaluations follow each other."""
        from tokensieve.models import load_model
        from tokensieve.training import open_adapter

        if self._tuned is None or self._tuned[0] != train.key:
            self._tuned = None  # frees the one before
            settings = open_adapter(self.root / train.folder_name).on(self.settings.model)
            self._tuned = (train.key, load_model(settings))
        return self._tuned[1]

    @property
    def _train_data(self) -> Path | None:
        """Folder with local copies of the benchmarks whose training splits are learnt."""
        return self.settings.data.data or self.settings.evaluate.data

    @property
    def inputs(self) -> dict[str, str]:
        """Digest of everything that the study starts from: the base model, and each set of problems."""
        problems = {
            f"{task}/{split}" + ("" if limit is None else f", the first {limit}"): digest
            for (task, split, limit, _), digest in self._problems.items()
        }
        return {"model": self._model_key, **problems}

    @cached_property
    def _model_key(self) -> str:
        from tokensieve.models import fingerprint

        return key_by_name(self.settings.model) if self.by_name else fingerprint(self.settings.model)

    def _task_key(self, task: str, split: str, limit: int | None, data: Path | None) -> str:
        """Digest of the problems themselves, so that a changed benchmark is noticed."""
        from tokensieve.sampling.grading import problems_digest
        from tokensieve.tasks import get_task

        asked = (task, split, limit, data)
        if self.by_name:
            return digest_of(["by name", task, split, limit])
        if asked not in self._problems:
            self._problems[asked] = problems_digest(get_task(task).problems(split, data, limit))
        return self._problems[asked]


def _json(settings: BaseModel, exclude: set[str] | None = None) -> dict[str, JSON]:
    return cast("dict[str, JSON]", settings.model_dump(mode="json", exclude=exclude))


def _score_json(settings: ScoreSettings) -> dict[str, JSON]:
    from tokensieve.scoring import NO_PART_OF_THE_RESULT

    return _json(settings, exclude=NO_PART_OF_THE_RESULT)
