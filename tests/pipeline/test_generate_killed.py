"""A generation that is killed outright (SIGKILL) and started again ends with the result of an undisturbed one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.toy_tasks import toy_task

from tokensieve.config import GenerateSettings, ManySettings, ModelSettings
from tokensieve.data.dataset import open_rows
from tokensieve.generation import generate, sample_and_check
from tokensieve.tasks import TASKS
from tokensieve.types import Sample

_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.toy_tasks import toy_task
from tokensieve.config import GenerateSettings, ModelSettings
from tokensieve.generation import generate
from tokensieve.generation import sample_and_check
from tokensieve.tasks import TASKS

TASKS["toy"] = toy_task("toy")
sample_and_check.SHARD_PROMPTS = 2

def die(done, total):
    if done == {at}:
        os.kill(os.getpid(), signal.SIGKILL)

settings = GenerateSettings.model_validate_json({settings!r})
generate("toy", ModelSettings(model={model!r}), settings, Path({out!r}), progress=die)
"""


def test_a_killed_generation_goes_on_to_the_same_result(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TASKS, "toy", toy_task("toy"))
    monkeypatch.setattr(sample_and_check, "SHARD_PROMPTS", 2)
    settings = GenerateSettings(
        sampling=ManySettings(n=3, temperature=1.0, top_p=1.0), choose="first", correct_share=0.0, none_correct="drop"
    )
    model = ModelSettings(model=str(tiny_folder))
    whole = generate("toy", model, settings, tmp_path / "whole")
    script = _KILLED.format(
        root=str(Path(__file__).parents[2]),
        at=8,
        settings=settings.model_dump_json(),
        model=model.model,
        out=str(tmp_path / "out"),
    )
    killed = subprocess.run([sys.executable, "-W", "ignore", "-c", script], env={**os.environ}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    shard = tmp_path / "out" / "samples" / "rows-00000.parquet"
    before = shard.stat().st_mtime_ns
    resumed = generate("toy", model, settings, tmp_path / "out")
    assert shard.stat().st_mtime_ns == before, "what was drawn is not drawn again"
    assert resumed.manifest.digest == whole.manifest.digest
    for folder in ("samples", "checked"):
        one, other = (open_rows(tmp_path / name / folder) for name in ("whole", "out"))
        assert one.manifest.digest == other.manifest.digest
        assert [s.ids for s in one if isinstance(s, Sample)] == [s.ids for s in other if isinstance(s, Sample)]
