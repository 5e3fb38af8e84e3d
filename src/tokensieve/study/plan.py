"""From a study's settings to its plan: which steps every arm of every target takes, and what depends on what."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from tokensieve.config import ArmSettings, StudySettings, TargetSettings
from tokensieve.errors import InputError
from tokensieve.report.number_format import learning_rate
from tokensieve.study.inputs import StudyInputs
from tokensieve.study.measuring_steps import MeasuringSteps
from tokensieve.study.steps import Step
from tokensieve.study.training_steps import TrainingSteps
from tokensieve.types import Origin


@dataclass(frozen=True, slots=True)
class ArmRun:
    """One arm of one target at one learning rate with one seed.

    Attributes:
        learning_rate: the peak.
        train: makes the trained model.
        repair: interpolates it with the base; None where the arm does not.
        evaluations: one step a task, by the task's name.
        validation: answers the target's validation problems; None where the arm has one rate, so none is chosen.
        drift: measures the model's drift from the base; None where the study does not.
        update: measures its weight update, likewise.
        tokens: scores the training rows that the page shows by the trained model, likewise.
        start: evaluations of the model that it goes on from, by task; empty where that is the model under study.
    """

    seed: int
    learning_rate: float
    train: Step
    repair: Step | None
    evaluations: Mapping[str, Step]
    validation: Step | None = None
    drift: Step | None = None
    update: Step | None = None
    tokens: Step | None = None
    start: Mapping[str, Step] = field(default_factory=dict)

    def steps(self) -> Iterator[Step]:
        """Training and what is done with the trained model, in the order in which they can be made."""
        yield from self.start.values()
        yield self.train
        if self.repair is not None:
            yield self.repair
        yield from self.evaluations.values()
        measured = (self.validation, self.drift, self.update, self.tokens)
        yield from (step for step in measured if step is not None)


@dataclass(frozen=True, slots=True)
class ArmRows:
    """The training rows of one arm with one seed; seeds share the steps in which nothing is drawn.

    Attributes:
        generate: makes the data; None where they are the task's own.
        scores: score the rows, the base first; the last one's folder holds the scores of all.
        select: selects the tokens that are trained.
        anchors: select the pilot's rows and make the anchors; empty where training has none.
    """

    generate: Step | None
    scores: tuple[Step, ...]
    select: Step
    anchors: tuple[Step, ...] = ()

    def steps(self) -> Iterator[Step]:
        """Its steps in the order in which they can be made."""
        if self.generate is not None:
            yield self.generate
        yield from self.scores
        yield from self.anchors
        yield self.select


@dataclass(frozen=True, slots=True)
class ArmPlan:
    """One arm of one target: its rows and its runs. What is drawn at random is drawn anew for every seed.

    Attributes:
        rows: by seed.
        runs: one for each rate and seed.
    """

    settings: ArmSettings
    rows: Mapping[int, ArmRows]
    runs: tuple[ArmRun, ...]

    @property
    def first_rows(self) -> ArmRows:
        """The rows of the first run."""
        return self.rows[self.runs[0].seed]

    def steps(self) -> Iterator[Step]:
        """Its steps in the order in which they can be made."""
        for run in self.runs:
            yield from self.rows[run.seed].steps()
            yield from run.steps()

    def by_rate(self) -> dict[float, tuple[ArmRun, ...]]:
        """Learning rate, ascending, to its runs in the order of the seeds."""
        rates = sorted({run.learning_rate for run in self.runs})
        return {rate: tuple(run for run in self.runs if run.learning_rate == rate) for rate in rates}

    def at(self, rate: float) -> "ArmPlan":
        """The arm with the runs at one learning rate only."""
        return replace(self, runs=self.by_rate()[rate])


@dataclass(frozen=True, slots=True)
class TargetPlan:
    """One target with all its arms."""

    settings: TargetSettings
    arms: tuple[ArmPlan, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole study: the base model's evaluations, then every target.

    Attributes:
        base: one evaluation a task, by the task's name.
        draws: draw the rows on which drift is measured; empty where it is not.
    """

    settings: StudySettings
    base: Mapping[str, Step]
    targets: tuple[TargetPlan, ...]
    draws: tuple[Step, ...] = ()

    def steps(self) -> tuple[Step, ...]:
        """All steps, each once, in the order in which they can be made."""
        arms = (step for target in self.targets for arm in target.arms for step in arm.steps())
        listed = [*self.base.values(), *self.draws, *arms]
        return tuple({step.key: step for step in listed}.values())


