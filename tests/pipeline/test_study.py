"""The whole way on the embedded model: a study runs, goes on after SIGKILL, and does nothing twice."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard

from tokensieve.cli.card_command import card
from tokensieve.errors import InputError
from tokensieve.report import Report, read_report
from tokensieve.training.adapter import read_log

ROWS = 6
RECIPE: dict[str, Any] = {
    "name": "small",
    "title": "a small study",
    "targets": [{"task": "pocket_python_foreign", "others": ["pocket_choice"], "title": "foreign hand"}],
    "arms": [
        {"name": "plain", "policy": "plain"},
        {"name": "STM 2.5", "policy": "stm:2.5"},
        {"name": "Self-Output", "data": "self_output", "policy": "plain"},
    ],
    "data": {"limit": ROWS},
    "train": {"method": "full", "learning_rate": 1e-4, "epochs": 1, "batch_size": ROWS, "warmup_steps": 1},
    "generate": {"sampling": {"n": 2, "temperature": 0.7, "top_p": 0.95}, "none_correct": "ground-truth"},
    "evaluate": {"limit": ROWS, "update": True, "tokens": True},
}


def command(recipe: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "tokensieve", "run", str(recipe), "--out", str(out), "--workers", "1"]


def run(recipe: Path, out: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(recipe, out), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done


def write(path: Path, **changes: object) -> Path:
    path.write_text(yaml.safe_dump({**RECIPE, **changes}))
    return path


def steps(out: Path) -> dict[str, float]:
    """Every finished step of a run and when it was finished."""
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*-????????????.json")}


def numbers(report: Report) -> object:
    """A report without what differs between equal runs: times."""
    content = report.model_dump(mode="json", exclude={"created_at", "timing", "run"})
    for target in content["targets"]:
        for arm in target["arms"]:
            arm["wall_s"] = None
            for seed_run in arm["runs"]:
                seed_run["wall_s"] = None
    return content


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """A finished run: its recipe, its folder, and what it printed."""
    root = tmp_path_factory.mktemp("study")
    os.environ.setdefault("TOKENSIEVE_CACHE", str(root / "cache"))
    recipe = write(root / "small.yaml")
    return recipe, root / "run", run(recipe, root / "run").stdout


def test_the_run_ends_with_the_reports_path(finished: tuple[Path, Path, str]) -> None:
    _, out, printed = finished
    assert printed.strip().splitlines()[-1] == f"report: {out / 'report.html'}"
    assert (out / "report.html").stat().st_size > 10_000
    for arm in ("plain", "STM 2.5", "Self-Output"):
        assert arm in printed


def test_the_report_holds_what_the_steps_found(finished: tuple[Path, Path, str]) -> None:
    report = read_report(finished[1])
    (target,) = report.targets
    plain, stm, own = target.arms
    assert [arm.rows_in for arm in (plain, stm)] == [ROWS, ROWS]
    assert plain.profile is not None
    assert stm.profile is not None
    assert plain.profile.trained_pooled == 1.0
    assert stm.profile.trained_pooled is not None
    assert 0 < stm.profile.trained_pooled < 1
    assert own.origin == "self_output"
    assert all(result.outcomes.total == ROWS for result in (*target.base, *plain.results))
    assert all(arm.runs[0].curve for arm in target.arms)
    assert plain.samples
    assert any(
        not train for row in stm.samples for train, inside in zip(row.train, row.in_response, strict=True) if inside
    )


def test_the_report_holds_updates_flips_and_the_bases_own_choice(finished: tuple[Path, Path, str]) -> None:
    (target,) = read_report(finished[1]).targets
    for arm in target.arms:
        update = arm.runs[0].update
        assert update is not None
        assert update.norm == 0.0, "its one step is warm-up at a rate of 0"
        assert arm.self_bleu is not None
        for result in arm.results:
            base = target.base_result(result.task)
            cell = next((one for one in arm.flips if one.task == result.task), None)
            counts = cell.counts if cell else {}
            assert base is not None
            gained = sum(number for kind, number in counts.items() if kind.endswith("→ right"))
            lost = sum(number for kind, number in counts.items() if kind.startswith("right →"))
            assert result.outcomes.correct - base.outcomes.correct == gained - lost
            assert cell is None or len(cell.shown) == gained + lost
        for row in arm.samples:
            ranked = zip(row.rank, row.pieces, row.preferred, strict=True)
            assert all(piece == preferred for rank, piece, preferred in ranked if rank == 0)
            assert row.tuned_name == "the trained model"
            assert [nll is None for nll in row.tuned_nll] == [nll is None for nll in row.nll]
            pairs = zip(row.nll, row.tuned_nll, strict=True)
            assert all(a == pytest.approx(b, abs=2e-3) for a, b in pairs if a is not None and b is not None)


def test_a_card_is_written_for_a_model_of_the_run(finished: tuple[Path, Path, str], tmp_path: Path) -> None:
    _, out, _ = finished
    assert card(out, arm="STM 2.5", license="mit", out_=tmp_path) == 0
    assert ModelCard.load(tmp_path / "README.md").data.license == "mit"
    with pytest.raises(InputError, match="no arm 'STM'"):
        card(out, arm="STM")
    selected = next(out.glob("select-*/"))
    assert card(selected, out_=tmp_path) == 0
    assert DatasetCard.load(tmp_path / "README.md").data.license == "unknown"


def test_the_first_loss_is_the_mean_nll_of_what_is_trained(finished: tuple[Path, Path, str]) -> None:
    """The first batch holds all rows, so its loss is the mean over all trained tokens as they were scored."""
    (target,) = read_report(finished[1]).targets
    assert [arm.name for arm in target.arms] == ["plain", "STM 2.5", "Self-Output"]
    for arm in target.arms:
        assert arm.profile is not None
        (run_of_seed,) = arm.runs
        assert run_of_seed.curve[0].step == 1
        assert run_of_seed.curve[0].loss == pytest.approx(arm.profile.nll_per_trained_token, rel=1e-4)
    plain, stm, _ = (arm.runs[0].curve[0].loss for arm in target.arms)
    assert plain > 2 * stm, "the tokens left out hold most of the loss"


def test_a_second_run_does_nothing(finished: tuple[Path, Path, str]) -> None:
    recipe, out, _ = finished
    before = steps(out)
    done = run(recipe, out)
    assert steps(out) == before
    assert f"{len(before)} steps, {len(before)} of them done already" in done.stderr


def test_a_changed_threshold_redoes_selection_and_what_follows_only(finished: tuple[Path, Path, str]) -> None:
    recipe, out, _ = finished
    before = steps(out)
    arms = [dict(arm) for arm in RECIPE["arms"]]
    arms[1]["policy"] = "stm:5"
    run(write(recipe.with_name("changed.yaml"), arms=arms), out)
    after = steps(out)
    assert {name: after[name] for name in before} == before
    new = sorted(name.split("-")[0] for name in set(after) - set(before))
    assert new == ["evaluate", "evaluate", "select", "tokens", "train", "update"]


def test_killed_at_any_moment_the_same_command_goes_on(finished: tuple[Path, Path, str], tmp_path: Path) -> None:
    recipe, undisturbed, _ = finished
    run(recipe, undisturbed)  # other tests run other recipes in this folder; its report is to be this one's
    kills = 0
    for pause in (6.0, 9.0, 12.0):
        process = subprocess.Popen(
            command(recipe, tmp_path / "run"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(pause)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
    run(recipe, tmp_path / "run")
    assert kills >= 1
    assert numbers(read_report(tmp_path / "run")) == numbers(read_report(undisturbed))


def test_an_arm_without_a_row_is_reported_and_stops_nothing(finished: tuple[Path, Path, str], tmp_path: Path) -> None:
    generate = {"sampling": {"n": 1, "temperature": 0.7, "max_new_tokens": 1}, "none_correct": "drop"}
    recipe = write(tmp_path / "cut.yaml", generate=generate, arms=[RECIPE["arms"][0], RECIPE["arms"][2]])
    printed = run(recipe, finished[1]).stdout
    (target,) = read_report(finished[1]).targets
    assert target.arms[0].results
    assert target.arms[1].not_trained == "no row is left to train on"
    assert target.arms[1].rows_out == 0
    assert sum(target.arms[1].dropped.values()) == ROWS
    assert "no row is left to train on" in printed


def test_anchors_and_drift_are_steps_of_a_study(tmp_path: Path) -> None:
    small = {
        "candidates": 16,
        "count": 4,
        "max_new_tokens": 48,
        "pilot": {"rows": 4, "batch_size": 4, "method": "full"},
    }
    weight = {"objective": {"kl": {"weight": 20.0}}}
    changes = {
        "arms": [
            {"name": "plain", "policy": "plain"},
            {"name": "held", "policy": "plain", "anchors": small, "train": weight},
            {"name": "held at random", "policy": "plain", "anchors": {**small, "random_share": 1.0}, "train": weight},
        ],
        "train": {**RECIPE["train"], "learning_rate": 1e-3, "epochs": 3},
        "evaluate": {"limit": 1, "drift": {"dialogues": 8, "prompts": "target", "limit": 4, "max_new_tokens": 48}},
    }
    recipe = write(tmp_path / "held.yaml", **changes)
    printed = run(recipe, tmp_path / "run").stdout
    assert "drift" in printed
    folders = [path.name.partition("-")[0] for path in (tmp_path / "run" / "anchors-work").iterdir()]
    assert sorted(name for name in folders if name) == ["candidates", "pilot"], "both arms use the same ones"
    (target,) = read_report(tmp_path / "run").targets
    drifts = {arm.name: arm.runs[0].drift for arm in target.arms}
    measured = [
        json.loads((path / "drift.json").read_text())
        for path in (tmp_path / "run").glob("drift-*")
        if path.is_dir() and (path / "drift.json").is_file()
    ]
    assert all([probe["name"] for probe in one["probes"]] == ["dialogues", "answers"] for one in measured)
    assert {one["settings"]["prompts"] for one in measured} == {"task:pocket_python_foreign/train"}
    assert all(value is not None and value > 0 for value in drifts.values())
    assert len(set(drifts.values())) == 3, "three different runs"
    logs = [list(read_log(path / "log.jsonl")) for path in (tmp_path / "run").glob("train-*") if path.is_dir()]
    weights = sorted([step.kl_weight for step in log] for log in logs if log[-1].kl_weight > 0)
    assert weights == [[20.0] * 3] * 2, "the two held runs, and no other, had the KL in their loss"
    before = steps(tmp_path / "run")
    run(recipe, tmp_path / "run")
    assert steps(tmp_path / "run") == before, "nothing is made twice"
