"""Ray on a local cluster of two workers, one of which is killed in the middle."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from tokensieve.config import ModelSettings, ScoreSettings
from tokensieve.data.dataset import Rows, in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.scoring import score
from tokensieve.scoring.ray import RayJob, RayScorer, score_on_ray
from tokensieve.types import Tokens, bools, ints

SETTINGS = ScoreSettings(shard_rows=4, use_store=False, token_budget=64)


def _rows(count: int) -> Rows[Tokens]:
    generator = np.random.default_rng(0)
    made = []
    for index in range(count):
        length = int(generator.integers(4, 24))
        ids_T = ints(generator.integers(0, 262, length))
        made.append(Tokens(f"r{index}", ids_T, bools([t > 1 for t in range(length)]), bools([False] * length)))
    return in_memory(made, Manifest(stage="tokens"))


def test_without_ray_its_install_line_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(EnvironmentProblem, match=r"tokensieve\[ray\]"):
        score_on_ray(_rows(4), "pocket", out=tmp_path / "out")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    ray = pytest.importorskip("ray", reason="ray is not installed")
    pytest.importorskip("ray.data", reason="ray[data] is not installed")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # 15 by default, which starves the workers on a busy machine
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def _workers() -> list[int]:
    """Process ids of the actors of this test's own cluster."""
    return [
        process.pid
        for process in psutil.Process().children(recursive=True)
        if "RayScorer" in " ".join(process.cmdline())
    ]


def _kill_one_worker(out: Path, killed: list[int]) -> None:
    """Wait until some shards are there and others are not, then SIGKILL the actor that works."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not list(out.glob(".portions/*/rows-*.parquet")):
        time.sleep(0.01)
    # The last actor of the list may still be starting, so the one with more processor time is taken.
    working = max(_workers(), key=lambda pid: psutil.Process(pid).cpu_times().user, default=None)
    if working is not None and not (out / "manifest.json").exists():
        os.kill(working, signal.SIGKILL)
        killed.append(working)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.filterwarnings("ignore")
def test_a_killed_worker_changes_nothing(cluster: None, tiny_folder: Path, tmp_path: Path) -> None:
    rows = _rows(192).save(tmp_path / "tokens")
    score(rows, str(tiny_folder), SETTINGS, out=tmp_path / "alone")
    killed: list[int] = []
    out = tmp_path / "ray"
    killer = threading.Thread(target=_kill_one_worker, args=(out, killed))
    killer.start()
    found = score_on_ray(rows, str(tiny_folder), SETTINGS, out=out, workers=2)
    killer.join()
    assert killed, "the run was over before a worker could be killed"
    assert not (out / ".portions").exists()
    assert len(found) == 192
    assert _content(out) == _content(tmp_path / "alone")


def _content(folder: Path) -> dict[str, object]:
    """Every shard's bytes, and the manifest without its timing."""
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["timing"]
    return {"manifest": manifest, **{path.name: path.read_bytes() for path in folder.glob("*.parquet")}}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_what_a_worker_complains_of_is_said_as_in_one_process(cluster: None, tiny_folder: Path, tmp_path: Path) -> None:
    long = Tokens("long", ints([7] * 300), bools([True] * 300), bools([False] * 300))
    rows = in_memory([long], Manifest(stage="tokens")).save(tmp_path / "tokens")
    with pytest.raises(InputError, match="row long: 300 tokens, the model takes 256"):
        score_on_ray(rows, str(tiny_folder), SETTINGS, out=tmp_path / "out")
    with pytest.raises(InputError, match="no such folder"):
        score_on_ray(rows, str(tmp_path / "nowhere"), SETTINGS, out=tmp_path / "other")


def test_rows_in_memory_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    with pytest.raises(InputError, match="folder"):
        score_on_ray(_rows(4), "pocket", out=tmp_path / "out")


def test_an_actor_scores_its_portions_and_hands_back_what_a_user_can_mend(tiny_folder: Path, tmp_path: Path) -> None:
    """The actor without Ray around it."""
    rows = _rows(16).save(tmp_path / "tokens")
    score(rows, str(tiny_folder), SETTINGS, out=tmp_path / "alone")
    job = RayJob(tmp_path / "tokens", tmp_path / "out", ModelSettings(model=str(tiny_folder)), SETTINGS, 3)
    actor = RayScorer(job)
    for number in range(3):
        assert actor({"portion": np.array([number])}) == {"portion": np.array([number]), "problem": [""]}
    assert _content(tmp_path / "out") == _content(tmp_path / "alone")
    lost = RayScorer(replace(job, model=ModelSettings(model=str(tmp_path / "nowhere")), out=tmp_path / "other"))
    problems = lost({"portion": np.array([0])})["problem"]
    assert isinstance(problems, list)
    assert len(problems) == 1
    assert json.loads(str(problems[0]))[:2] == [2, "no such folder"]
