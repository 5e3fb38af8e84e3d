"""Ray on a local cluster of two workers, one of which is killed in the middle."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from tokensieve.config import ScoreSettings
from tokensieve.data.folder import Rows, in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.scoring import score, score_on_ray
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
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def _kill_one_worker(out: Path, killed: list[int]) -> None:
    """Wait until a shard is there, then SIGKILL an actor of ours."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and not list(out.glob(".portions/*/rows-*.parquet")):
        time.sleep(0.02)
    for process in psutil.process_iter(["cmdline", "pid"]):
        if "RayScorer" in " ".join(process.info["cmdline"] or []):
            os.kill(process.info["pid"], signal.SIGKILL)
            killed.append(process.info["pid"])
            return


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_killed_worker_changes_nothing(cluster: None, tiny_folder: Path, tmp_path: Path) -> None:
    rows = _rows(96).save(tmp_path / "tokens")
    alone = score(rows, str(tiny_folder), SETTINGS, out=tmp_path / "alone")
    killed: list[int] = []
    out = tmp_path / "ray"
    killer = threading.Thread(target=_kill_one_worker, args=(out, killed))
    killer.start()
    found = score_on_ray(rows, str(tiny_folder), SETTINGS, out=out, workers=2)
    killer.join()
    assert killed
    assert [row.tokens.id for row in found] == [row.tokens.id for row in alone]
    for one, other in zip(found, alone, strict=True):
        np.testing.assert_allclose(one.nll_T(), other.nll_T(), atol=1e-5)


def test_rows_in_memory_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    with pytest.raises(InputError, match="folder"):
        score_on_ray(_rows(4), "pocket", out=tmp_path / "out")
