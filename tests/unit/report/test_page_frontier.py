"""Frontiers on the page: tables at plain's rate and by loss, sentences, and nothing of it without a sweep."""

import re

import pytest
from tests.swept_report import RATES, likelihood_report, swept_report
from tests.synthetic_report import synthetic_report

from tokensieve.report import Estimate, Report, number_format, plots
from tokensieve.report.page import render
from tokensieve.report.verdict import judge


@pytest.fixture(scope="module")
def page() -> str:
    return render(swept_report())


def test_the_report_survives_its_json() -> None:
    assert Report.model_validate_json(swept_report().model_dump_json()) == swept_report()


def test_the_made_up_reports_sections_agree() -> None:
    for target in swept_report().targets:
        plain = target.frontier_of("plain")
        assert plain is not None
        for arm in target.arms:
            own, after = target.frontier_of(arm.name), arm.result(target.task)
            assert own is not None
            assert after is not None
            (chosen,) = (point for point in own.points if point.chosen)
            told = (chosen.learning_rate, chosen.target_accuracy, chosen.target_points, chosen.backward_transfer)
            assert told == (arm.learning_rate, after.accuracy, arm.target_points, arm.backward_transfer)
            at_plain = own.at_plain_rate
            if arm.name != "plain" and at_plain is not None and plain.chosen is not None:
                gain = (at_plain.target_points.value or 0.0) - (plain.chosen.target_points.value or 0.0)
                assert at_plain.points_against_plain.value == pytest.approx(gain)


def test_both_tables_are_on_the_page(page: str) -> None:
    assert page.count("Every arm at plain’s rate, 5e-5") == 2
    assert page.count("Most learnt for a given loss") == 2
    assert page.count("loss to 10 %") == 2
    assert "STM 2.5 <small" in page
    assert "at&nbsp;2e-4" in page


def test_an_arm_without_plains_rate_says_so() -> None:
    report = swept_report()
    target = report.targets[0]
    stm = target.frontier[1]
    without = stm.model_copy(update={"points": stm.points[1:]})
    changed = target.model_copy(update={"frontier": (target.frontier[0], without)})
    page = render(report.model_copy(update={"targets": (changed,)}))
    assert "not trained at this rate" in page


def test_the_verdict_tells_the_rates_and_what_differs_at_plains() -> None:
    told = judge(swept_report()).targets[0].rates
    assert "plain at 5e-5, STM 2.5 at 2e-4" in told
    assert (
        "At plain’s rate, 5e-5, STM 2.5 ends better on the target than plain and keeps more of the other skills" in told
    )
    assert judge(synthetic_report()).targets[0].rates == ""


def test_the_points_of_an_arm_are_found(page: str) -> None:
    target = swept_report().targets[0]
    stm = target.frontier_of("STM 2.5")
    assert stm is not None
    assert stm.chosen is not None
    assert stm.at_plain_rate is not None
    assert (stm.chosen.learning_rate, stm.at_plain_rate.learning_rate) == (RATES[2], RATES[0])
    assert target.frontier_of("nobody") is None


def test_without_a_sweep_the_page_has_the_scatter_and_no_frontier() -> None:
    page = render(synthetic_report())
    assert "Most learnt" not in page
    assert re.search(r"aria-label=\"[^\"]*backward transfer against gain", page)


def test_a_target_measured_by_likelihood_is_told_in_nats() -> None:
    report = likelihood_report()
    target = report.targets[0]
    page = render(report)
    stm = next(arm for arm in target.arms if arm.name == "STM 2.5").result(target.task)
    assert stm is not None
    assert target.measured_by_likelihood() == (target.task, target.others[-1])
    assert page.count("Nll, nats") == 2, "in both tables of arms"
    assert "Accuracy</th>" not in page
    table = page.split("Measured by likelihood, in nats per token")[1].split("Every skill, before and after")[0]
    for kind in ("all", "likely", "unlikely"):
        assert f"<b>{stm.nats[kind].value:.3f}</b>" in table
        assert number_format.signed(stm.nats_change[kind].value, 3) in table
    assert table.count("<table") == 2
    assert "leave the choice out" in page
    told = judge(report).targets[0]
    before = target.base[0].nll.value
    assert told.arms[1].numbers.startswith(f"nll {before:.3f} → {stm.nll.value:.3f} nats per token · fall ")
    assert "TI" not in told.arms[1].numbers
    assert "nats of nll on the target" in told.rates


def test_without_a_sweep_the_fall_of_the_nll_is_the_pictures_axis() -> None:
    report = likelihood_report(swept=False)
    target = report.targets[0]
    picture = str(plots.target_picture(target, plots.arm_styles(target.arms), 592))
    assert "Fall of the target&#39;s nll, nats per token" in picture
    assert "Nll, nats" in render(report)
    answers = render(report).split("What the answers were")[1].split("</section>")[0]
    assert "Outcomes on arithmetic" in answers
    assert "Outcomes on words" not in answers, "a text has no right and wrong"


@pytest.mark.parametrize(
    ("on_validation", "said"), [(True, "validation problems choose the rate"), (False, "which flatters it")]
)
def test_the_page_says_which_problems_chose_the_rate(on_validation: bool, said: str) -> None:
    report = swept_report()
    targets = []
    for target in report.targets:
        frontier = [
            one.model_copy(
                update={
                    "best_within": tuple(
                        best.model_copy(update={"on_validation": on_validation}) for best in one.best_within
                    )
                }
            )
            for one in target.frontier
        ]
        targets.append(target.model_copy(update={"frontier": tuple(frontier)}))
    page = render(report.model_copy(update={"targets": tuple(targets)}))
    assert page.count(said) == 2
    assert page.count("take the choice into account") == 2


def test_an_interval_without_width_is_explained() -> None:
    report = swept_report()
    target = report.targets[0]
    flat = Estimate(value=0.0, low=0.0, high=0.0)
    one = target.frontier[0]
    best = tuple(best.model_copy(update={"target_accuracy": flat}) for best in one.best_within)
    frontier = (one.model_copy(update={"best_within": best}), *target.frontier[1:])
    changed = target.model_copy(update={"frontier": frontier})
    page = render(report.model_copy(update={"targets": (changed, report.targets[1])}))
    assert page.count("One without width: every problem came out alike") == 1
