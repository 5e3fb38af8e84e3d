"""Tables of a study in the terminal: every arm's results on a target, its frontier, and nll where it is measured."""

from rich.table import Table

from tokensieve.cli.console import duration, out
from tokensieve.cli.tables import print_table, table_of
from tokensieve.metrics import Estimate
from tokensieve.report import ArmReport, Report, TargetReport, TaskResult
from tokensieve.report.number_format import learning_rate
from tokensieve.report.schema import REFERENCE_ARM

_POINTS = " pts"


def print_study(report: Report) -> None:
    """A table a target: every arm's rows, share left out, target accuracy, TI and BWT with intervals."""
    for target in report.targets:
        out.print()
        out.print(target.title or target.task, style="bold")
        base = target.base_result(target.task)
        if base is not None:
            others = ", ".join(f"{result.task} {_measured(result)}" for result in target.base[1:])
            out.print(f"base: {target.task} {_measured(base)}; others: {others}")
        print_table(_arms(target))
        if target.after:
            out.print(f"TI and BWT are relative to each arm's own model of {target.after}; before and after:")
            print_table(_starts(target))
        _print_frontier(target)
        for result in target.base:
            if result.nats:
                out.print(f"nll of {result.task}, nats per token; likely and unlikely under the base:")
                print_table(_nats(target, result))
        for arm in target.arms:
            if arm.not_trained:
                out.print(f"{arm.name} was not trained: {arm.not_trained}")
        for task in target.dropped_from_transfer:
            out.print(f"{task} is left out of BWT: the base solves none of its problems")
    if report.timing:
        parts = (f"{verb} {duration(seconds)} ({share:.0%})" for verb, _, seconds, share in report.time_by_verb())
        out.print(f"\ntime: {', '.join(parts)}")


def _measured(result: TaskResult) -> str:
    """A model's accuracy on a task, or its nll where that is measured by likelihood."""
    if result.nll.value is not None:
        return f"{result.nll.value:.3f} nats"
    return _value(result.accuracy, 100, " %", sign=False)


def _arms(target: TargetReport) -> Table:
    measured = any(run.drift is not None for arm in target.arms for run in arm.runs)
    drift = ("drift",) if measured else ()
    rate = ("rate",) if target.frontier else ()
    gained = "fall (95 %)" if target.by_likelihood else "TI (95 %)"
    table = table_of(
        "arm", *rate, "rows", "left out", "nll" if target.by_likelihood else "target", gained, "BWT (95 %)", *drift
    )
    for arm in target.arms:
        if arm.not_trained:
            table.add_row(arm.name, *([""] * len(rate)), f"{arm.rows_out:,}", "", "not trained")
            continue
        result = arm.result(target.task)
        learnt = _learnt(target, *(Estimate(value=e.value) for e in (result.accuracy, result.nll))) if result else ""
        unit = _POINTS if target.gain_in_points else " %"
        gain = _nats_cell(target.gain(arm), 2) if target.by_likelihood else _with_interval(target.gain(arm), unit, 0)
        own = [learning_rate(arm.learning_rate)] * len(rate) if arm.learning_rate else []
        row = (*own, f"{arm.rows_out:,}", _left_out(arm), learnt, gain)
        table.add_row(arm.name, *row, _with_interval(arm.backward_transfer, " %", 0), *([_drift(arm)] * measured))
    return table


def _starts(target: TargetReport) -> Table:
    """Accuracies, or nll, before and after a target that follows another one."""
    tasks = (target.task, *target.others)
    table = table_of("arm", *tasks)
    for arm in target.arms:
        pairs = ((arm.started_at(task), arm.result(task)) for task in tasks)
        cells = (" → ".join(_measured(result) for result in pair if result is not None) for pair in pairs)
        table.add_row(arm.name, *cells)
    return table


