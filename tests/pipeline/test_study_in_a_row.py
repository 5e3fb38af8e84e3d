"""Two targets in a row, the first taken over from another run: what is made, and to what gain and BWT are relative."""

from pathlib import Path
from typing import Any

import pytest

from tokensieve import metrics
from tokensieve.cli.study_tables import print_study
from tokensieve.config import StudySettings
from tokensieve.report import Report, read_report
from tokensieve.report.page import render
from tokensieve.study import prepare, run
from tokensieve.study.runner import read_record

WORDS, CHOICE = "pocket_words:response_nll", "pocket_choice:response_nll"
FIRST = {"task": WORDS, "others": [CHOICE]}
SECOND = {"task": "pocket_sql_house:response_nll", "others": [WORDS, CHOICE], "after": WORDS}
STUDY: dict[str, Any] = {
    "name": "in-a-row",
    "targets": [FIRST],
    "arms": [{"name": "plain"}, {"name": "STM 2.5", "policy": "stm:2.5"}],
    "data": {"limit": 4},
    "train": {"learning_rate": 1e-2, "epochs": 1, "batch_size": 2, "warmup_steps": 0},
    "evaluate": {"limit": 4},
}
BOTH = {**STUDY, "targets": [FIRST, SECOND]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("in a row")
    run(STUDY, root / "first")
    run(BOTH, root / "both", reuse=[root])
    return root


@pytest.fixture(scope="module")
def report(runs: Path) -> Report:
    return read_report(runs / "both")


def test_the_first_targets_steps_are_taken_over(runs: Path) -> None:
    first = prepare(StudySettings.model_validate(STUDY), runs / "first")
    record = read_record(runs / "both")
    assert record is not None
    assert record.taken == {"first": len(first.plan.steps())}
    both = prepare(StudySettings.model_validate(BOTH), runs / "both")
    assert not both.missing
    assert both.taken() == record.taken


def test_gain_and_transfer_are_relative_to_the_model_of_the_first_target(report: Report) -> None:
    first, second = report.targets
    assert (first.after, second.after) == ("", WORDS)
    for arm in second.arms:
        earlier = next(one for one in first.arms if one.name == arm.name)
        assert arm.started_at(WORDS) == earlier.result(WORDS)
        assert arm.started_at(CHOICE) == earlier.result(CHOICE)
        before = {result.task: result.accuracy.value or 0.0 for result in arm.start}
        after = {result.task: result.accuracy.value or 0.0 for result in arm.results}
        base = {result.task: result.accuracy.value or 0.0 for result in second.base}
        assert arm.backward_transfer.value == pytest.approx(metrics.backward_transfer(before, after, second.task))
        assert arm.target_improvement.value == pytest.approx(metrics.target_improvement(before, after, second.task))
        assert arm.backward_transfer.value != pytest.approx(metrics.backward_transfer(base, after, second.task))
        assert arm.runs[0].backward_transfer == pytest.approx(arm.backward_transfer.value)
    plain, stm = second.arms
    assert stm.against_reference is not None
    difference = (stm.backward_transfer.value or 0.0) - (plain.backward_transfer.value or 0.0)
    assert stm.against_reference.backward_transfer.value == pytest.approx(difference)


def test_the_page_says_what_it_is_relative_to(report: Report) -> None:
    page = render(report)
    assert "Before and after, in a row" in page
    assert page.count("with the same seed") == 1
    table = page.split("Before and after, in a row", 1)[1].split("</table>", 1)[0]
    assert table.count(" nats</td>") == 6, "two arms on three tasks, all measured by likelihood"
    assert "%" not in table
    assert page.count("Fall of nll: from that of the base,") == page.count("changes are from the base,") == 1
    assert page.count("Fall of nll: from that of the model that the arm went on from,") == 1
    assert page.count("changes are from the models that the arms went on from,") == 1
    assert "taken from other runs" in page


def test_the_terminal_tells_nll_before_and_after(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    print_study(report)
    printed = " ".join(capsys.readouterr().out.split())
    arm = report.targets[1].arms[0]
    before, after = arm.started_at(WORDS), arm.result(WORDS)
    assert before is not None
    assert after is not None
    assert f"{before.nll.value:.3f} nats → {after.nll.value:.3f} nats" in printed
