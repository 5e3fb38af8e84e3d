"""The frontier plot: one mark an arm and rate, the own rate filled, all of it in the picture."""

import re

import pytest
from tests.swept_report import RATES, likelihood_report, swept_report
from tests.synthetic_report import synthetic_report

from tokensieve.report import Estimate, TargetReport, number_format, plots
from tokensieve.report.results_schema import ArmFrontier, FrontierPoint


def drawn(target: TargetReport, width: float = 560) -> str:
    picture = plots.frontier(target, plots.arm_styles(target.arms), width)
    assert picture is not None
    return str(picture)


def test_each_arm_has_a_line_and_a_mark_for_every_rate() -> None:
    target = swept_report().targets[0]
    picture = drawn(target)
    arms = len(target.arms)
    assert picture.count('class="path ') == arms
    assert picture.count('class="dot hollow ') == arms * (len(RATES) - 1)
    assert len(re.findall(r'class="dot arm-', picture)) == arms
    assert "base model" in picture
    for arm in target.arms:
        assert f"{arm.name} at 5e-5: target" in picture.replace("\u202f", " ")


@pytest.mark.parametrize("width", [350.0, 592.0])
def test_every_mark_lies_in_the_picture(width: float) -> None:
    target = swept_report().targets[1]
    point = FrontierPoint(
        learning_rate=1e-3,
        target_accuracy=Estimate(value=1.0, low=0.9, high=1.0),
        backward_transfer=Estimate(value=-100.0, low=-400.0, high=90.0),
        chosen=True,
    )
    wild = target.model_copy(update={"frontier": (*target.frontier[:-1], ArmFrontier(arm="plain", points=(point,)))})
    picture = drawn(wild, width)
    places = re.findall(r' points="([^"]*)"', picture)
    for x, y in (pair.split(",") for one in places for pair in one.split()):
        assert 0 <= float(x) <= width
        assert 0 <= float(y) <= 460


def test_a_rate_whose_transfer_is_undefined_is_left_out() -> None:
    target = swept_report().targets[0]
    undefined = tuple(
        ArmFrontier(arm=one.arm, points=[p.model_copy(update={"backward_transfer": Estimate()}) for p in one.points])
        for one in target.frontier
    )
    assert plots.frontier(target.model_copy(update={"frontier": undefined}), plots.arm_styles(target.arms), 560) is None


def test_the_picture_of_a_target_is_the_frontier_where_there_is_one() -> None:
    swept, single = swept_report().targets[0], synthetic_report().targets[0]
    styles = plots.arm_styles(swept.arms)
    assert "by learning rate" in str(plots.target_picture(swept, styles, 560))
    assert "by arm" in str(plots.target_picture(single, styles, 560))


def test_a_lower_nll_lies_higher_up() -> None:
    target = likelihood_report().targets[0]
    picture = drawn(target)
    assert "Nll of the target, nats per token (lower on top)" in picture
    places = {}
    for found in re.finditer(
        r'<polygon class="dot[^"]*" points="[\d.]+,([\d.]+)[^>]*><title>random at ([^:]+):', picture
    ):
        places[found[2]] = float(found[1])
    nll = {number_format.learning_rate(p.learning_rate): p.target_nll.value or 0 for p in target.frontier[3].points}
    assert target.frontier[3].arm == "random"
    assert sorted(nll, key=nll.__getitem__) == sorted(places, key=places.__getitem__)
    assert len(places) == len(RATES)
