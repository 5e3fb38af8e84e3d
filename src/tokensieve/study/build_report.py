"""From a study's finished steps to its report: every number on the page is read from a step's folder here."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from tokensieve import metrics
from tokensieve.analysis import profile
from tokensieve.analysis.diversity import diversity
from tokensieve.analysis.update_results import WeightUpdate
from tokensieve.config import ArmSettings
from tokensieve.data.dataset import open_rows
from tokensieve.data.manifest import package_versions, read_manifest
from tokensieve.drift import Drift
from tokensieve.drift.update import UPDATE_NAME
from tokensieve.errors import InputError
from tokensieve.metrics import Flags
from tokensieve.pipeline import open_selected
from tokensieve.pipeline.load import STRUCTURE_IDS
from tokensieve.report.samples import sample_rows
from tokensieve.report.schema import (
    REFERENCE_ARM,
    ArmReport,
    CurvePoint,
    DriftSet,
    EvaluatedSubset,
    Outcomes,
    ReferenceComparison,
    Report,
    SeedRun,
    StageTime,
    TargetReport,
    TaskResult,
)
from tokensieve.scoring.preferred import preferred_ids
from tokensieve.selection.protection import protected_T
from tokensieve.study import likelihoods
from tokensieve.study.flips import PAGE_CHARACTERS, with_flips
from tokensieve.study.plan import DRIFT_NAME, NOT_TRAINED
from tokensieve.study.record import read_record
from tokensieve.study.steps import ArmPlan, ArmRun, Plan, Runner, Step, TargetPlan
from tokensieve.study.sweep import frontier, swept
from tokensieve.study.trained_model import read_shown_tokens
from tokensieve.training import open_adapter
from tokensieve.types import BASE_SCORER, JSON, BoolArray, IntArray, Outcome, Problem, Sample, Tokens

if TYPE_CHECKING:
    from tokensieve.models import LoadedModel

_CURVE_POINTS = 200
"""Steps of a training curve that the page shows at most; longer ones are thinned."""


def assemble(plan: Plan, runner: Runner, model: "LoadedModel", cached: frozenset[str] = frozenset()) -> Report:
    """The report of a study whose steps are all finished.

    Args:
        plan: the study's steps.
        runner: knows their folders.
        model: the base model; its tokenizer reads the token ids.
        cached: keys of the steps that an earlier start had made.
    """
    source = _Source(runner, model, plan.settings.evaluate.data, plan.base)
    tasks = tuple(plan.base)
    return Report(
        name=plan.settings.name,
        title=plan.settings.title,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        model=model.identity,
        parameters=model.model.num_parameters(),
        seeds=plan.settings.seeds,
        settings=cast("dict[str, JSON]", plan.settings.model_dump(mode="json")),
        notes=plan.settings.notes,
        subsets=tuple(source.subset(task, plan.base[task], plan.settings.evaluate.split) for task in tasks),
        targets=tuple(_target(target, plan, source) for target in plan.targets),
        timing=tuple(source.time(step, step.key in cached) for step in plan.steps()),
        commands=(f"tokensieve run {plan.settings.name}",),
        versions=dict(package_versions()),
        run=read_record(runner.root),
    )


@dataclass(frozen=True)
class _Source:
    """Reads steps' folders; each evaluation once."""

    runner: Runner
    model: "LoadedModel"
    data: Path | None
    base: Mapping[str, Step]
    _samples: dict[str, tuple[Sample, ...]] = field(default_factory=dict)
    _preferred: dict[bytes, IntArray] = field(default_factory=dict)

    def samples(self, step: Step) -> tuple[Sample, ...]:
        """An evaluation's answers, in the order of the problems' ids."""
        if step.key not in self._samples:
            rows = cast("Sequence[Sample]", list(open_rows(self.runner.folder(step))))
            self._samples[step.key] = tuple(sorted(rows, key=lambda sample: (sample.problem_id, sample.index)))
        return self._samples[step.key]

    def flags(
        self, steps: Mapping[str, Step], like: Mapping[str, Step]
    ) -> "dict[str, BoolArray | NDArray[np.float64]]":
        """Task to one value a problem, after checking that both evaluations answered the same problems.

        Correct or not; of a task that is measured by likelihood 1 / perplexity.
        """
        found: dict[str, BoolArray | NDArray[np.float64]] = {}
        for task, step in steps.items():
            mine, theirs = self.samples(step), self.samples(like[task])
            if [s.problem_id for s in mine] != [s.problem_id for s in theirs]:
                raise InputError(
                    "the problems before and after differ", where=step.label, fix="delete the run's folder"
                )
            if self.by_likelihood(task):
                found[task] = np.array([likelihoods.value_of(s) for s in mine])
            else:
                found[task] = np.array([s.verdict is not None and s.verdict.correct for s in mine], dtype=np.bool_)
        return found

    def result(self, task: str, steps: Sequence[Step]) -> TaskResult:
        """A task's accuracy and outcomes; the answers of several seeds are pooled."""
        samples = [sample for step in steps for sample in self.samples(step)]
        outcomes = Counter(Outcome.NOT_JUDGED if s.verdict is None else s.verdict.outcome for s in samples)
        problems = len({sample.problem_id for sample in samples})  # seeds answer the same ones
        nats: dict[str, metrics.Estimate] = {}
        if self.by_likelihood(task):
            measured = likelihoods.mean_value(samples)
            nats = likelihoods.nats(samples, self.samples(self.base[task]))
        else:
            measured = metrics.accuracy(outcomes[Outcome.CORRECT], len(samples), problems=problems)
        return TaskResult(
            task=task,
            accuracy=measured,
            nats=nats,
            outcomes=Outcomes(
                **{outcome.value: outcomes[outcome] for outcome in Outcome},
                limited=sum(not s.finished for s in samples),
                limited_correct=sum(not s.finished and s.verdict is not None and s.verdict.correct for s in samples),
            ),
        )

    def accuracy(self, task: str, runs: Sequence[ArmRun]) -> metrics.Estimate:
        """Accuracy of several seeds' runs on a task."""
        return self.result(task, [run.evaluations[task] for run in runs]).accuracy

    def validation(self, task: str, runs: Sequence[ArmRun]) -> tuple[metrics.Estimate, int]:
        """Accuracy of several seeds' runs on the target's validation problems, and the number of those."""
        steps = [run.validation for run in runs if run.validation is not None]
        problems = len({sample.problem_id for sample in self.samples(steps[0])})
        return self.result(task, steps).accuracy, problems

    def drift(self, run: ArmRun) -> float | None:
        """Mean drift of a run; None where it is not measured."""
        return _mean_kl(_drift_sets(run, self))

    @staticmethod
    def by_likelihood(task: str) -> bool:
        """True where a task has no right or wrong."""
        from tokensieve.tasks import get_task

        return get_task(task).measures_likelihood

    def subset(self, task: str, step: Step, split: str) -> EvaluatedSubset:
        """Number of a task's problems that were answered."""
        available = sum(1 for _ in self.problems(task, split))
        return EvaluatedSubset(task=task, split=split, evaluated=len(self.samples(step)), available=available)

    def problems(self, task: str, split: str) -> Iterable[Problem]:
        """A task's problems."""
        from tokensieve.tasks import get_task

        return get_task(task).problems(split, self.data)

    def text(self, ids: Sequence[int]) -> str:
        """Token ids to text."""
        return str(self.model.tokenizer.decode(list(ids)))

    def time(self, step: Step, cached: bool) -> StageTime:
        """Wall time of a step."""
        record = self.runner.record(step)
        wall_s = record.wall_s if record else 0.0
        return StageTime(stage=f"{step.verb} {step.label}", wall_s=wall_s, cached=cached)

    def not_trained(self, arm: ArmPlan) -> str:
        """Why an arm has no run, in words; empty where it has one."""
        notes = [self.runner.folder(run.train) / NOT_TRAINED for run in arm.runs]
        return next((note.read_text(encoding="utf-8").strip() for note in notes if note.is_file()), "")

    def preferred(self, rows: Sequence[Tokens]) -> list[IntArray]:
        """The base's likeliest token at every response token; the rows that several arms show are read once."""
        new = {row.ids_T.tobytes() + row.in_response_T.tobytes(): row for row in rows}
        new = {key: row for key, row in new.items() if key not in self._preferred}
        self._preferred.update(zip(new, preferred_ids(list(new.values()), self.model), strict=True))
        return [self._preferred[row.ids_T.tobytes() + row.in_response_T.tobytes()] for row in rows]

    @cached_property
    def piece(self) -> Callable[[int], str]:
        """Token id to text."""
        tokenizer = self.model.tokenizer
        return lru_cache(maxsize=None)(lambda token: str(tokenizer.decode([token])))


