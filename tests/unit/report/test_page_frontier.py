"""Frontiers on the page: tables at plain's rate and by loss, sentences, and nothing of it without a sweep."""

import re

import pytest
from tests.swept_report import RATES, swept_report
from tests.synthetic_report import synthetic_report

from tokensieve.report import Report
from tokensieve.report.page import render
from tokensieve.report.verdict import judge


@pytest.fixture(scope="module")
def page() -> str:
    return render(swept_report())


def test_the_report_survives_its_json() -> None:
    assert Report.model_validate_json(swept_report().model_dump_json()) == swept_report()


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
        "At plain’s rate, 5e-5, STM 2.5 ends lower on the target than plain and keeps less of the other skills" in told
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
