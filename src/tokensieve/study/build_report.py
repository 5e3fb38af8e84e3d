"""From a study's finished steps to its report: every number on the page is read from a step's folder here."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict

from tokensieve import metrics
from tokensieve.analysis import profile
from tokensieve.analysis.similarity import diversity
from tokensieve.config import ArmSettings
from tokensieve.data.manifest import package_versions, read_manifest
from tokensieve.metrics import Flags
from tokensieve.pipeline import open_selected
from tokensieve.report.browsers import sample_rows
from tokensieve.report.results_schema import CurvePoint, SeedRun
from tokensieve.report.schema import REFERENCE_ARM, ArmReport, ReferenceComparison, Report, RunRecord, TargetReport
from tokensieve.selection.policy import protected_T
from tokensieve.study.flips import PAGE_CHARACTERS, with_flips
from tokensieve.study.measuring_steps import read_shown_tokens
from tokensieve.study.plan import ArmPlan, ArmRun, Plan, TargetPlan
from tokensieve.study.step_results import StepResults, drift_sets, mean_kl
from tokensieve.study.steps import NOT_TRAINED, Runner, Step
from tokensieve.study.sweep import frontier, swept
from tokensieve.training import open_adapter
from tokensieve.types import BASE_SCORER, JSON, BoolArray, Tokens

if TYPE_CHECKING:
    from tokensieve.models import LoadedModel

_CURVE_POINTS = 200
"""Steps of a training curve that the page shows at most; longer ones are thinned."""


class _SelectionFacts(BaseModel):
    """What select has noted of its rows in the manifest, as far as the report tells it."""

    model_config = ConfigDict(frozen=True)

    threshold_nats: float | None
    noted: dict[str, int]
    protected_tokens: int
    protected_share_of_kept_nll: float
    high_perplexity_tokens: int | None
    high_perplexity_white_space: dict[str, int]
    structure_ids: dict[str, list[int]] | None = None


def assemble(
    plan: Plan, runner: Runner, model: "LoadedModel", record: RunRecord | None, command: str, cached: frozenset[str]
) -> Report:
    """The report of a study whose steps are all finished.

    Args:
        plan: the study's steps.
        runner: knows their folders.
        model: the base model; its tokenizer reads the token ids.
        record: with what the run was made; None where it is not known.
        command: the shell command that asks for it.
        cached: keys of the steps that an earlier start had made.
    """
    source = StepResults(runner, model, plan.settings.evaluate.data, plan.base)
    tasks = tuple(plan.base)
    return Report(
        name=plan.settings.name,
        title=plan.settings.title,
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        model=model.identity,
        parameters=model.model.num_parameters(),
        seeds=plan.settings.seeds,
        settings=plan.settings.model_dump(mode="json"),
        notes=plan.settings.notes,
        subsets=tuple(source.subset(task, plan.base[task], plan.settings.evaluate.split) for task in tasks),
        targets=tuple(_target(target, plan, source) for target in plan.targets),
        timing=tuple(source.time(step, step.key in cached) for step in plan.steps()),
        commands=(command,),
        versions=dict(package_versions()),
        run=record,
    )


def _target(target: TargetPlan, plan: Plan, source: StepResults) -> TargetReport:
    name, others = target.settings.task, target.settings.others
    base_steps = {task: plan.base[task] for task in (name, *others)}
    base_flags = source.flags(base_steps, base_steps)
    trained = {
        arm.settings.name: swept(
            arm, lambda run: source.flags(run.evaluations, base_steps), partial(source.validation, name)
        )
        for arm in target.arms
        if not source.not_trained(arm)
    }
    before = {key: _before(one.arm.at(one.chosen), base_flags, base_steps, source) for key, one in trained.items()}
    undefined = {task for one in (base_flags, *before.values()) for task in _undefined(one, name)}
    reference = trained.get(REFERENCE_ARM)
    against = None if reference is None else (reference.after[reference.chosen], before[REFERENCE_ARM])
    reports = [
        _arm(one.arm.at(one.chosen), name, before[arm.settings.name], one.after[one.chosen], against, source)
        if (one := trained.get(arm.settings.name)) is not None
        else _arm_without_a_run(arm, source)
        for arm in target.arms
    ]
    rates_tried = any(one.validation for one in trained.values())
    points = [
        frontier(one, base_flags, name, reference, partial(source.after, name), source.drift)
        for one in trained.values()
        if rates_tried
    ]
    told = TargetReport(
        task=name,
        title=target.settings.title,
        after=target.settings.after,
        others=others,
        dropped_from_transfer=tuple(task for task in others if task in undefined),
        base=tuple(source.result(task, [step]) for task, step in base_steps.items()),
        arms=tuple(reports),
        frontier=tuple(points),
    )
    own = tuple(one.arm.at(one.chosen) for one in trained.values())
    return _with_flips(told, own, target, plan, source)


def _before(arm: ArmPlan, base: Flags, like: Mapping[str, Step], source: StepResults) -> Flags:
    """The answers before an arm's training: the base's, or the mean for each problem over the models it goes on from.

    The mean over problems of these means is the mean accuracy of those models, so gain and backward transfer are
    relative to it.
    """
    started = [source.flags(run.start, like) for run in arm.runs if run.start]
    return {task: np.mean([one[task] for one in started], axis=0) for task in base} if started else base


def _undefined(before: Flags, target: str) -> tuple[str, ...]:
    return metrics.undefined_tasks({task: float(flags.mean()) for task, flags in before.items()}, target)


def _with_flips(
    report: TargetReport, trained: Sequence[ArmPlan], target: TargetPlan, plan: Plan, source: StepResults
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
    select = trained[0].first_rows.select
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
    reference: tuple[Sequence[Flags], Flags] | None,
    source: StepResults,
) -> ArmReport:
    selected = open_selected(source.runner.folder(arm.first_rows.select))
    facts = _SelectionFacts.model_validate(selected.manifest.facts)
    threshold = facts.threshold_nats if arm.settings.scorer == BASE_SCORER else None
    rows_in, dropped = _rows(arm, source)
    found = metrics.forgetting(before, after, target)
    against = None
    if reference is not None and arm.settings.name != REFERENCE_ARM:
        runs, started = reference
        started_elsewhere = None if started is before else started
        points, transfer = metrics.difference(before, after, runs, target, reference_before=started_elsewhere)
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
        noted=facts.noted,
        white_space=_white_space(facts),
        self_bleu=diversity(row.tokens for row in selected),
        protected_tokens=facts.protected_tokens,
        protected_share_of_kept_nll=facts.protected_share_of_kept_nll,
        profile=profile(selected, threshold_nats=threshold, piece=source.piece),
        start=tuple(source.result(task, [run.start[task] for run in arm.runs]) for task in before if arm.runs[0].start),
        results=tuple(
            source.result(
                task, [run.evaluations[task] for run in arm.runs], [r.start[task] for r in arm.runs if r.start]
            )
            for task in before
        ),
        target_improvement=found.ti,
        target_points=found.ti_points,
        backward_transfer=found.bwt,
        against_reference=against,
        runs=tuple(_run(run, target, before, flags, source) for run, flags in zip(arm.runs, after, strict=True)),
        wall_s=sum(record.wall_s for record in steps if record),
        samples=sample_rows(
            selected,
            source.piece,
            protected_T=partial(_protected_T, arm.settings, facts.structure_ids or {}),
            preferred=source.preferred,
            tuned=None if arm.runs[0].tokens is None else read_shown_tokens(source.runner.folder(arm.runs[0].tokens)),
        ),
    )


def _protected_T(arm: ArmSettings, ids: Mapping[str, Sequence[int]], tokens: Tokens) -> BoolArray:
    return protected_T(tokens, arm.select_settings(0), ids)


def _own_settings(arm: ArmSettings) -> dict[str, JSON]:
    """An arm's settings beside its name, origin and policy, by dotted key."""
    known = {"name", "data", "policy", "targets", "train", "generate"}
    given = arm.model_dump(mode="json", exclude_defaults=True, exclude=known)
    return {**given, **dict(_flat(arm.train)), **dict(_flat(arm.generate.given(), "generate."))}


