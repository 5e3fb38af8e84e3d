"""The report's pictures: inline SVG whose colours are the page's, so that they follow light and dark."""

from tokensieve.report.plots.accuracy import accuracy_grid, accuracy_lanes, fits_grid
from tokensieve.report.plots.canvas import Pair
from tokensieve.report.plots.drift import DriftPoint, drift_scatter, spectra
from tokensieve.report.plots.frontier import frontier, target_picture
from tokensieve.report.plots.scatter import scatter
from tokensieve.report.plots.style import ArmStyle, arm_styles
from tokensieve.report.plots.training import curves, histogram, histogram_scale, left_out_bar

__all__ = [
    "ArmStyle",
    "DriftPoint",
    "Pair",
    "accuracy_grid",
    "accuracy_lanes",
    "arm_styles",
    "curves",
    "drift_scatter",
    "fits_grid",
    "frontier",
    "histogram",
    "histogram_scale",
    "left_out_bar",
    "scatter",
    "spectra",
    "target_picture",
]
