"""The sampler for OpenAI-compatible servers, against a small server with the documented behaviour and its failures."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tokensieve.config import AnswererSettings, SampleSettings
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.sampling import Request, ServerSampler
from tokensieve.types import Sample

Reply = tuple[int, dict[str, Any], dict[str, str]]


def answer(body: dict[str, Any], *, reason: str = "stop", choices: int | None = None) -> Reply:
    """What the documented API answers: ``n`` choices, numbered."""
    count = choices if choices is not None else body.get("n", 1)
    said = body["messages"][-1]["content"]
    return 200, {"choices": [_choice(f"{said} #{number}", reason) for number in range(count)]}, {}


def _choice(text: str, reason: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}, "finish_reason": reason}


class Server:
    """Answers by a function of the request's number and body; keeps what it was sent."""

    def __init__(self, reply: Callable[[int, dict[str, Any]], Reply]) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.times: list[float] = []
        self.most_at_once = self._now = 0
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with lock:
                    number = len(server.bodies)
                    server.bodies.append(body)
                    server.headers.append({name.title(): value for name, value in self.headers.items()})
                    server.times.append(time.monotonic())
                    server._now += 1
                    server.most_at_once = max(server.most_at_once, server._now)
                code, content, headers = reply(number, body)
                with lock:
                    server._now -= 1
                data = json.dumps(content).encode()
                self.send_response(code)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[:5] if "X-Break-Off" in headers else data)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/v1"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[int, dict[str, Any]], Reply]], Server]]:
    servers: list[Server] = []

    def start(reply: Callable[[int, dict[str, Any]], Reply]) -> Server:
        servers.append(Server(reply))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)


def requests(count: int, n: int = 1, first: int = 0) -> list[Request]:
    return [Request(f"p/{i}", ({"role": "user", "content": f"q{i}"},), 32, n=n, first=first) for i in range(count)]


def drawn(server: Server, asked: list[Request], **changes: object) -> dict[tuple[str, int], Sample]:
    settings = AnswererSettings(backend="server", url=server.url, model="m").model_copy(update=changes)
    samples = ServerSampler(settings).draw(asked, SampleSettings(temperature=0.7, top_p=0.9, seed=3))
    return {(sample.problem_id, sample.index): sample for sample in samples}


def test_n_answers_come_from_one_request_where_the_server_takes_n(serve) -> None:  # type: ignore[no-untyped-def]
    server = serve(lambda number, body: answer(body))
    found = drawn(server, requests(2, n=3, first=4))
    assert sorted(found) == [(f"p/{i}", index) for i in range(2) for index in (4, 5, 6)]
    assert found["p/1", 5].text == "q1 #1"
    assert len(server.bodies) == 2
    body = server.bodies[0]
    assert (body["n"], body["temperature"], body["top_p"], body["max_tokens"]) == (3, 0.7, 0.9, 32)
    assert all(sample.retokenised for sample in found.values())


@pytest.mark.parametrize("manner", ["ignored", "refused"])
def test_n_answers_come_from_n_requests_where_it_does_not(serve, manner: str) -> None:  # type: ignore[no-untyped-def]
    def reply(number: int, body: dict[str, Any]) -> Reply:
        if manner == "refused" and "n" in body:
            return 400, {"error": {"message": "parameter 'n' is not supported"}}, {}
        return answer(body, choices=1)

    server = serve(reply)
    found = drawn(server, requests(3, n=3), concurrency=1)
    assert len(found) == 9
    assert sum("n" in body for body in server.bodies) == 1  # asked once, never again
    seeds = {body["seed"] for body in server.bodies if "n" not in body}
    assert len(seeds) >= 8  # every answer its own


def test_parameters_that_a_server_refuses_cost_no_try(serve) -> None:  # type: ignore[no-untyped-def]
    def reply(number: int, body: dict[str, Any]) -> Reply:
        refused = next((name for name in ("n", "seed") if name in body), None)
        return (400, {"error": f"unknown parameter '{refused}'"}, {}) if refused else answer(body)

    server = serve(reply)
    assert set(drawn(server, requests(1, n=2), retries=0)) == {("p/0", 0), ("p/0", 1)}
    assert len(server.bodies) == 4


def test_a_busy_server_is_asked_again(serve) -> None:  # type: ignore[no-untyped-def]
    failures = [(429, {"error": "slow down"}, {"Retry-After": "0.2"}), (503, {}, {}), (500, {}, {})]
    server = serve(lambda number, body: failures[number] if number < 3 else answer(body))
    found = drawn(server, requests(1))
    assert found["p/0", 0].text == "q0 #0"
    assert len(server.bodies) == 4
    assert server.times[1] - server.times[0] >= 0.2


def test_a_server_that_stays_busy_is_an_environment_problem(serve) -> None:  # type: ignore[no-untyped-def]
    server = serve(lambda number, body: (503, {"error": "later"}, {}))
    with pytest.raises(EnvironmentProblem, match="no answer after 3 tries"):
        drawn(server, requests(1), retries=2)


