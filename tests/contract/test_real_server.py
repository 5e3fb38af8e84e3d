"""Assumptions about OpenAI-compatible servers, on a real one: transformers' own, with a tiny model on this machine."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.toy_tasks import toy_task

from tokensieve.config import AnswererSettings, GenerateSettings, ManySettings, SampleSettings
from tokensieve.data.dataset import open_rows
from tokensieve.generation import generate, sample_and_check
from tokensieve.models import load_model
from tokensieve.sampling import LocalSampler, Request, ServerSampler
from tokensieve.types import Sample

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("fastapi") is None or importlib.util.find_spec("openai") is None,
        reason='the server needs pip install "transformers[serving]"',
    ),
]


@pytest.fixture(scope="module")
def url(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (tmp_path_factory.mktemp("serve") / "log").open("wb")
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(tiny_folder)]
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"],
        stdout=log,
        stderr=log,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)
        log.close()


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the server ended by itself"
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    pytest.fail("the server did not start within two minutes")


def requests(n: int = 1) -> list[Request]:
    return [Request(f"p/{i}", ({"role": "user", "content": f"say {i}"},), 12, n=n) for i in range(4)]


def test_greedy_answers_are_the_local_ones(url: str, tiny_folder: Path) -> None:
    loaded = load_model(str(tiny_folder))
    server = ServerSampler(AnswererSettings(url=url, model=str(tiny_folder)), loaded.tokenizer)
    theirs = {sample.problem_id: sample for sample in server.draw(requests(), SampleSettings())}
    ours = {sample.problem_id: sample for sample in LocalSampler(loaded).draw(requests(), SampleSettings())}
    assert {key: sample.text for key, sample in theirs.items()} == {key: sample.text for key, sample in ours.items()}
    assert {key: sample.finished for key, sample in theirs.items()} == {k: s.finished for k, s in ours.items()}
    assert all(sample.retokenised for sample in theirs.values())


def test_several_answers_to_a_prompt_all_arrive(url: str, tiny_folder: Path) -> None:
    server = ServerSampler(AnswererSettings(url=url, model=str(tiny_folder)))
    found = list(server.draw(requests(3), SampleSettings(temperature=1.0)))
    assert sorted((sample.problem_id, sample.index) for sample in found) == [
        (f"p/{i}", index) for i in range(4) for index in range(3)
    ]


def test_generation_with_a_server_goes_on_where_it_was_interrupted(
    url: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_and_check, "SHARD_PROMPTS", 2)
    settings = GenerateSettings(
        sampling=ManySettings(n=2, temperature=1.0, top_p=1.0),
        choose="first",
        correct_share=0.0,
        answerer=AnswererSettings(backend="server", url=url, model=str(tiny_folder), concurrency=3),
    )

    def interrupt(done: int, total: int) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    loaded = load_model(str(tiny_folder))
    with pytest.raises(KeyboardInterrupt):
        generate(toy_task("toy"), loaded, settings, tmp_path, progress=interrupt)
    first = tmp_path / "samples" / "rows-00000.parquet"
    before = first.read_bytes()
    made = generate(toy_task("toy"), loaded, settings, tmp_path)
    assert first.read_bytes() == before
    samples = [sample for sample in open_rows(tmp_path / "samples") if isinstance(sample, Sample)]
    assert [(s.problem_id, s.index) for s in samples] == [(f"toy/train/{p}", i) for p in range(6) for i in range(2)]
    assert all(sample.retokenised for sample in samples)
    assert made.manifest.facts["retokenised_rows"] == len(made)
    kept = {s.text for s in samples if s.finished}
    assert {example.messages[-1]["content"] for example in made} <= kept
