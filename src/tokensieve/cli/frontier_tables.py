"""Tables of a target's frontier on the terminal: every arm at plain's rate, and the most learnt for a given loss."""

from typing import TYPE_CHECKING

from tokensieve.cli.console import out
from tokensieve.cli.tables import print_table, table_of
from tokensieve.metrics import Estimate
from tokensieve.report.number_format import learning_rate
from tokensieve.report.schema import REFERENCE_ARM

if TYPE_CHECKING:
    from tokensieve.report.schema import TargetReport


def print_frontier(target: "TargetReport") -> None:
    """Print both tables; nothing where every arm has one rate."""
    plain = target.frontier_of(REFERENCE_ARM)
    if plain is not None and plain.chosen is not None:
        out.print(f"\nevery arm at plain's rate, {learning_rate(plain.chosen.learning_rate)}")
        table = table_of("arm", "target (95 %)", "BWT (95 %)")
        for one in target.frontier:
            point = one.at_plain_rate
            if point is None:
                table.add_row(one.arm, "not trained at it", "")
            else:
                table.add_row(one.arm, _cell(point.target_accuracy, 100), _cell(point.backward_transfer, 1, "+"))
        print_table(table)
    listed = [one for one in target.frontier if one.best_within]
    if listed:
        out.print("\nmost learnt for a given loss of the other skills")
        table = table_of("arm", *(f"loss to {best.loss:g} %" for best in listed[0].best_within))
        for one in listed:
            rates = ["base" if b.learning_rate is None else learning_rate(b.learning_rate) for b in one.best_within]
            cells = (_cell(best.target_accuracy, 100) for best in one.best_within)
            table.add_row(one.arm, *(f"{cell} {rate}" for cell, rate in zip(cells, rates, strict=True)))
        print_table(table)


def _cell(estimate: Estimate, factor: float, sign: str = "") -> str:
    """A value in percent and its interval."""
    if estimate.value is None:
        return "undefined"
    value = f"{factor * estimate.value:{sign}.1f} %"
    if estimate.low is None or estimate.high is None:
        return value
    low, high = (round(factor * end) + 0 for end in (estimate.low, estimate.high))
    return f"{value} ({low} … {high})"
