"""vLLM itself, in this process and as a server, against transformers: scores, ranks and greedy answers on pocket.

It needs vLLM, for a GPU or a CPU: `sh tests/contract/vllm.sh` installs the CPU build in an environment of its own.
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
import pytest

from tokensieve.config import AnswererSettings, ModelSettings, SampleSettings, ScoreSettings
from tokensieve.data.dataset import Rows
from tokensieve.models import load_chat, load_model
from tokensieve.pipeline import load
from tokensieve.sampling import LocalSampler, Request, Sampler, ServerSampler, VllmSampler
from tokensieve.scoring import open_vllm, score, score_with
from tokensieve.tasks import TASKS
from tokensieve.types import Sample, Tokens

pytestmark = [
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed: sh tests/contract/vllm.sh"),
    pytest.mark.timeout(1200),
    pytest.mark.filterwarnings("ignore"),  # vLLM's own, and those of what it imports
]

MODEL = ModelSettings(model="pocket", dtype="float32")
TOLERANCE = 1e-3
"""Nats between vLLM and transformers, both in float32: other kernels, other order of sums."""
TASK = "pocket_arithmetic"


@pytest.fixture(scope="module")
def rows() -> Rows[Tokens]:
    return load(f"task:{TASK}/train", MODEL, {"limit": 12})


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = load_model(MODEL).model.config._name_or_path
    log = tmp_path_factory.mktemp("vllm") / "log"
    # As `vllm serve`, whose command needs the metadata of a package named vllm.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", folder]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [
                *command,
                "--served-model-name",
                "served",
                "--host",
                "127.0.0.1",
                "--port",
                str(port),
                "--dtype",
                "float32",
            ],
            stdout=out,
            stderr=out,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(60)


def _wait_for(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(1)
    raise AssertionError(log.read_text(errors="replace")[-3000:])


def test_the_server_scores_and_answers_as_transformers_does(rows: Rows[Tokens], url: str) -> None:
    served = ModelSettings(model="served", tokenizer="pocket")
    _assert_scores(rows, served, url)
    answerer = AnswererSettings(backend="server", model="served", url=url)
    _assert_answers(ServerSampler(answerer, load_chat(MODEL).encoder.tokenizer, {}))


def test_the_engine_in_this_process_scores_as_transformers_does(rows: Rows[Tokens]) -> None:
    _assert_scores(rows, MODEL, None)


def test_the_engine_in_this_process_answers_as_transformers_does() -> None:
    before = _engines()
    sampler = VllmSampler(MODEL)
    assert len(_engines()) > len(before)
    assert (sampler.identity.backend, sampler.identity.dtype) == ("vllm", "float32")
    _assert_answers(sampler)
    warm = SampleSettings(temperature=2.0, top_p=1.0, seed=7)
    drawn = list(sampler.draw([_requests(n=4)[0]], warm))
    assert len({sample.text for sample in drawn}) > 1, "every answer has a seed of its own"
    assert all(np.isfinite(sample.nll) for sample in drawn)
    sampler.close()
    for _ in range(60):  # the worker ends behind the engine's process
        if _engines() == before:
            break
        time.sleep(1)
    assert _engines() == before


def _engines() -> set[int]:
    """Processes of vLLM's engines below this one."""
    children = psutil.Process().children(recursive=True)
    return {child.pid for child in children if "VLLM" in child.name() and child.status() != psutil.STATUS_ZOMBIE}


def _assert_scores(rows: Rows[Tokens], model: ModelSettings, url: str | None) -> None:
    settings = ScoreSettings(entropy=False, use_store=False)
    with closing(open_vllm(model, url)) as backend:
        theirs = list(score_with(rows, backend, settings))
    ours = list(score(rows, MODEL, settings))
    assert len(theirs) == len(ours) == len(rows) == 12
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(one.nll_T(), other.nll_T(), atol=TOLERANCE)
        their_rank_T, our_rank_T = one.scores["base"].rank_T, other.scores["base"].rank_T
        assert their_rank_T is not None
        assert our_rank_T is not None
        same_T = np.equal(their_rank_T, our_rank_T)
        assert same_T[~np.isnan(other.nll_T())].mean() > 0.98, "ranks part where two entries are equal but for rounding"


def _requests(n: int = 1) -> list[Request]:
    problems = list(TASKS[TASK].problems("test"))[:8]
    return [Request(problem.id, problem.prompt, 64, n=n, task=TASK) for problem in problems]


def _assert_answers(sampler: Sampler) -> None:
    greedy = SampleSettings(temperature=0.0)
    theirs = {sample.problem_id: sample for sample in sampler.draw(_requests(), greedy)}
    ours = {sample.problem_id: sample for sample in LocalSampler(load_model(MODEL)).draw(_requests(), greedy)}
    assert theirs.keys() == ours.keys()
    assert [_said(theirs[key]) for key in sorted(ours)] == [_said(ours[key]) for key in sorted(ours)]


def _said(sample: Sample) -> tuple[str, bool]:
    return sample.text.strip(), sample.finished