def _print_frontier(target: TargetReport) -> None:
    """Print every arm at plain's rate, and the most learnt for a given loss; nothing where every arm has one rate."""
    plain = target.frontier_of(REFERENCE_ARM)
    if plain is not None and plain.chosen is not None:
        out.print(f"\nevery arm at plain's rate, {learning_rate(plain.chosen.learning_rate)}")
        table = table_of("arm", f"{'nll' if target.by_likelihood else 'target'} (95 %)", "BWT (95 %)")
        for one in target.frontier:
            point = one.at_plain_rate
            if point is None:
                table.add_row(one.arm, "not trained at it", "")
            else:
                table.add_row(
                    one.arm,
                    _learnt(target, point.target_accuracy, point.target_nll),
                    _cell(point.backward_transfer, 1, "+"),
                )
        print_table(table)
    listed = [one for one in target.frontier if one.best_within]
    if listed:
        nll = ": nll of the target" if target.by_likelihood else ""
        out.print(f"\nmost learnt for a given loss of the other skills{nll}")
        table = table_of("arm", *(f"loss to {best.loss:g} %" for best in listed[0].best_within))
        for one in listed:
            rates = ["base" if b.learning_rate is None else learning_rate(b.learning_rate) for b in one.best_within]
            cells = (_learnt(target, best.target_accuracy, best.target_nll) for best in one.best_within)
            table.add_row(one.arm, *(f"{cell} {rate}" for cell, rate in zip(cells, rates, strict=True)))
        print_table(table)


def _learnt(target: TargetReport, accuracy: Estimate, nll: Estimate) -> str:
    """The target's accuracy, or its nll where it is measured by likelihood; the base's where there is none."""
    if not target.by_likelihood:
        return _cell(accuracy, 100)
    base = target.base_result(target.task)
    return _nats_cell(base.nll if base is not None and not nll.defined else nll, 2)


def _nats(target: TargetReport, base: TaskResult) -> Table:
    """One line for the base and for each arm on a task that is measured by likelihood."""
    table = table_of("arm", *(f"{name} (95 %)" for name in base.nats))
    for name, result in [("base", base), *((arm.name, arm.result(base.task)) for arm in target.arms)]:
        if result is not None:
            table.add_row(name, *(_nats_cell(result.nats.get(kind, Estimate())) for kind in base.nats))
    return table


def _nats_cell(measured: Estimate, digits: int = 3) -> str:
    """A value in nats and its interval; the digits are the interval's."""
    if measured.value is None:
        return ""
    ends = "" if measured.interval is None else " ({:.{d}f} … {:.{d}f})".format(*measured.interval, d=digits)
    return f"{measured.value:.3f}{ends}"


def _drift(arm: ArmReport) -> str:
    """Mean drift of an arm's runs in nats per token."""
    values = [run.drift for run in arm.runs if run.drift is not None]
    return f"{sum(values) / len(values):.3f}" if values else ""


def _left_out(arm: ArmReport) -> str:
    if arm.profile is None or arm.profile.trained_pooled is None:
        return ""
    return f"{100 * (1 - arm.profile.trained_pooled):.1f} %"


def _with_interval(estimate: Estimate, unit: str, digits: int = 1) -> str:
    """A value and its interval, e.g. ``-12.5 % (-20.1 … -4.0)``; the digits are the interval's."""
    value = _value(estimate, 1, unit)
    if estimate.low is None or estimate.high is None:
        return value
    low, high = (f"{round(end, digits) + 0.0:.{digits}f}" for end in (estimate.low, estimate.high))
    return f"{value} ({low} … {high})"


def _cell(estimate: Estimate, factor: float, sign: str = "") -> str:
    """A value in percent and its interval."""
    if estimate.value is None:
        return "undefined"
    value = f"{factor * estimate.value:{sign}.1f} %"
    if estimate.low is None or estimate.high is None:
        return value
    low, high = (round(factor * end) + 0 for end in (estimate.low, estimate.high))
    return f"{value} ({low} … {high})"


def _value(estimate: Estimate, factor: float, unit: str, *, sign: bool = True) -> str:
    if estimate.value is None:
        return "undefined"
    return f"{factor * estimate.value:{'+' if sign else ''}.1f}{unit}"
