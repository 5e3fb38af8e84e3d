"""A comparison as Markdown, LaTeX and JSON; the terminal's table is made of the same cells."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Final

from tokensieve.comparison.answers import Answer, TaskScore
from tokensieve.comparison.results import EvalComparison, Flip, TaskChange
from tokensieve.metrics import Estimate, Forgetting
from tokensieve.types import JSON

HEADERS: Final = ("task", "n", "base", "tuned", "points (95 %)", "p", "lost", "gained", "detects")
"""Columns of the table; ``p`` is adjusted over the tasks, ``detects`` is the loss seen with a power of 0.8."""
_NO_TEXT: Final = "(no text)"
"""Stands for an answer that is empty, or that the log leaves out."""
_TEXT: Final = 300
"""Characters of an answer that Markdown shows."""


def table_rows(comparison: EvalComparison) -> list[tuple[str, ...]]:
    """The cells of the table, one row a task, under :data:`HEADERS`."""
    return [
        (
            change.task,
            f"{change.problems:,}",
            percent(change.before.accuracy),
            percent(change.after.accuracy),
            signed_with_interval(change.difference.points),
            p_value(change.adjusted_p),
            f"{change.lost:,}",
            f"{change.gained:,}",
            f"{change.difference.detectable_points:.1f}",
        )
        for change in comparison.changes
    ]


def sentences(comparison: EvalComparison) -> list[str]:
    """Everything beside the table, a sentence each: forgetting, wrong format, power, differences, notes, the gate."""
    said = []
    if comparison.forgetting is not None:
        ti, points, bwt = comparison.forgetting.ti, comparison.forgetting.ti_points, comparison.forgetting.bwt
        if ti.interval is not None:
            said.append(f"target improvement {signed_with_interval(ti, ' %')}")
        else:
            few = "the base solves too few for an interval"
            why = "the base is 0" if ti.value is None else f"{ti.value:+.1f} %, {few}"
            said.append(f"target improvement {signed_with_interval(points, ' points')}; {why}")
        if bwt.defined:
            said.append(f"backward transfer  {signed_with_interval(bwt, ' %')}")
        said += [
            f"{task} is left out of backward transfer: the base solves none of its problems"
            for task in comparison.forgetting.dropped_tasks
        ]
    said += [sentence for change in comparison.changes for sentence in _of_change(change)]
    said += [
        f"differs: {d.setting}: {d.before or 'not said'} before, {d.after or 'not said'} after"
        for d in comparison.differences
    ]
    said += comparison.notes
    if comparison.gate is not None:
        said += [
            f"gate {comparison.gate.max_drop:g} points: {task} {decision}"
            + (", too few problems to exclude such a drop" if decision == "undecided" else "")
            for task, decision in comparison.gate.decisions.items()
        ]
    return said


def to_markdown(comparison: EvalComparison, flips: int = 0) -> str:
    """The comparison as a Markdown document.

    Args:
        comparison: the comparison.
        flips: at most so many flips of each task with both answers.
    """
    lines = [_row(HEADERS), _row(("---", *["---:"] * (len(HEADERS) - 1)))]
    lines += [_row(tuple(_escaped(cell) for cell in row)) for row in table_rows(comparison)]
    lines += ["", *(f"- {_escaped(sentence)}" for sentence in sentences(comparison))]
    for change in comparison.changes:
        for flip in change.flips[:flips]:
            lines += ["", f"### {flip.kind}: {change.task} {flip.before.id}", ""]
            lines += [f"gold: {shortened(flip.before.gold)}", ""] if flip.before.gold else []
            lines += [f"before ({_outcome(flip.before)}):", "", _fenced(flip.before.text), ""]
            lines += [f"after ({_outcome(flip.after)}):", "", _fenced(flip.after.text)]
    return "\n".join(lines) + "\n"


def to_latex(comparison: EvalComparison) -> str:
    """The table as a LaTeX ``tabular`` (package ``booktabs``), the sentences as comments below it."""
    lines = [f"\\begin{{tabular}}{{l{'r' * (len(HEADERS) - 1)}}}", "\\toprule"]
    lines += [" & ".join(_tex(cell) for cell in HEADERS) + " \\\\", "\\midrule"]
    lines += [" & ".join(_tex(cell) for cell in row) + " \\\\" for row in table_rows(comparison)]
    lines += ["\\bottomrule", "\\end{tabular}", *(f"% {sentence}" for sentence in sentences(comparison))]
    return "\n".join(lines) + "\n"


def to_json(comparison: EvalComparison) -> str:
    """Everything in a comparison as JSON, all flips with both answers among it; NaN is null.

    Units: accuracies are fractions, differences percentage points, TI and BWT percent.
    """
    content: dict[str, object] = {
        "base": comparison.base,
        "tuned": list(comparison.tuned),
        "target": comparison.target or None,
        "tasks": [_task_json(change) for change in comparison.changes],
        "forgetting": None if comparison.forgetting is None else _forgetting_json(comparison.forgetting),
        "differences": [asdict(difference) for difference in comparison.differences],
        "gate": None if comparison.gate is None else {**asdict(comparison.gate), "ok": comparison.gate.ok},
        "notes": list(comparison.notes),
    }
    return json.dumps(_without_nan(content), indent=2, ensure_ascii=False) + "\n"


def percent(estimate: Estimate) -> str:
    """A fraction in percent, without its interval."""
    return "undefined" if estimate.value is None else f"{100 * estimate.value:.1f} %"


def signed_with_interval(estimate: Estimate, unit: str = "") -> str:
    """A signed value and its interval, e.g. ``-12.5 (-20.1…-4.0)``."""
    if estimate.value is None:
        return "undefined"
    value = f"{estimate.value + 0.0:+.1f}{unit}"
    if estimate.interval is None:
        return value
    low, high = (f"{round(end, 1) + 0.0:.1f}" for end in estimate.interval)
    return f"{value} ({low}…{high})"


def p_value(value: float) -> str:
    """A p-value to three digits, ``<0.001`` below."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def shortened(text: str, length: int = _TEXT) -> str:
    """A text in one line, its middle left out where it is long: the end holds the answer."""
    flat = " ".join(text.split())
    half = (length - 3) // 2
    return flat if len(flat) <= length else f"{flat[:half]} … {flat[-half:]}"


