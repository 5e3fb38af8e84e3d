"""Scores are the same wherever they are made: job arrays, torchrun's processes, and one model over several of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tokensieve.cli import main
from tokensieve.config import DataSettings
from tokensieve.data.dataset import open_rows
from tokensieve.errors import InputError
from tokensieve.launch import Portion
from tokensieve.pipeline import load, load_beside_others
from tokensieve.types import Scored

WORDS = ("fig", "pear", "sun", "moon", "tree", "house", "river", "stone")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    path = tmp_path / "data.jsonl"
    with path.open("w") as file:
        for number in range(40):
            prompt, completion = (" ".join(generator.choice(WORDS, 1 + number % 7)) for _ in range(2))
            file.write(json.dumps({"prompt": f"{number}: {prompt}", "completion": completion}) + "\n")
    return path


def _score(data: Path, model: Path, out: Path, *words: object) -> list[str]:
    options = ["--model", model, "--out", out, "--shard-rows", 4, "--token-budget", 256, "--no-use-store", *words]
    return [str(word) for word in ("score", data, *options)]


def _content(folder: Path) -> dict[str, object]:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["timing"]
    return {"manifest": manifest, **{path.name: path.read_bytes() for path in folder.glob("*.parquet")}}


def test_the_jobs_of_an_array_write_what_one_job_writes(data: Path, tiny_folder: Path, tmp_path: Path) -> None:
    assert main(_score(data, tiny_folder, tmp_path / "one")) == 0
    several = tmp_path / "several"
    for index in (2, 0, 1):
        assert main(_score(data, tiny_folder, several, "--shard", f"{index}/3")) == 0
        assert (several / "manifest.json").exists() == (index == 1)
    assert _content(several) == _content(tmp_path / "one")
    assert [path.name for path in several.iterdir() if path.is_dir()] == [".tokens"]


def test_tokens_are_made_beside_each_other_and_kept_once(data: Path, tmp_path: Path) -> None:
    out, settings = tmp_path / "out" / ".tokens", DataSettings()
    lone = load(data, "pocket", settings)
    begun = load_beside_others(data, "pocket", settings, tmp_path / "out" / ".tokens", Portion(1, 2))
    assert begun.folder == out
    again = load_beside_others(data, "pocket", settings, out, Portion(0, 2))
    assert again.folder == out
    assert [row.id for row in again] == [row.id for row in lone]
    assert [path.name for path in out.parent.iterdir()] == [".tokens"]
    with pytest.raises(InputError, match="other settings"):
        load_beside_others(data, "pocket", DataSettings(limit=3), out, Portion(0, 2))


def test_tokens_that_a_killed_process_left_are_not_in_the_way(data: Path, tmp_path: Path) -> None:
    out = tmp_path / ".tokens"
    out.mkdir()
    (out / "draft.json").write_text("{}")
    made = load_beside_others(data, "pocket", DataSettings(), out, Portion(1, 2))
    assert made.folder == tmp_path / ".tokens-1-of-2"
    assert len(list(made)) == 40


TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
ACCELERATE = ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--main_process_port", "0")


def _launch(launcher: tuple[str, ...], words: list[str]) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", *launcher, "-m", "tokensieve", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_a_launcher_s_processes_write_what_one_writes(
    launcher: tuple[str, ...], data: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    assert main(_score(data, tiny_folder, tmp_path / "one")) == 0
    _launch(launcher, _score(data, tiny_folder, tmp_path / "two"))
    assert _content(tmp_path / "two") == _content(tmp_path / "one")


@pytest.mark.slow
def test_one_model_over_two_processes_scores_the_same(data: Path, tiny_folder: Path, tmp_path: Path) -> None:
    """Tensor parallelism, here on a CPU: sums are taken in another order, so equal to rounding."""
    assert main(_score(data, tiny_folder, tmp_path / "one")) == 0
    _launch(TORCHRUN, _score(data, tiny_folder, tmp_path / "two", "--tp-plan", "auto"))
    one, two = (list(open_rows(tmp_path / name)) for name in ("one", "two"))
    assert len(two) == 40
    for row, other in zip(one, two, strict=True):
        assert isinstance(row, Scored)
        assert isinstance(other, Scored)
        np.testing.assert_allclose(other.nll_T(), row.nll_T(), atol=1e-5, rtol=0)
    assert json.loads((tmp_path / "two" / "manifest.json").read_text())["facts"]["head_path"] == "tiled"
