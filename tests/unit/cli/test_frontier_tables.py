"""The frontier on the terminal."""

import pytest
from tests.swept_report import swept_report
from tests.synthetic_report import synthetic_report

from tokensieve.cli.tables import print_study


def test_both_tables_and_the_rates_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    print_study(swept_report())
    printed = " ".join(capsys.readouterr().out.split())
    assert "every arm at plain's rate, 5e-5" in printed
    assert "most learnt for a given loss of the other skills" in printed
    assert "STM 2.5 2e-4" in printed
    assert "46.0 % (37 … 56) base" in printed


def test_a_study_without_a_sweep_prints_neither(capsys: pytest.CaptureFixture[str]) -> None:
    print_study(synthetic_report())
    printed = capsys.readouterr().out
    assert "plain's rate" not in printed
    assert "most learnt" not in printed
