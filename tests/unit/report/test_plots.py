"""Pictures: labels that do not collide, axes that hold what they must, marks that differ in more than colour."""

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.synthetic_report import synthetic_report

from tokensieve.report import ArmReport, Estimate, TargetReport, plots
from tokensieve.report.plots.canvas import Axis, Box, Canvas, place
from tokensieve.report.plots.drift import log_ticks

FRAME = Box(0, 0, 560, 380)


@settings(max_examples=40, deadline=None)
@example([(40.0, 164.5), (107.0, 179.0)])  # a near place that touches the other label by half a pixel
@given(st.lists(st.tuples(st.floats(40, 520), st.floats(40, 340)), min_size=1, max_size=6, unique=True))
def test_labels_lie_within_the_frame_and_apart(anchors: list[tuple[float, float]]) -> None:
    boxes = place(anchors, [(70.0, 15.0)] * len(anchors), [Box(x - 7, y - 7, x + 7, y + 7) for x, y in anchors], FRAME)
    assert all(box.outside(FRAME) == 0 for box in boxes)
    for index, box in enumerate(boxes):
        assert all(box.overlap(other) == 0 for other in boxes[:index])


def test_five_arms_on_one_spot_are_still_told_apart() -> None:
    boxes = place([(280.0, 190.0)] * 5, [(80.0, 15.0)] * 5, [], FRAME)
    assert all(a.overlap(b) == 0 for i, a in enumerate(boxes) for b in boxes[:i])


def test_no_two_arms_differ_by_colour_alone_until_marks_run_out() -> None:
    names = ["plain", "a", "b", "c", "d"]
    arms = [ArmReport(name=name, policy="stm:2", rows_in=1, rows_out=1) for name in names]
    control = ArmReport(name="random", policy="random:stm:2", rows_in=1, rows_out=1)
    styles = plots.arm_styles([*arms, control])
    assert len({style.shape for style in styles.values()}) == len(styles)
    assert len({style.colour for style in styles.values()}) == len(styles)


def test_every_mark_lies_in_the_picture_however_wide_its_interval() -> None:
    wild = [
        ArmReport(
            name=name,
            policy="stm:2",
            rows_in=1,
            rows_out=1,
            target_improvement=Estimate(value=gain, low=-90.0, high=90_000.0),
            backward_transfer=Estimate(value=transfer, low=-99.0, high=40.0),
        )
        for name, gain, transfer in (("a", 2000.0, -60.0), ("b", 0.0, 0.0), ("c", 150.0, -5.0))
    ]
    target = TargetReport(task="t", others=("o",), base=(), arms=tuple(wild))
    picture = plots.scatter(target, plots.arm_styles(wild), 560)
    assert picture is not None
    for x, y in re.findall(r'points="(-?[\d.]+),(-?[\d.]+)', picture) + re.findall(r'cx="(.*?)" cy="(.*?)"', picture):
        assert 0 <= float(x) <= 560
        assert 0 <= float(y) <= 440


def test_a_target_without_numbers_has_no_scatter_and_no_curves() -> None:
    bare = ArmReport(name="a", policy="stm:2", rows_in=1, rows_out=1)
    target = TargetReport(task="t", others=("o",), base=(), arms=(bare,))
    assert plots.scatter(target, plots.arm_styles([bare]), 560) is None
    assert plots.curves([bare], plots.arm_styles([bare]), 560) is None


def test_bars_of_a_histogram_add_up_to_trained_and_left_out() -> None:
    arm = synthetic_report().targets[0].arms[1]
    assert arm.profile is not None
    picture = plots.histogram(arm.name, arm.profile, *plots.histogram_scale([arm.profile]))
    heights = {
        kind: sum(float(h) for h in re.findall(rf'class="bar {kind}".*?height="([\d.]+)"', picture))
        for kind in ("trained", "left-out")
    }
    assert heights["left-out"] > 0
    assert heights["trained"] > heights["left-out"]
    assert "threshold 2.50" in picture


def test_texts_are_escaped() -> None:
    canvas = Canvas(10, 10, "<b>")
    canvas.text(0, 0, "<script>", "name")
    canvas.rect(0, 0, 1, 1, "bar", '"&')
    picture = canvas.markup()
    assert "<script>" not in picture
    assert "&lt;script&gt;" in picture
    assert 'aria-label="&lt;b&gt;"' in picture


@pytest.mark.parametrize("share", [None, 0.0, 0.5, 1.0])
def test_share_bars_stay_in_their_cell(share: float | None) -> None:
    widths = [float(w) for w in re.findall(r'<rect.*?width="([\d.]+)"', plots.left_out_bar(share, "left-out-nll"))]
    assert widths == [120.0, 120.0 * (share or 0.0)]


def test_many_arms_with_long_names_get_lanes_and_room() -> None:
    target = synthetic_report().targets[0]
    assert plots.fits_grid(target)
    arms = tuple(
        arm.model_copy(update={"name": f"{arm.name}, scored by a larger model {n}"})
        for n in range(2)
        for arm in target.arms
    )
    many = target.model_copy(update={"arms": arms})
    assert not plots.fits_grid(many)
    picture = plots.accuracy_lanes(many, plots.arm_styles(arms), {}, 1080)
    tracks = [float(x) for x in re.findall(r'class="track" x1="([\d.]+)"', picture)]
    assert min(tracks) > 200


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


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(-1.3, 0.05, [0.1, 0.2, 0.5, 1]), (-3.1, 0.1, [0.001, 0.01, 0.1, 1]), (0.31, 0.39, [])],
)
def test_a_short_logarithmic_axis_has_ticks_between_the_powers_too(
    low: float, high: float, expected: list[float]
) -> None:
    assert log_ticks(low, high) == pytest.approx(expected)


def test_a_long_task_name_ends_before_the_first_track() -> None:
    target = synthetic_report().targets[0]
    names = dict.fromkeys((target.task, *target.others), "a task with quite a long name of its own")
    picture = str(plots.accuracy_grid(target, plots.arm_styles(target.arms), names, 1080))
    starts = [float(found) for found in re.findall(r'class="track" x1="([\d.]+)"', picture)]
    assert min(starts) > 8 + len(names[target.task]) * 14 * 0.5
