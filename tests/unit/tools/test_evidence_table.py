"""The Markdown of a study's report: every arm, its numbers and intervals; nats where a task has them."""

from pathlib import Path

import pytest
from tests.synthetic_report import synthetic_report
from tools.evidence_table import main, tables

from tokensieve.metrics import Estimate
from tokensieve.report import write_report


def test_every_arm_has_its_numbers_with_intervals() -> None:
    report = synthetic_report(seeds=(0, 1))
    lines = list(tables(report))
    for target in report.targets:
        for arm in target.arms:
            assert any(line.startswith(f"| {arm.name} |") and line.count(" | ") == 8 for line in lines)
            bwt, ends = arm.backward_transfer, arm.backward_transfer.interval
            assert bwt.value is not None
            assert ends is not None
            assert any(f"{bwt.value:.1f} ({ends[0]:.1f} … {ends[1]:.1f})" in line for line in lines)


def test_nats_have_a_table_of_their_own() -> None:
    report = synthetic_report()
    target = report.targets[0]
    nats = {"all": Estimate.of(1.5, 1.25, 1.75), "likely": Estimate.of(0.25)}
    base = (target.base[0].model_copy(update={"nats": nats}), *target.base[1:])
    changed = report.model_copy(update={"targets": (target.model_copy(update={"base": base}),)})
    assert "| base | 1.500 (1.250 … 1.750) | 0.250 |" in list(tables(changed))


def test_it_reads_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = synthetic_report()
    write_report(report, tmp_path)
    assert main([str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines() == list(tables(report))
