"""The report on disk, and what is said where it is not as it should be."""

import json
from pathlib import Path

import pytest
from tests.synthetic_report import synthetic_report

from tokensieve.errors import InputError
from tokensieve.report import HTML_NAME, JSON_NAME, Estimate, read_report, write_report


def test_the_json_twin_holds_the_whole_report(tmp_path: Path) -> None:
    report = synthetic_report()
    page = write_report(report, tmp_path)
    assert page == tmp_path / HTML_NAME
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert read_report(tmp_path) == report


def test_a_missing_damaged_or_foreign_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no report\.json"):
        read_report(tmp_path)
    path = tmp_path / JSON_NAME
    path.write_text('{"schema_version": 2,', encoding="utf-8")
    with pytest.raises(InputError, match="damaged"):
        read_report(tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="damaged"):
        read_report(tmp_path)
    path.write_text(json.dumps({"schema_version": 99}), encoding="utf-8")
    with pytest.raises(InputError, match="schema version 99"):
        read_report(tmp_path)
    path.write_text(json.dumps({"schema_version": 2, "surprise": 1}), encoding="utf-8")
    with pytest.raises(InputError, match="surprise"):
        read_report(tmp_path)


def test_estimates_become_json_with_none_for_nan() -> None:
    nan = float("nan")
    assert Estimate.of(nan, nan, nan) == Estimate()
    assert Estimate.of(1.0, 0.0, 2.0) == Estimate(value=1.0, low=0.0, high=2.0)
    with pytest.raises(ValueError, match="both ends"):
        Estimate(value=1.0, low=0.0)
    with pytest.raises(ValueError, match="out of order"):
        Estimate(value=1.0, low=2.0, high=0.0)
    with pytest.raises(ValueError, match="finite"):
        Estimate(value=nan)
