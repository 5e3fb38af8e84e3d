"""Tables in the terminal: counts, accuracies, anchors, drift, repair, calibration, a comparison."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.table import Table

from tokensieve.analysis.results import WeightUpdate
from tokensieve.cli.console import out
from tokensieve.comparison import EvalComparison, TaskScore
from tokensieve.comparison.render import HEADERS, flip_lines, sentences, table_rows
from tokensieve.data.manifest import Manifest
from tokensieve.metrics import Estimate
from tokensieve.types import JSON, Outcome

if TYPE_CHECKING:  # these import torch, which compare and report have no need of
    from tokensieve.calibration import Calibration
    from tokensieve.drift import Drift
    from tokensieve.repair import Repair
    from tokensieve.scoring import BackendComparison
    from tokensieve.scoring.store import StoredModel

_IDS_SHOWN = 5
_GAP = 2
"""Blanks between two columns."""
_LEAST_NAME = 8
"""Width at which a column of names folds, in a table that is wider than the terminal."""


def print_counts(manifest: Manifest, folder: object) -> None:
    """Rows in, out, and dropped by reason, and where they went."""
    counts = manifest.counts
    dropped = ", ".join(f"{reason}: {number:,}" for reason, number in counts.dropped.items())
    out.print(f"rows: {counts.rows_in:,} in, {counts.rows_out:,} out" + (f", dropped {dropped}" if dropped else ""))
    for reason, ids in counts.dropped_ids.items():
        more = counts.dropped.get(reason, 0) - len(ids[:_IDS_SHOWN])
        rest = f" and {more:,} more, listed in manifest.json" if more else ""
        out.print(f"  {reason}: {', '.join(ids[:_IDS_SHOWN])}{rest}")
    if manifest.stage == "scored":
        if form := manifest.facts.get("format"):
            out.print(f"form of the rows: {form}")
        _print_noted(manifest.facts)
    out.print(f"wrote {folder}")


def print_near_threshold(facts: Mapping[str, JSON]) -> None:
    """Print the number of tokens so near to the threshold that rounding decides, where there are any."""
    near, error, threshold = (facts[key] for key in ("near_threshold_tokens", "nll_error_nats", "threshold_nats"))
    if near and isinstance(error, float) and threshold is not None:
        out.print(f"so near to the threshold that the scores' own rounding decides ({error:g} nats): {near:,} tokens")


def print_protected(facts: Mapping[str, JSON]) -> None:
    """Print the number of protected tokens and the share of the kept nll that they hold."""
    protected, share = facts["protected_tokens"], facts["protected_share_of_kept_nll"]
    if isinstance(protected, int) and protected and isinstance(share, float):
        out.print(f"protected: {protected:,} structural tokens, which hold {share:.1%} of the kept nll")
    if not facts["structure_known"]:
        out.print(
            "protected: end of turn only; the folder does not tell which tokens delimit tool calls and reasoning, "
            "since an earlier version scored it (score it again)"
        )


def print_white_space(facts: Mapping[str, JSON]) -> None:
    """Print the share of white space in the tokens of high perplexity, kind by kind, where there is any."""
    high, found = facts["high_perplexity_tokens"], facts["high_perplexity_white_space"]
    if isinstance(high, int) and high and isinstance(found, dict):
        shares = (f"{kind} {n / high:.1%}" for kind, n in found.items() if isinstance(n, int) and n)
        if said := ", ".join(shares):
            out.print(f"white space in {high:,} tokens of high perplexity: {said}; score --normalise changes it")


def print_yield(facts: Mapping[str, JSON]) -> None:
    """Print the outcomes of a generation's answers; of dialogues, the findings of their check."""
    if "answers" in facts:
        drawn, right, cut_off = (facts[name] for name in ("answers", "correct_answers", "cut_off_answers"))
        prompts = facts["prompts_with_a_correct_answer"]
        lost = facts.get("correct_cut_off_answers")
        kept = f" ({lost} of them correct as far as they go, none is kept)" if lost else ""
        words = (
            f"answers: {drawn} drawn, {right} correct, {cut_off} cut off{kept}; {prompts} prompts have a correct one"
        )
        out.print(words)
    _print_noted(facts)


def _print_noted(facts: Mapping[str, JSON]) -> None:
    """Rows that were kept but are worth telling about, by what was done with them."""
    noted = facts.get("noted")
    if isinstance(noted, dict) and noted:
        out.print(", ".join(f"{what}: {number}" for what, number in noted.items()))


