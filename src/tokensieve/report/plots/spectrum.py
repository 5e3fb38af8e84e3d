"""Singular values of the weight updates, one line an arm."""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from tokensieve.report.plots.canvas import Canvas, name_width
from tokensieve.report.plots.style import ArmStyle
from tokensieve.report.plots.training import end_names


def spectra(lines: Mapping[str, Sequence[float]], styles: Mapping[str, ArmStyle], width: float) -> Markup | None:
    """Singular values by their number on a logarithmic axis; None where no arm has two above 0.

    Args:
        lines: by arm, the mean singular values over matrices and seeds, descending.
        styles: of the arms.
        width: in pixels.
    """
    shown = {name: [value for value in line if value > 0] for name, line in lines.items()}
    shown = {name: line for name, line in shown.items() if len(line) > 1}
    if not shown:
        return None
    height, top, bottom, left = 250.0, 24.0, 206.0, 44.0
    right = width - 20 - name_width(list(shown))
    values = [value for line in shown.values() for value in line]
    low, high = math.log10(min(values)), math.log10(max(values))
    # A tail of rounding errors would squeeze all that matters.
    low = max(low, high - 4.0)
    low, high = low - 0.1, max(high, low + 0.5) + 0.1
    last = max(len(line) for line in shown.values())
    canvas = Canvas(width, height, "singular values of the weight update, by arm")

    def at(place: int, value: float) -> tuple[float, float]:
        share = (math.log10(value) - low) / (high - low)
        return left + (place - 1) / (last - 1) * (right - left), bottom - max(0.0, share) * (bottom - top)

    for power in range(math.ceil(low), math.floor(high) + 1):
        y = at(1, 10.0**power)[1]
        canvas.line(left, y, right, y, "grid")
        canvas.text(left - 7, y + 4, f"{10.0**power:g}", "tick", "end")
    canvas.line(left, bottom, right, bottom, "ground")
    for place in (1, *range(4, last + 1, 4)):
        canvas.text(at(place, 10.0**high)[0], bottom + 18, str(place), "tick", "middle")
    canvas.text(0, 12, "Singular value, mean over matrices", "axis")
    canvas.text(right, bottom + 38, "number of the singular value →", "axis", "end")
    ends = []
    for name, line in shown.items():
        points = [at(place, value) for place, value in enumerate(line, start=1)]
        canvas.polyline(points, f"curve {styles[name].colour}", name)
        ends.append(points[-1])
    end_names(canvas, list(shown), ends, right, (top, bottom), styles)
    return canvas.markup()
