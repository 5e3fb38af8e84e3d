"""A study on the terminal: its table of arms and its frontier."""

import pytest
from rich.console import Console
from tests.swept_report import likelihood_report, swept_report
from tests.synthetic_report import synthetic_report

from tokensieve.cli import tables
from tokensieve.cli.study_tables import print_study


def test_both_tables_and_the_rates_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_study(swept_report())
    printed = " ".join(capsys.readouterr().out.split())
    assert "every arm at plain's rate, 5e-5" in printed
    assert "most learnt for a given loss of the other skills" in printed
    assert "STM 2.5 2e-4" in printed
    assert "46.0 % (37 … 56) base" in printed


def test_a_target_measured_by_likelihood_is_printed_in_nats(capsys: pytest.CaptureFixture[str]) -> None:
    report = likelihood_report()
    target = report.targets[0]
    print_study(report)
    printed = " ".join(capsys.readouterr().out.split())
    at_plain = target.frontier[1].at_plain_rate
    assert at_plain is not None
    assert f"{at_plain.target_nll.value:.3f} (" in printed
    assert "-0.044 (-0.10 … 0.04)" in printed, "the fall of its nll"
    assert f"{target.base[0].nll.value:.3f} (0.70 … 0.84) base" in printed


def test_a_study_without_a_sweep_prints_neither(capsys: pytest.CaptureFixture[str]) -> None:
    print_study(synthetic_report())
    printed = capsys.readouterr().out
    assert "plain's rate" not in printed
    assert "most learnt" not in printed


def test_the_table_of_a_study_fits_a_terminal_of_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tables, "out", Console(width=80, soft_wrap=True, highlight=False, markup=False))
    print_study(synthetic_report(base_of_zero=True))
    lines = [line for line in capsys.readouterr().out.splitlines() if "(" in line and "…" in line]
    assert len(lines) == 10
    assert all(line.count("(") == line.count(")") == 2 and len(line) <= 80 for line in lines)