def print_accuracies(scores: Iterable[TaskScore]) -> None:
    """One line a task: accuracy with its interval, how the other answers failed, and what the length limit ended.

    The last column is a flag beside the findings: an answer that was cut off is counted there, and by its text in one
    of the others.
    """
    table = table_of("task", "answers", "correct", "95 % interval", "wrong", "no answer", "cut off")
    for score in scores:
        failed = (score.outcomes[kind] for kind in (Outcome.WRONG, Outcome.NO_ANSWER))
        right = f", {score.cut_off_correct:,} right" if score.cut_off_correct else ""
        cells = (*(f"{number:,}" for number in failed), f"{score.cut_off:,}{right}")
        judged = score.outcomes[Outcome.NOT_JUDGED] < score.answers
        accuracy = _percent(score.accuracy) if judged else ("–", "–")
        table.add_row(score.task, f"{score.answers:,}", *accuracy, *cells)
    print_table(table)


def print_anchors(manifest: Manifest, folder: object) -> None:
    """Print drift by cluster of prompts, with each one's share of candidates and anchors; then the counts."""
    facts = manifest.facts
    table = table_of("prompts like", "candidates", "anchors", "drift (nats/token)")
    clusters, candidates = facts["clusters"], facts["candidates"]
    for entry in clusters if isinstance(clusters, list) else ():
        examples = entry["examples"] if isinstance(entry, dict) else None
        if isinstance(entry, dict) and isinstance(examples, list):
            drift = entry["drift"]
            shown = f"{drift:.3g}" if isinstance(drift, float) else ""
            shares = (_share(entry["candidates"], candidates), _share(entry["anchors"], manifest.counts.rows_out))
            table.add_row(str(examples[0])[:40], *shares, shown)
    print_table(table)
    before, after = facts["drift_of_candidates"], facts["drift_of_anchors"]
    if isinstance(before, float) and isinstance(after, float):
        out.print(f"mean drift of the pilot: {before:.3g} nats/token on all candidates, {after:.3g} on the anchors")
    print_counts(manifest, folder)


def _share(part: JSON, whole: JSON) -> str:
    known = isinstance(part, int) and isinstance(whole, int) and whole
    return f"{part / whole:.1%}" if known and isinstance(part, int) and isinstance(whole, int) else ""


def print_drift(found: "Drift") -> None:
    """One line a set of rows: KL with its interval, change of nll, perplexities of base and tuned model."""
    table = table_of("rows of", "rows", "tokens", "KL (nats/token)", "95 % interval", "nll change", "perplexity")
    for probe in found.probes:
        low, high = probe.kl.low, probe.kl.high
        ends = "" if low is None or high is None else f"{low:.3g} … {high:.3g}"
        change = "" if probe.nll_change.value is None else f"{probe.nll_change.value:+.3g}"
        perplexity = f"{_ppl(probe.base_perplexity)} → {_ppl(probe.tuned_perplexity)}"
        kl = "" if probe.kl.value is None else f"{probe.kl.value:.3g}"
        table.add_row(probe.name, f"{probe.rows:,}", f"{probe.tokens:,}", kl, ends, change, perplexity)
    print_table(table)


def print_update(found: WeightUpdate) -> None:
    """One line a kind of module: number, norm, norm relative to the base's, effective rank, largest singular value."""
    table = table_of("modules", "number", "norm", "of the base's", "effective rank", "largest singular value")
    for one in found.modules:
        rank = "" if one.effective_rank is None else f"{one.effective_rank:.1f}"
        largest = f"{one.spectrum[0]:.3g}" if one.spectrum else ""
        table.add_row(one.kind, f"{one.modules}", f"{one.norm:.3g}", _of_base(one.relative_norm), rank, largest)
    print_table(table)
    out.print(f"update as a whole: norm {found.norm:.3g}, {_of_base(found.relative_norm)} of the trained weights' own")


def _of_base(value: float | None) -> str:
    return "" if value is None else f"{value:.2%}"


def print_calibration(found: "Calibration", folder: object) -> None:
    """Every trial, rung after rung, longer ones and interpolations, then the choice in sentences."""
    table = table_of("candidate", "rows", "accuracy", "nll (nats)", "KL (nats/token)")
    for trials in (*found.rungs, found.longer, found.interpolated):
        for trial in trials:
            accuracy = "" if trial.accuracy is None else f"{trial.accuracy:.1%}"
            table.add_row(
                trial.candidate.name, f"{trial.share:.0%}", accuracy, f"{trial.nll:.3f}", f"{trial.drift:.4f}"
            )
    print_table(table)
    for sentence in found.reasons:
        out.print(sentence)
    out.print(f"wrote {folder}")


