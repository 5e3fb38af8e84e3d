"""Values to pixels."""

import pytest

from tokensieve.report.plots.axis import Axis


@pytest.mark.parametrize(
    ("value", "pixel", "inside"), [(0.0, 40.0, 40.0), (5.0, 90.0, 90.0), (20.0, 240.0, 140.0), (-1.0, 30.0, 40.0)]
)
def test_a_value_beyond_the_axis_is_cut_only_where_asked(value: float, pixel: float, inside: float) -> None:
    axis = Axis(low=0.0, high=10.0, start=40.0, end=140.0)
    assert axis.at(value) == pixel
    assert axis.clipped(value) == inside


def test_an_axis_may_run_upwards() -> None:
    axis = Axis(low=0.0, high=10.0, start=140.0, end=40.0)
    assert axis.at(10.0) == 40.0
    assert axis.clipped(-3.0) == 140.0