def _flat(settings: Mapping[str, JSON], prefix: str = "") -> Iterator[tuple[str, JSON]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _white_space(facts: _SelectionFacts) -> dict[str, float]:
    """Fraction of the tokens of high perplexity that a normalisation of white space would change, by its name."""
    high = facts.high_perplexity_tokens or 0
    return {kind: count / high for kind, count in facts.high_perplexity_white_space.items() if high and count}


def _arm_without_a_run(arm: ArmPlan, source: StepResults) -> ArmReport:
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


def _rows(arm: ArmPlan, source: StepResults) -> tuple[int, dict[str, int]]:
    """Rows that entered the arm's first stage, and those dropped on the way, by reason, over all its stages."""
    rows = arm.first_rows
    steps = [*(() if rows.generate is None else (rows.generate,)), *rows.scores, rows.select]
    folders = [source.runner.folder(step) for step in steps]
    counts = [read_manifest(folder).counts for folder in folders if not (folder / NOT_TRAINED).is_file()]
    dropped: Counter[str] = Counter()
    for count in counts:
        dropped.update(count.dropped)
    return counts[0].rows_in if counts else 0, dict(dropped)


def _run(run: ArmRun, target: str, before: Flags, after: Flags, source: StepResults) -> SeedRun:
    before = source.flags(run.start, run.start) if run.start else before
    base = {task: float(flags.mean()) for task, flags in before.items()}
    tuned = {task: float(flags.mean()) for task, flags in after.items()}
    record = source.runner.record(run.train)
    log = open_adapter(source.runner.folder(run.train)).log
    every = max(1, len(log) // _CURVE_POINTS)
    sets = drift_sets(run, source)
    return SeedRun(
        seed=run.seed,
        target_improvement=_number(metrics.target_improvement(base, tuned, target)),
        backward_transfer=_number(metrics.backward_transfer(base, tuned, target)),
        target_accuracy=tuned[target],
        drift=mean_kl(sets),
        drift_sets=sets,
        update=source.update(run),
        curve=tuple(CurvePoint(step=entry.step, loss=entry.loss) for entry in log[::every]),
        wall_s=record.wall_s if record else None,
    )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
