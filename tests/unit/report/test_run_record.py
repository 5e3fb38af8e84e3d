"""What a run was made with, on the page."""

import pytest
from tests.synthetic_report import synthetic_report

from tokensieve.report import Report
from tokensieve.report.page import render
from tokensieve.report.run_record import Checkout, RunRecord

RECORD = RunRecord(
    recipe="mine.yaml",
    settings_digest="5f" * 32,
    inputs={"model": "0a" * 32},
    checkout=Checkout(commit="0123456789abcdef" * 2 + "01234567", changed=True),
    versions={"python": "3.11.9"},
    workers=2,
    threads=1,
    started_at="2026-01-05T10:20:30+00:00",
)


@pytest.mark.parametrize("run", [RECORD, RECORD.model_copy(update={"checkout": None}), None])
def test_recipe_commit_and_workers_are_on_the_page(run: RunRecord | None) -> None:
    report = synthetic_report().model_copy(update={"run": run})
    assert Report.model_validate_json(report.model_dump_json()) == report
    page = render(report)
    assert ("mine.yaml" in page) == (run is not None)
    assert ("<code>0123456789ab</code> with changes" in page) == (run is not None and run.checkout is not None)