def test_a_pause_of_hours_is_not_waited_for(serve) -> None:  # type: ignore[no-untyped-def]
    server = serve(lambda number, body: (429, {"error": "quota"}, {"Retry-After": "7200"}))
    with pytest.raises(EnvironmentProblem, match="no answer after 1 try; the last: HTTP 429"):
        drawn(server, requests(1), retries=2)
    assert len(server.bodies) == 1


def test_no_server_at_all_is_an_environment_problem() -> None:
    settings = AnswererSettings(backend="server", url="http://127.0.0.1:9/v1", model="m", retries=1)
    with pytest.raises(EnvironmentProblem, match="no answer after 2 tries"):
        list(ServerSampler(settings).draw(requests(1), SampleSettings()))


@pytest.mark.parametrize(
    ("code", "kind", "words"), [(401, EnvironmentProblem, "key"), (404, InputError, "404"), (400, InputError, "400")]
)
def test_refusals_are_told_at_once(serve, code: int, kind: type[Exception], words: str) -> None:  # type: ignore[no-untyped-def]
    server = serve(lambda number, body: (code, {"error": "no such thing"}, {}))
    with pytest.raises(kind, match=words):
        drawn(server, requests(1))
    assert len(server.bodies) == 1


def test_only_answers_that_stopped_by_themselves_are_finished(serve) -> None:  # type: ignore[no-untyped-def]
    reasons = {"q0": "stop", "q1": "length", "q2": "content_filter"}
    server = serve(lambda number, body: answer(body, reason=reasons[body["messages"][-1]["content"]]))
    found = drawn(server, requests(3))
    assert [found[f"p/{i}", 0].finished for i in range(3)] == [True, False, False]


def test_the_newer_name_of_the_length_limit_is_found(serve) -> None:  # type: ignore[no-untyped-def]
    def reply(number: int, body: dict[str, Any]) -> Reply:
        if "max_tokens" in body:
            return 400, {"error": {"message": "Unsupported parameter: use 'max_completion_tokens' instead."}}, {}
        return answer(body)

    server = serve(reply)
    assert len(drawn(server, requests(3), concurrency=1)) == 3
    assert sum("max_tokens" in body for body in server.bodies) == 1
    assert server.bodies[-1]["max_completion_tokens"] == 32


def test_the_key_is_sent_where_there_is_one(serve, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_ORG_ID", "org")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project")
    monkeypatch.setenv("MY_KEY", "abc")
    server = serve(lambda number, body: answer(body))
    drawn(server, requests(1))
    drawn(server, requests(1), key_variable="MY_KEY")
    assert [headers.get("Authorization") for headers in server.headers] == [None, "Bearer abc"]
    assert not any({"Openai-Organization", "Openai-Project"} & headers.keys() for headers in server.headers)


def test_requests_go_out_at_the_same_time_but_not_more_than_allowed(serve) -> None:  # type: ignore[no-untyped-def]
    def slow(number: int, body: dict[str, Any]) -> Reply:
        time.sleep(0.05)
        return answer(body)

    server = serve(slow)
    drawn(server, requests(12), concurrency=4)
    assert 2 <= server.most_at_once <= 4


def test_requests_a_minute_are_kept(serve) -> None:  # type: ignore[no-untyped-def]
    server = serve(lambda number, body: answer(body))
    drawn(server, requests(4), requests_per_minute=600)
    assert server.times[-1] - server.times[0] >= 0.27


def test_tries_again_count_among_the_requests_a_minute(serve) -> None:  # type: ignore[no-untyped-def]
    server = serve(lambda number, body: answer(body) if number == 3 else (503, {}, {}))
    drawn(server, requests(1), requests_per_minute=600)
    assert server.times[-1] - server.times[0] >= 0.27


def test_an_answer_that_breaks_off_is_asked_for_again(serve) -> None:  # type: ignore[no-untyped-def]
    def reply(number: int, body: dict[str, Any]) -> Reply:
        code, content, _ = answer(body)
        return code, content, {} if number else {"X-Break-Off": "yes"}

    server = serve(reply)
    assert drawn(server, requests(1), retries=1)["p/0", 0].text == "q0 #0"
    assert len(server.bodies) == 2


def test_the_same_seed_goes_with_the_same_problem_in_any_company(serve) -> None:  # type: ignore[no-untyped-def]
    server = serve(lambda number, body: answer(body))
    drawn(server, requests(3))
    drawn(server, requests(3)[1:2])
    seeds = {body["messages"][-1]["content"]: body["seed"] for body in server.bodies[:3]}
    assert server.bodies[3]["seed"] == seeds["q1"]
    assert len(set(seeds.values())) == 3


def test_prompts_of_token_ids_are_refused(serve) -> None:  # type: ignore[no-untyped-def]
    import numpy as np

    server = serve(lambda number, body: answer(body))
    with pytest.raises(InputError, match="messages, not token ids"):
        drawn(server, [Request("p", (), 8, prompt_T=np.array([1, 2], np.int32))])
