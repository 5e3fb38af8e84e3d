"""The vLLM backend against a server that answers as vLLM's documentation says."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tokensieve.cli import main
from tokensieve.config import LaunchSettings, ModelSettings, ScoreSettings
from tokensieve.data.dataset import in_memory, open_rows
from tokensieve.data.manifest import Manifest
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.models import LoadedModel
from tokensieve.scoring import compare_backends, score, score_with
from tokensieve.scoring.vllm import open_server, open_vllm
from tokensieve.types import Scored, Tokens, bools, ints

Plain = Callable[[LoadedModel, list[int]], tuple[list[float], list[float], list[int]]]


@dataclass
class Stub:
    """Answers by a small model of our own, in the documented form.

    Attributes:
        answer: the value of ``choices[0]["prompt_logprobs"]`` for token ids.
        status: HTTP status of completions.
        asked: contents of the questions so far.
    """

    answer: Callable[[list[int]], object]
    status: int = 200
    asked: list[dict[str, object]] = field(default_factory=list)


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

        def do_GET(self) -> None:
            entry = {"id": "tiny", "object": "model", "owned_by": "vllm", "root": "owner/tiny", "max_model_len": 64}
            self._json(200, {"object": "list", "data": [entry]})

        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stub.asked.append(content)
            choice = {"index": 0, "text": "x", "logprobs": None, "prompt_logprobs": stub.answer(content["prompt"])}
            self._json(stub.status, {"object": "text_completion", "choices": [choice]})

        def _json(self, status: int, content: object) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


@pytest.fixture
def loaded(tiny_model: Callable[..., LoadedModel]) -> LoadedModel:
    return tiny_model()


@pytest.fixture
def stub(loaded: LoadedModel, plain_scores: Plain) -> Stub:
    def answer(ids: list[int]) -> object:
        nll, _, rank = plain_scores(loaded, ids)
        told = zip(ids[1:], nll, rank, strict=True)
        return [None, *({str(i): {"logprob": -n, "rank": r + 1, "decoded_token": "?"}} for i, n, r in told)]

    return Stub(answer)


@pytest.fixture
def url(stub: Stub) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(stub))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()
    thread.join()


ROWS = in_memory(
    [
        Tokens("a", ints([5, 6, 7, 200, 9]), bools([False, False, True, True, True]), bools([False] * 5)),
        Tokens("b", ints([8, 9, 3]), bools([False, True, True]), bools([False] * 3)),
        Tokens("none", ints([8, 9]), bools([False, False]), bools([False] * 2)),
    ],
    Manifest(stage="tokens"),
)


def test_template_arguments_are_part_of_a_servers_identity(url: str, tiny_folder: Path) -> None:
    settings = ModelSettings(model="tiny", tokenizer=str(tiny_folder), template_kwargs={"style": "short"})
    plain = open_vllm(settings.model_copy(update={"template_kwargs": {}}), url)
    styled = open_vllm(settings, url)
    assert styled.identity.template_kwargs == {"style": "short"}
    assert styled.identity.template_digest != plain.identity.template_digest
    assert styled.identity.weights_digest == plain.identity.weights_digest


def test_a_servers_scores_are_ours(url: str, stub: Stub, loaded: LoadedModel, tiny_folder: Path) -> None:
    backend = open_server(url, "tiny", str(tiny_folder))
    found = list(score_with(ROWS, backend, ScoreSettings()))
    for one, other in zip(found, score(ROWS, loaded), strict=True):
        scores, ours = one.scores["base"], other.scores["base"]
        np.testing.assert_allclose(scores.nll_T, ours.nll_T, atol=1e-5)
        assert scores.rank_T is not None
        assert ours.rank_T is not None
        np.testing.assert_array_equal(scores.rank_T, ours.rank_T)
        assert scores.entropy_T is None
    assert len(stub.asked) == 2
    assert {key: stub.asked[0][key] for key in ("model", "max_tokens", "prompt_logprobs")} == {
        "model": "tiny",
        "max_tokens": 1,
        "prompt_logprobs": 0,
    }


def test_a_server_is_not_asked_twice(url: str, stub: Stub, tiny_folder: Path) -> None:
    for _ in range(2):
        score_with(ROWS, open_server(url, "tiny", str(tiny_folder)), ScoreSettings())
    assert len(stub.asked) == 2


def test_it_can_be_compared_with_the_reference(url: str, loaded: LoadedModel, tiny_folder: Path) -> None:
    found = compare_backends(ROWS, loaded, open_server(url + "/", "tiny", str(tiny_folder)))
    assert found.tokens == 5
    assert found.quantiles[1.0] < 1e-5
    assert (found.first.backend, found.second.backend) == ("transformers", "vllm")


def _cli(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main([str(word) for word in words]) == 0
    return capsys.readouterr().out


def test_the_command_line_asks_a_server(
    url: str, stub: Stub, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data.jsonl"
    rows = [{"prompt": "a", "completion": "fig"}, {"prompt": "b", "completion": "x" * 80}]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    asking = ["--model", "tiny", "--tokenizer", tiny_folder, "--backend", "vllm", "--url", url]
    said = _cli(capsys, "score", data, *asking, "--out", tmp_path / "scored")
    assert "rows: 2 in, 1 out, dropped over-long: 1" in said  # the server takes 63 tokens
    [row] = open_rows(tmp_path / "scored")
    assert isinstance(row, Scored)
    [ours] = score(in_memory([row.tokens], Manifest(stage="tokens")), str(tiny_folder))
    np.testing.assert_allclose(row.nll_T(), ours.nll_T(), atol=1e-5)
    other = ["--other.model", "tiny", "--other-backend", "vllm", "--other-url", url]
    short = ["--model", tiny_folder, "--max-length", 60]
    said = _cli(capsys, "compare-backends", data, *short, *other, "--other.tokenizer", tiny_folder)
    assert "second: tiny" in said
    assert "0 tokens change sides" in said


def test_python_reaches_a_server_through_score(url: str, loaded: LoadedModel, tiny_folder: Path) -> None:
    settings = ModelSettings(model="tiny", tokenizer=str(tiny_folder))
    launch = LaunchSettings(backend="vllm", url=url)
    for one, other in zip(score(ROWS, settings, launch=launch), score(ROWS, loaded), strict=True):
        np.testing.assert_allclose(one.nll_T(), other.nll_T(), atol=1e-5)


@pytest.mark.parametrize(
    ("launch", "said"),
    [
        ({"url": "http://h/v1"}, "--backend vllm only"),
        ({"engine": "ray", "backend": "vllm"}, "Ray deals the work out itself"),
        ({"engine": "ray", "shard": "0/2"}, "Ray deals the work out itself"),
        ({"engine": "ray"}, "load the model themselves"),
        ({"backend": "vllm"}, "load the model themselves"),
        ({"shard": "2/2"}, "--shard"),
        ({"shard": "0/2"}, "give --out"),
    ],
)
def test_launch_settings_that_exclude_each_other_are_refused(
    loaded: LoadedModel, launch: dict[str, str], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        score(ROWS, loaded, launch=LaunchSettings.model_validate(launch))


def test_a_row_that_is_too_long_for_the_server_is_named(url: str, tiny_folder: Path) -> None:
    long = Tokens("long", ints([5] * 64), bools([True] * 64), bools([False] * 64))
    with pytest.raises(InputError, match="row long: 64 tokens, the model takes 63"):
        score_with(
            in_memory([long], Manifest(stage="tokens")), open_server(url, "tiny", str(tiny_folder)), ScoreSettings()
        )


@pytest.mark.parametrize("answer", [None, [], [None, {"5": {"logprob": -1.0}}]])
def test_a_server_that_does_not_score_prompts_is_refused(
    url: str, stub: Stub, tiny_folder: Path, answer: object
) -> None:
    stub.answer = lambda _: answer
    with pytest.raises(InputError, match="prompt_logprobs"):
        score_with(ROWS, open_server(url, "tiny", str(tiny_folder)), ScoreSettings())


def test_an_answer_for_other_tokens_is_refused(url: str, stub: Stub, tiny_folder: Path) -> None:
    stub.answer = lambda ids: [None, *({"999": {"logprob": -1.0, "rank": 1}} for _ in ids[1:])]
    with pytest.raises(InputError, match="no log-probability of token"):
        score_with(ROWS, open_server(url, "tiny", str(tiny_folder)), ScoreSettings())


def test_a_token_that_the_server_calls_impossible_is_an_error(url: str, stub: Stub, tiny_folder: Path) -> None:
    """vLLM writes -9999 for minus infinity; taken as it is, it would be a perplexity like any other."""
    stub.answer = lambda ids: [None, *({str(i): {"logprob": -9999.0, "rank": 300}} for i in ids[1:])]
    with pytest.raises(InputError, match=r"the nll of token 2 .* is inf"):
        score_with(ROWS, open_server(url, "tiny", str(tiny_folder)), ScoreSettings())


def test_servers_that_fail_are_the_environments_fault(url: str, stub: Stub, tiny_folder: Path) -> None:
    with pytest.raises(InputError, match="it has: tiny"):
        open_server(url, "other", str(tiny_folder))
    backend = open_server(url, "tiny", str(tiny_folder))
    stub.status = 500
    with pytest.raises(EnvironmentProblem, match="answered 500"):
        score_with(ROWS, backend, ScoreSettings())
    with pytest.raises(EnvironmentProblem, match="cannot be reached"):
        open_server("http://127.0.0.1:9/v1", "tiny", str(tiny_folder))