def print_repair(found: "Repair", folder: object) -> None:
    """The frontier: target score and drift of every candidate; then which one was chosen and why."""
    table = table_of("candidate", "target score", "KL (nats/token)", "")
    for one in found.candidates:
        table.add_row(one.name, f"{one.score:.4f}", f"{one.kl:.3g}", "chosen" if one.chosen else "")
    print_table(table)
    out.print(f"rule: {found.rule} (tolerance {found.settings.tolerance:g})")
    out.print(f"wrote {folder}")


def _ppl(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3g}"


def print_figures(figures: Mapping[str, Mapping[str, float]]) -> None:
    """One line a task that has figures beside accuracy: IFEval's four, the perplexity of texts."""
    for task, found in figures.items():
        out.print(f"{task}: {', '.join(f'{name} {value:.4g}' for name, value in found.items())}")


def print_comparison(comparison: EvalComparison, flips: int) -> None:
    """One line a task with its paired difference; then forgetting, power, unlike settings, notes, the gate, flips."""
    table = table_of(*HEADERS)
    for row in table_rows(comparison):
        table.add_row(*row)
    print_table(table)
    for sentence in sentences(comparison):
        out.print(sentence)
    for change in comparison.changes:
        for flip in change.flips[:flips]:
            for line in flip_lines(flip, 160):
                out.print(line)


def print_backends(comparison: "BackendComparison") -> None:
    """Print the difference of two computations of the same scores, and the tokens that change sides."""
    first, second = comparison.first, comparison.second
    out.print(f"first:  {first.name}, {first.dtype}, head {first.head_dtype}, {first.attention}, {first.backend}")
    out.print(f"second: {second.name}, {second.dtype}, head {second.head_dtype}, {second.attention}, {second.backend}")
    out.print(f"{comparison.tokens:,} tokens, mean difference {comparison.mean:+.2e} nats")
    table = table_of("quantile", "|difference| (nats)")
    for quantile, gap in comparison.quantiles.items():
        table.add_row(f"{quantile:.1%}", f"{gap:.2e}")
    print_table(table)
    share = comparison.flips / comparison.tokens if comparison.tokens else 0.0
    out.print(f"at perplexity {comparison.threshold}: {comparison.flips:,} tokens change sides ({share:.2%}); ", end="")
    out.print(f"{comparison.near:,} lie within the 99.9 % difference of the threshold")


def print_store(models: Iterable["StoredModel"]) -> None:
    """One line a model whose scores the store holds."""
    table = table_of("model", "rows", "MiB", "last used", "digest")
    for model in models:
        size = f"{model.size_bytes / 2**20:,.1f}"
        table.add_row(model.name, f"{model.rows:,}", size, model.last_used, model.digest[:12])
    print_table(table)


def _percent(measured: Estimate) -> tuple[str, str]:
    """A fraction and its interval, in percent."""
    if measured.value is None or measured.interval is None:
        return "undefined", ""
    low, high = measured.interval
    return f"{100 * measured.value:.1f} %", f"{100 * low:.1f} … {100 * high:.1f}"


def table_of(*columns: str) -> Table:
    """A table of the terminal: names on the left, numbers on the right."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table


def print_table(table: Table) -> None:
    """Print a table so that no number breaks over two lines.

    Where it is wider than the terminal, its headers take two lines; then the first column, which holds names, folds;
    then one blank stands between columns. A table whose numbers alone are wider is printed as wide as they are.

    Args:
        table: columns of one-line cells, the first of them names.
    """
    names, *others = table.columns
    cells = [max((cell_len(str(cell)) for cell in column.cells), default=0) for column in table.columns]
    gaps = _GAP * len(others)
    if sum(map(max, cells, (cell_len(str(column.header)) for column in table.columns))) + gaps > out.width:
        for column in table.columns:
            column.header = _in_two_lines(str(column.header))
    widths = [
        max(cell, *map(cell_len, str(c.header).split("\n"))) for cell, c in zip(cells, table.columns, strict=True)
    ]
    for column, width in zip(others, widths[1:], strict=True):
        column.no_wrap, column.min_width = True, width
    if out.width - sum(widths[1:]) - gaps < _LEAST_NAME:
        table.padding, gaps = (0, 0, 0, 1), len(others)
    names.overflow = "fold"
    names.width = min(widths[0], max(_LEAST_NAME, out.width - sum(widths[1:]) - gaps))
    table.width = names.width + sum(widths[1:]) + gaps
    out.print(table)


def _in_two_lines(header: str) -> str:
    """The header broken at the blank that makes its longer line shortest."""
    words = header.split(" ")
    halves = ((" ".join(words[:place]), " ".join(words[place:])) for place in range(1, len(words)))
    best = min(halves, key=lambda lines: max(map(len, lines)), default=(header,))
    return "\n".join(best)