class Planner:
    """Builds the plan of a study.

    Args:
        settings: the study.
        root: folder of the run.
        by_name: as in ``StudyInputs``.

    Attributes:
        inputs: the models and problems that the study starts from.
    """

    def __init__(self, settings: StudySettings, root: Path, *, by_name: bool = False) -> None:
        self.inputs = StudyInputs(settings, root, by_name=by_name)
        self._settings = settings
        self._training = TrainingSteps(self.inputs)
        self._measuring = MeasuringSteps(self.inputs)
        self._runs: dict[tuple[str, str], tuple[ArmRun, ...]] = {}

    def plan(self) -> Plan:
        """All steps of the study with their keys; nothing is run."""
        self._measuring.check_validation()
        tasks = dict.fromkeys(task for target in self._settings.targets for task in (target.task, *target.others))
        base = {task: self._measuring.evaluate(task, "base", None) for task in tasks}
        targets = tuple(self._target(target) for target in self._settings.targets)
        return Plan(self._settings, base, targets, tuple(self._measuring.draws.values()))

    def _target(self, target: TargetSettings) -> TargetPlan:
        arms = (arm for arm in self._settings.arms if arm.is_for(target.task))
        return TargetPlan(target, tuple(self._arm(target, arm) for arm in arms))

    def _arm(self, target: TargetSettings, arm: ArmSettings) -> ArmPlan:
        seeds, rates = self._settings.seeds, self._settings.rates_of(arm)
        earlier = {run.seed: run for run in self._runs[target.after, arm.name]} if target.after else {}
        rows = {seed: self._rows(target, arm, seed, earlier.get(seed)) for seed in seeds}
        runs = tuple(
            self._run(target, arm, rows[seed], seed, rate, earlier.get(seed)) for rate in rates for seed in seeds
        )
        self._runs[target.task, arm.name] = runs
        return ArmPlan(arm, rows, runs)

    def _rows(self, target: TargetSettings, arm: ArmSettings, seed: int, earlier: ArmRun | None) -> ArmRows:
        steps, start = self._training, None if earlier is None else earlier.train
        generate = None if arm.data is Origin.GROUND_TRUTH else steps.generate(target, arm, start)
        scores = steps.scores(target, arm, generate, start, lambda name: self._trained_by(name, target, arm))
        anchors = () if arm.anchors is None else steps.anchors(target, arm, arm.anchors, scores[0], start)
        return ArmRows(generate, scores, steps.select(target, arm, scores[-1], seed), anchors)

    def _run(
        self, target: TargetSettings, arm: ArmSettings, rows: ArmRows, seed: int, rate: float, earlier: ArmRun | None
    ) -> ArmRun:
        several = len(self._settings.rates_of(arm)) > 1
        label = f"{target.task} · {arm.name}{f' · {learning_rate(rate)}' if several else ''} · seed {seed}"
        settings = self._settings.train_of(arm).model_copy(update={"seed": seed, "learning_rate": rate})
        anchors = rows.anchors[-1] if rows.anchors else None
        start = None if earlier is None else earlier.train
        train = self._training.train(target, label, settings, rows.select, anchors, start)
        repair = None if arm.alpha == 1.0 else self._training.repair(label, arm.alpha, train)
        measure, tuned = self._measuring, repair or train
        tasks = (target.task, *target.others)
        before = f"{target.after} · {arm.name} · seed {seed}"
        return ArmRun(
            seed=seed,
            learning_rate=rate,
            train=train,
            repair=repair,
            evaluations={task: measure.evaluate(task, label, tuned) for task in tasks},
            validation=measure.evaluate(target.task, label, tuned, validation=True) if several else None,
            drift=measure.drift(target, label, tuned),
            update=measure.update(label, tuned, settings),
            tokens=measure.tokens(label, rows.select, seed, tuned),
            start={} if start is None else {task: measure.evaluate(task, before, start) for task in tasks},
        )

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