def flip_lines(flip: Flip, length: int) -> list[str]:
    """A flip for a terminal: its problem, then both answers in a line each."""
    gold = f", gold {shortened(flip.before.gold, 40)}" if flip.before.gold else ""
    return [
        f"{flip.kind}: {flip.before.task} {flip.before.id}{gold}",
        f"  before ({_outcome(flip.before)}): {shortened(flip.before.text, length) or _NO_TEXT}",
        f"  after  ({_outcome(flip.after)}): {shortened(flip.after.text, length) or _NO_TEXT}",
    ]


def _of_change(change: TaskChange) -> list[str]:
    said = []
    if change.lost_format or change.lost_cut_off:
        cut_off = f", {change.lost_cut_off:,} were cut off by the length limit" if change.lost_cut_off else ""
        said.append(f"{change.task}: of {change.lost:,} lost, {change.lost_format:,} for want of an answer{cut_off}")
    low, high = change.difference.interval
    if low <= 0 <= high:
        seen = change.difference.detectable_points
        said.append(f"{change.task}: no change shown; this test could have seen a loss of {seen:.1f} points")
    return said


def _forgetting_json(found: Forgetting) -> dict[str, object]:
    estimates = {name: getattr(found, name).model_dump() for name in ("ti", "ti_points", "bwt")}
    return estimates | {"dropped_tasks": list(found.dropped_tasks)}


def _task_json(change: TaskChange) -> dict[str, object]:
    found = change.difference
    return {
        "task": change.task,
        "problems": change.problems,
        "before": _score_json(change.before),
        "after": _score_json(change.after),
        "difference_points": found.points.model_dump(),
        "test": found.test,
        "p_value": found.p_value,
        "adjusted_p_value": change.adjusted_p,
        "detectable_points": found.detectable_points,
        "lost": change.lost,
        "gained": change.gained,
        "lost_without_an_answer": change.lost_format,
        "lost_cut_off": change.lost_cut_off,
        "flips": [
            {"kind": f.kind, "run": f.run, "before": asdict(f.before), "after": asdict(f.after)} for f in change.flips
        ],
    }


def _score_json(score: TaskScore) -> dict[str, object]:
    return {
        "accuracy": score.accuracy.model_dump(),
        "outcomes": {outcome.value: number for outcome, number in score.outcomes.items()},
        "cut_off": score.cut_off,
        "cut_off_correct": score.cut_off_correct,
    }


def _without_nan(value: object) -> JSON:
    if isinstance(value, float):
        return None if math.isnan(value) or math.isinf(value) else value
    if isinstance(value, dict):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return value if isinstance(value, bool | int | None) else str(value)


def _outcome(answer: Answer) -> str:
    return answer.outcome.value.replace("_", " ") + ("" if answer.finished else ", cut off")


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Text that Markdown's tables and lists show as it is."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("_", "\\_").replace("*", "\\*").replace("<", "&lt;")


def _fenced(text: str) -> str:
    """A text as a code block whose fence is longer than any in it."""
    if not text.strip():
        return _NO_TEXT
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}\n{text.rstrip()}\n{fence}"


def _tex(text: str) -> str:
    marks = {
        "\\": "\\textbackslash{}",
        "…": "\\ldots{}",
        "<": "$<$",
        "~": "\\textasciitilde{}",
        "^": "\\textasciicircum{}",
    }
    return "".join(marks.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in text)