def _target(target: TargetPlan, plan: Plan, source: _Source) -> TargetReport:
    name, others = target.settings.task, target.settings.others
    base_steps = {task: plan.base[task] for task in (name, *others)}
    before = source.flags(base_steps, base_steps)
    base = {task: float(flags.mean()) for task, flags in before.items()}
    trained = {
        arm.settings.name: swept(
            arm, lambda run: source.flags(run.evaluations, base_steps), partial(source.validation, name)
        )
        for arm in target.arms
        if not source.not_trained(arm)
    }
    reference = trained.get(REFERENCE_ARM)
    against = None if reference is None else reference.after[reference.chosen]
    reports = [
        _arm(one.arm.at(one.chosen), name, before, one.after[one.chosen], against, source)
        if (one := trained.get(arm.settings.name)) is not None
        else _arm_without_a_run(arm, source)
        for arm in target.arms
    ]
    points = [
        frontier(one, before, name, reference, partial(source.accuracy, name), source.drift) for one in trained.values()
    ]
    told = TargetReport(
        task=name,
        title=target.settings.title,
        others=others,
        dropped_from_transfer=metrics.undefined_tasks(base, name),
        base=tuple(source.result(task, [step]) for task, step in base_steps.items()),
        arms=tuple(reports),
        frontier=tuple(points) if any(one.validation for one in trained.values()) else (),
    )
    own = tuple(one.arm.at(one.chosen) for one in trained.values())
    return _with_flips(told, own, target, plan, source)


