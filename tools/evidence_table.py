"""Print studies' results as Markdown tables for docs/evidence.md: ``python tools/evidence_table.py RUN…``."""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from tokensieve.metrics import Estimate
from tokensieve.report import ArmReport, Report, TargetReport, read_report

_COLUMNS = ("arm", "rate", "rows", "left out", "target", "TI", "BWT", "drift (nats/token)", "seeds")


def main(runs: list[str]) -> int:
    """Print the tables of every run's folder."""
    for run in runs:
        print("\n".join(tables(read_report(Path(run)))))
    return 0


def tables(report: Report) -> Iterator[str]:
    """The lines of a study's tables, one table a target and one of nats for each task measured by likelihood."""
    for target in report.targets:
        yield f"**{target.title or target.task}** ({report.model.name}, `{' && '.join(report.commands)}`)"
        yield ""
        yield from _table(_COLUMNS, [_base(target), *(_row(report, target, arm) for arm in target.arms)])
        if target.after:
            yield f"After `{target.after}`: TI and BWT are relative to the arm's own model of it, whose accuracies are:"
            yield ""
            tasks = (target.task, *target.others)
            starts = [(arm, [arm.started_at(task) for task in tasks]) for arm in target.arms if arm.start]
            rows = [(arm.name, *("" if r is None else _cell(r.accuracy, 100) for r in found)) for arm, found in starts]
            yield from _table(("arm", *tasks), rows)
        for base in target.base:
            if base.nats:
                arms = ((arm.name, arm.result(base.task)) for arm in target.arms)
                found = [("base", base), *((name, result) for name, result in arms if result is not None)]
                rows = [(n, *(_cell(r.nats.get(k, Estimate()), 1, 3) for k in base.nats)) for n, r in found]
                yield from _table((f"{base.task}, nats/token", *base.nats), rows)


def _table(columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"
    yield from (f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
    yield ""


def _base(target: TargetReport) -> tuple[str, ...]:
    result = target.base_result(target.task)
    return ("base", "", "", "", "" if result is None else _cell(result.accuracy, 100), "", "", "", "")


def _row(report: Report, target: TargetReport, arm: ArmReport) -> tuple[str, ...]:
    if arm.not_trained:
        return (arm.name, "", f"{arm.rows_out:,}", "", f"not trained: {arm.not_trained}", "", "", "", "")
    result = arm.result(target.task)
    kept = None if arm.profile is None else arm.profile.trained_pooled
    in_points = target.gain_in_points
    gain = _cell(arm.target_points if in_points else arm.target_improvement, 1) + (" pts" if in_points else "")
    drifts = [run.drift for run in arm.runs if run.drift is not None]
    drift = f"{sum(drifts) / len(drifts):.4f}" if drifts else ""
    if len(drifts) > 1:
        drift += f" ({min(drifts):.4f} … {max(drifts):.4f} over seeds)"
    return (
        arm.name,
        _rate(report, arm),
        f"{arm.rows_out:,}",
        "" if kept is None else f"{100 * (1 - kept):.1f} %",
        "" if result is None else _cell(result.accuracy, 100),
        gain,
        _cell(arm.backward_transfer, 1),
        drift,
        str(len(arm.runs)),
    )


def _rate(report: Report, arm: ArmReport) -> str:
    """The peak learning rate that an arm was trained at."""
    train = report.settings.get("train")
    shared = train.get("learning_rate") if isinstance(train, dict) else None
    rate = arm.learning_rate or arm.own_settings.get("learning_rate") or shared
    return f"{rate:g}" if isinstance(rate, int | float) else ""


def _cell(measured: Estimate, factor: float, digits: int = 1) -> str:
    """A number with its 95 % interval; a dash where it is undefined."""
    if measured.value is None:
        return "–"
    ends = ""
    if measured.interval is not None:
        low, high = (f"{factor * end:.{digits}f}" for end in measured.interval)
        ends = f" ({low} … {high})"
    return f"{factor * measured.value:.{digits}f}{ends}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folder of a study")
    sys.exit(main(parser.parse_args().runs))
