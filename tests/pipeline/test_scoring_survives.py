"""Kills, full disks and damaged files, with real processes: the same command goes on, and the result is the same."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tokensieve.data.dataset import open_rows
from tokensieve.types import Scored

# A worker that scores with a backend whose numbers depend on how rows were batched, as float rounding does with a
# real model, so that a run which batches otherwise after a kill is found out.
WORKER = """
import sys, time
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from tokensieve.config import ScoreSettings
from tokensieve.data.dataset import in_memory
from tokensieve.data.manifest import Manifest, ModelIdentity
from tokensieve.scoring.backend import ScoreRecord
from tokensieve.launch import portion_of_launch
from tokensieve.errors import TokensieveError
from tokensieve.scoring import score_with
from tokensieve.scoring.batching import batches
from tokensieve.types import Tokens

out, store, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])

@dataclass
class Backend:
    identity = ModelIdentity(name="m", weights_digest="w")
    facts = {"token_budget": 64}
    max_length = None
    vocab_size = None
    has_entropy = has_rank = True
    def resumed(self, facts): return self
    def score(self, requests, measures):
        found = {}
        for batch in batches(requests, 64):
            time.sleep(pause)
            noise = 1e-6 * len(batch.requests)
            for request in batch.requests:
                found[id(request)] = ScoreRecord((request.targets_N + noise).astype(np.float32))
        return [found[id(request)] for request in requests]

generator = np.random.default_rng(0)
rows = []
for index in range(96):
    length = int(generator.integers(4, 30))
    ids = generator.integers(0, 50, length).astype(np.int32)
    if index % 7 == 3:  # the same tokens again, in another shard
        ids, length = rows[index // 2].ids_T, len(rows[index // 2].ids_T)
    rows.append(Tokens(f"r{index}", ids, np.arange(length) >= 2, np.zeros(length, dtype=bool)))
settings = ScoreSettings(entropy=False, rank=False, shard_rows=8, store=store)
try:
    score_with(in_memory(rows, Manifest(stage="tokens")), Backend(), settings, out=out, portion=portion_of_launch())
except TokensieveError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def _start(out: Path, store: Path, pause: float = 0.0) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", WORKER, str(out), str(store), str(pause)]
    return subprocess.Popen(command, stderr=subprocess.PIPE)


def _finish(out: Path, store: Path) -> None:
    process = _start(out, store)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors.decode()


def _content(out: Path) -> dict[str, str]:
    """Every file of a finished folder by its digest; the manifest without its timing."""
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in out.glob("*.parquet")}
    manifest = json.loads((out / "manifest.json").read_text())
    del manifest["timing"]
    return {**found, "manifest": json.dumps(manifest, sort_keys=True)}


@pytest.fixture
def undisturbed(tmp_path: Path) -> dict[str, str]:
    _finish(tmp_path / "undisturbed", tmp_path / "store-undisturbed")
    return _content(tmp_path / "undisturbed")


def test_killed_again_and_again_it_comes_to_the_same_bytes(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    out, store = tmp_path / "out", tmp_path / "store"
    chance = random.Random(0)
    kills = 0
    for _ in range(5):
        process = _start(out, store, pause=0.05)
        deadline = time.monotonic() + 60
        before = len(list(out.glob("*.parquet"))) if out.exists() else 0
        while process.poll() is None and len(list(out.glob("*.parquet"))) < before + 1:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(chance.uniform(0.0, 0.1))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
    assert kills >= 3
    assert not (out / "manifest.json").exists()
    _finish(out, store)
    assert _content(out) == undisturbed


def test_a_damaged_shard_comes_back_as_it_was(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    out = tmp_path / "undisturbed"
    shard = out / "rows-00003.parquet"
    shard.write_bytes(shard.read_bytes()[:100])
    _finish(out, tmp_path / "store-undisturbed")
    assert _content(out) == undisturbed


def test_torchrun_shares_the_work_out(tmp_path: Path, undisturbed: dict[str, str]) -> None:
    program = tmp_path / "worker.py"
    program.write_text(WORKER)
    out, store = tmp_path / "out", tmp_path / "store"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [*launcher, str(program), str(out), str(store), "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert not (out / ".portions").exists()
    assert _content(out).keys() == undisturbed.keys()
    # Rows that come twice may have been scored beside other neighbours: the same but for rounding.
    for one, other in zip(open_rows(out), open_rows(tmp_path / "undisturbed"), strict=True):
        assert isinstance(one, Scored)
        assert isinstance(other, Scored)
        assert one.tokens.id == other.tokens.id
        np.testing.assert_allclose(one.nll_T(), other.nll_T(), atol=1e-5)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("a small tmpfs can be mounted by root only")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("what", ["out", "store"])
def test_a_full_disk_is_said_and_once_there_is_room_it_goes_on(
    tmp_path: Path, small_disk: Path, undisturbed: dict[str, str], what: str
) -> None:
    out = (small_disk if what == "out" else tmp_path) / "out"
    store = (small_disk if what == "store" else tmp_path) / "store"
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (370_000 if what == "out" else 330_000))
    process = _start(out, store)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 3, errors.decode()
    assert "Traceback" not in errors.decode()
    assert "make room" in errors.decode()
    filler.unlink()
    _finish(out, store)
    assert _content(out) == undisturbed
    assert len(list(open_rows(out))) == 96