def _with_flips(
    report: TargetReport, trained: Sequence[ArmPlan], target: TargetPlan, plan: Plan, source: _Source
) -> TargetReport:
    """The report with the flips of its arms, and with the training rows that are near to them."""
    tasks = (target.settings.task, *target.settings.others)
    if not trained:
        return report
    after = {
        arm.settings.name: [{task: source.samples(run.evaluations[task]) for task in tasks} for run in arm.runs]
        for arm in trained
    }
    cells = sum(len((t.settings.task, *t.settings.others)) * len(t.arms) for t in plan.targets)
    select = trained[0].selects[trained[0].runs[0].seed]
    return with_flips(
        report,
        {task: source.samples(plan.base[task]) for task in tasks},
        after,
        lambda task: source.problems(task, plan.settings.evaluate.split),
        open_selected(source.runner.folder(select)),
        source.text,
        PAGE_CHARACTERS // cells,
    )


def _arm(
    arm: ArmPlan,
    target: str,
    before: Flags,
    after: Sequence[Flags],
    reference: Sequence[Flags] | None,
    source: _Source,
) -> ArmReport:
    selected = open_selected(source.runner.folder(arm.selects[arm.runs[0].seed]))
    facts = selected.manifest.facts
    threshold = cast("float | None", facts["threshold_nats"]) if arm.settings.scorer == BASE_SCORER else None
    rows_in, dropped = _rows(arm, source)
    found = metrics.forgetting(before, after, target)
    against = None
    if reference is not None and arm.settings.name != REFERENCE_ARM:
        points, transfer = metrics.difference(before, after, reference, target)
        against = ReferenceComparison(target_points=points, backward_transfer=transfer)
    steps = [source.runner.record(step) for step in arm.steps()]
    return ArmReport(
        name=arm.settings.name,
        policy=arm.settings.policy,
        origin=arm.settings.data,
        learning_rate=arm.runs[0].learning_rate,
        rows_in=rows_in,
        own_settings=_own_settings(arm.settings),
        rows_out=len(selected),
        dropped=dropped,
        noted=cast("dict[str, int]", facts["noted"]),
        white_space=_white_space(facts),
        self_bleu=diversity(row.tokens for row in selected),
        protected_tokens=cast(int, facts["protected_tokens"]),
        protected_share_of_kept_nll=cast(float, facts["protected_share_of_kept_nll"]),
        profile=profile(selected, threshold_nats=threshold, piece=source.piece),
        results=tuple(source.result(task, [run.evaluations[task] for run in arm.runs]) for task in before),
        target_improvement=found.ti,
        target_points=found.ti_points,
        backward_transfer=found.bwt,
        against_reference=against,
        runs=tuple(_run(run, target, before, flags, source) for run, flags in zip(arm.runs, after, strict=True)),
        wall_s=sum(record.wall_s for record in steps if record),
        samples=sample_rows(
            selected,
            source.piece,
            protected_T=partial(_protected_T, arm.settings, facts),
            preferred=source.preferred,
            tuned=None if arm.runs[0].tokens is None else read_shown_tokens(source.runner.folder(arm.runs[0].tokens)),
        ),
    )


