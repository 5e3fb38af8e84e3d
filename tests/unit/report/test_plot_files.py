"""Pictures as files: whole SVG documents that hold their style, and PNG through a Chromium where there is one."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.synthetic_report import synthetic_report

from tokensieve.errors import EnvironmentProblem
from tokensieve.report import ArmReport, TargetReport
from tokensieve.report.plot_files import find_chromium, write_plots, write_png


def test_every_picture_is_a_document_of_its_own(tmp_path: Path) -> None:
    written = write_plots(synthetic_report(), tmp_path / "plots")
    assert [path.name for path in written] == [
        "pocket_python.svg", "pocket_python-skills.svg", "pocket_python-loss.svg", "pocket_house_sql.svg",
        "pocket_house_sql-skills.svg", "pocket_house_sql-loss.svg", "drift.svg", "update-1.svg", "update-2.svg",
    ]  # fmt: skip
    for path in written:
        root = ElementTree.fromstring(path.read_text())
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "prefers-color-scheme: dark" in (root[0].text or "")


def test_a_task_that_is_a_path_is_no_path_of_a_file_and_empty_targets_have_no_picture(tmp_path: Path) -> None:
    report = synthetic_report()
    odd = report.targets[0].model_copy(update={"task": "lm-eval:../odd task"})
    bare = TargetReport(
        task="t", others=(), base=(), arms=(ArmReport(name="a", policy="plain", rows_in=1, rows_out=1),)
    )
    written = write_plots(report.model_copy(update={"targets": (odd, bare)}), tmp_path)
    assert {path.parent for path in written} == {tmp_path}
    assert written[0].name == "lm-eval-..-odd-task.svg"
    assert not [path for path in written if path.name.startswith("t")]


@pytest.mark.browser
def test_png_files_are_drawn_by_a_chromium(tmp_path: Path) -> None:
    chromium = find_chromium()
    if chromium is None:
        pytest.skip("no Chromium on this system (Debian: apt install chromium)")
    svg = write_plots(synthetic_report(), tmp_path)[0]
    png = write_png(svg, chromium).read_bytes()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(png[16:20], "big") == 2 * 560


def test_a_program_that_fails_is_named(tmp_path: Path) -> None:
    svg = write_plots(synthetic_report(), tmp_path)[0]
    broken = tmp_path / "chromium"
    broken.write_text("#!/bin/sh\necho no display >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(EnvironmentProblem, match="no display"):
        write_png(svg, str(broken))
    with pytest.raises(EnvironmentProblem, match="fails"):
        write_png(svg, str(tmp_path / "missing"))
