"""Downloads from a Hub that answers, refuses or breaks off: a server on this machine, no network."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.models import load_model, load_tokenizer
from tokensieve.models.fetch import fetch

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """What the server hands out and how it misbehaves.

    Attributes:
        files: content by name.
        refusal: the Hub's error code for every question, with its HTTP status.
        cut_off: the file whose transfer stops half-way.
        asked: paths of the questions so far.
    """

    files: dict[str, bytes]
    refusal: tuple[int, str] | None = None
    cut_off: str = ""
    asked: list[str] = field(default_factory=list)


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

        def do_HEAD(self) -> None:
            self._file(body=False)

        def do_GET(self) -> None:
            hub.asked.append(self.path)
            if hub.refusal is not None:
                status, code = hub.refusal
                self._send(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code} if code else {})
            elif "/tree/" in self.path:
                self._json([{"type": "file", "path": n, "size": len(c), "oid": "0" * 40} for n, c in hub.files.items()])
            elif self.path.startswith("/api/models/"):
                siblings = [{"rfilename": name} for name in hub.files]
                self._json({"id": "owner/tiny", "sha": COMMIT, "siblings": siblings})
            else:
                self._file(body=True)

        def _json(self, content: object) -> None:
            self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def _file(self, *, body: bool) -> None:
            name = re.sub(r"^/owner/tiny/resolve/[^/]+/", "", self.path)
            if name not in hub.files:
                self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
                return
            content = hub.files[name]
            headers = {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}
            if body and name == hub.cut_off:
                self._send(200, content[: len(content) // 2], {**headers, "Content-Length": str(len(content))})
                self.close_connection = True
                return
            self._send(200, content if body else b"", {**headers, "Content-Length": str(len(content))})

        def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content)

    return Handler


@pytest.fixture
def hub(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub that holds ``owner/tiny``; the library reads its address at import, so it is set there."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http

    held = Hub({path.name: path.read_bytes() for path in tiny_folder.iterdir()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(held))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between its own attempts
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    _http.close_session()
    yield held
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_model_comes_from_the_hub_with_its_commit(hub: Hub, tiny_folder: Path) -> None:
    loaded = load_model("owner/tiny")
    assert loaded.identity.revision == COMMIT
    assert loaded.identity.weights_digest == load_model(str(tiny_folder)).identity.weights_digest


def test_the_hubs_address_comes_from_the_environment(hub: Hub, tmp_path: Path) -> None:
    from huggingface_hub import constants

    environment = {**os.environ, "HF_ENDPOINT": constants.ENDPOINT, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    program = "from tokensieve.models.fetch import fetch; print(fetch('owner/tiny', weights=False).revision)"
    found = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert found.stdout.strip() == COMMIT


def test_the_tokenizer_alone_leaves_the_weights_where_they_are(hub: Hub) -> None:
    load_tokenizer("owner/tiny")
    assert not any("safetensors" in path for path in hub.asked if "/resolve/" in path)


def test_second_copies_of_the_weights_are_not_fetched(hub: Hub) -> None:
    hub.files |= {"original/params.json": b"{}", "consolidated.safetensors": b"x", "onnx/m.json": b"{}", "m.gguf": b"x"}
    fetched = fetch("owner/tiny").folder
    assert {path.name for path in fetched.rglob("*")}.isdisjoint({"params.json", "consolidated.safetensors", "m.gguf"})


@pytest.mark.parametrize(
    ("refusal", "problem"),
    [
        ((401, "RepoNotFound"), "no such repository"),
        ((404, "RepoNotFound"), "no such repository"),
        ((403, "GatedRepo"), "gated"),
        ((404, "RevisionNotFound"), "no revision 'v9'"),
    ],
)
def test_a_refusal_is_the_users_to_mend(hub: Hub, refusal: tuple[int, str], problem: str) -> None:
    hub.refusal = refusal
    with pytest.raises(InputError, match=problem):
        fetch("owner/tiny", "v9")


def test_a_hub_that_is_down_is_the_environments_fault(hub: Hub) -> None:
    hub.refusal = (418, "")
    with pytest.raises(EnvironmentProblem, match="owner/tiny"):
        fetch("owner/tiny")


def test_a_download_that_breaks_off_goes_on_later(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.cut_off = "model.safetensors"
    with pytest.raises(EnvironmentProblem, match="run the command again"):
        fetch("owner/tiny")
    hub.cut_off = ""
    assert load_model("owner/tiny").identity.revision == COMMIT


def test_offline_a_cached_model_works_and_another_says_so(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    fetch("owner/tiny")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    assert load_model("owner/tiny").identity.revision == COMMIT
    with pytest.raises(EnvironmentProblem, match="offline mode"):
        fetch("owner/other")
    assert len(hub.asked) == asked


def test_a_full_disk_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    import huggingface_hub

    def full(*_: object, **__: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", full)
    with pytest.raises(EnvironmentProblem, match="disk is full"):
        fetch("owner/tiny")


def test_a_name_that_is_none(hub: Hub) -> None:
    with pytest.raises(InputError, match="neither a folder nor a Hub name"):
        fetch("not a name!")


def test_the_embedded_model_is_a_folder_of_the_package() -> None:
    assert fetch("pocket").folder.name == "pocket"


def test_a_snapshot_without_tokenizer(hub: Hub) -> None:
    for name in [n for n in hub.files if n.startswith(("tokenizer", "special", "chat_template"))]:
        del hub.files[name]
    with pytest.raises(InputError, match="--tokenizer"):
        load_tokenizer("owner/tiny")
    shutil.rmtree(fetch("owner/tiny").folder)