def _protected_T(arm: ArmSettings, facts: Mapping[str, JSON], tokens: Tokens) -> BoolArray:
    ids = cast("Mapping[str, Sequence[int]] | None", facts.get(STRUCTURE_IDS))
    return protected_T(tokens, arm.select_settings(0), ids or {})


def _own_settings(arm: ArmSettings) -> dict[str, JSON]:
    """An arm's settings beside its name, origin and policy, by dotted key."""
    given = arm.model_dump(mode="json", exclude_defaults=True, exclude={"name", "data", "policy", "targets", "train"})
    return {**given, **dict(_flat(arm.train))}


def _flat(settings: Mapping[str, JSON], prefix: str = "") -> Iterator[tuple[str, JSON]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _white_space(facts: Mapping[str, JSON]) -> dict[str, float]:
    """Fraction of the tokens of high perplexity that a normalisation of white space would change, by its name."""
    high, found = facts["high_perplexity_tokens"], facts["high_perplexity_white_space"]
    if not (isinstance(high, int) and high and isinstance(found, dict)):
        return {}
    return {kind: count / high for kind, count in found.items() if isinstance(count, int) and count}


def _arm_without_a_run(arm: ArmPlan, source: _Source) -> ArmReport:
    rows_in, dropped = _rows(arm, source)
    return ArmReport(
        name=arm.settings.name,
        policy=arm.settings.policy,
        own_settings=_own_settings(arm.settings),
        origin=arm.settings.data,
        not_trained=source.not_trained(arm),
        rows_in=rows_in,
        rows_out=0,
        dropped=dropped,
    )


def _rows(arm: ArmPlan, source: _Source) -> tuple[int, dict[str, int]]:
    """Rows that entered the arm's first stage, and those dropped on the way, by reason, over all its stages."""
    steps = [arm.generate, *arm.scores, arm.selects[arm.runs[0].seed]]
    counts = [read_manifest(source.runner.folder(step)).counts for step in steps if step is not None]
    dropped: Counter[str] = Counter()
    for count in counts:
        dropped.update(count.dropped)
    return counts[0].rows_in, dict(dropped)


def _run(run: ArmRun, target: str, before: Flags, after: Flags, source: _Source) -> SeedRun:
    base = {task: float(flags.mean()) for task, flags in before.items()}
    tuned = {task: float(flags.mean()) for task, flags in after.items()}
    record = source.runner.record(run.train)
    log = open_adapter(source.runner.folder(run.train)).log
    every = max(1, len(log) // _CURVE_POINTS)
    sets = _drift_sets(run, source)
    return SeedRun(
        seed=run.seed,
        target_improvement=_number(metrics.target_improvement(base, tuned, target)),
        backward_transfer=_number(metrics.backward_transfer(base, tuned, target)),
        target_accuracy=tuned[target],
        drift=_mean_kl(sets),
        drift_sets=sets,
        update=_update(run, source),
        curve=tuple(CurvePoint(step=entry.step, loss=entry.loss) for entry in log[::every]),
        wall_s=record.wall_s if record else None,
    )


def _drift_sets(run: ArmRun, source: _Source) -> tuple[DriftSet, ...]:
    """Drift by set of rows; empty where the study does not measure it."""
    if run.drift is None:
        return ()
    text = (source.runner.folder(run.drift) / DRIFT_NAME).read_text(encoding="utf-8")
    probes = Drift.model_validate_json(text).probes
    return tuple(DriftSet.model_validate(probe.model_dump(exclude={"rows", "tokens"})) for probe in probes)


def _mean_kl(sets: Sequence[DriftSet]) -> float | None:
    """Mean over the sets of rows of KL(base || model), nats per token."""
    values = [one.kl.value for one in sets if one.kl.value is not None]
    return float(np.mean(values)) if values else None


def _update(run: ArmRun, source: _Source) -> WeightUpdate | None:
    if run.update is None:
        return None
    return WeightUpdate.model_validate_json((source.runner.folder(run.update) / UPDATE_NAME).read_bytes())


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
