"""Pushing an export, against a local server that speaks the Hub's protocol as far as an upload needs it."""

import json
import os
import subprocess
import sys
import threading
from base64 import b64decode
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tests.export_rows import selected_rows

_PUSH = """
import sys
from pathlib import Path
from tokensieve.data.export.hub import push_to_hub
from tokensieve.errors import TokensieveError
try:
    print(push_to_hub(Path(sys.argv[1]), sys.argv[2], token="hf_test"))
except TokensieveError as error:
    print(error)
    sys.exit(error.exit_code)
"""


class Hub(ThreadingHTTPServer):
    """Keeps what is uploaded; refuses everything where ``closed`` is set."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.created: list[dict[str, object]] = []
        self.files: dict[str, bytes] = {}
        self.closed = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.server.closed:
            self._answer(403, {"error": "Forbidden: you don't have the rights to create this repository"})
        elif self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            self._answer(200, {"url": f"{self.server.address}/datasets/me/set", "name": "me/set"})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self._answer(200, {"files": files})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.server.files[entry["value"]["path"]] = b64decode(entry["value"]["content"])
            url = f"{self.server.address}/datasets/me/set/commit/{'0' * 40}"
            self._answer(200, {"success": True, "commitOid": "0" * 40, "commitUrl": url, "hookOutput": ""})
        else:
            self._answer(200, {"warnings": [], "errors": []})

    def do_GET(self) -> None:
        self._answer(404, {"error": "not found"})

    def _answer(self, status: int, content: object) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        return


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def _push(hub: Hub, folder: Path, repo: str = "me/set") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return subprocess.run(
        [sys.executable, "-c", _PUSH, str(folder), repo],
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_whole_folder_arrives_with_a_card_that_says_what_was_left_out(hub: Hub, tmp_path: Path) -> None:
    folder = selected_rows(5).export(tmp_path / "out")
    done = _push(hub, folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("/commit/" + "0" * 40)
    here = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert hub.files == here
    assert hub.created[0].get("visibility", "private") == "private"
    card = hub.files["README.md"].decode()
    for words in ("| model to train | tiny |", "| scores by | base |", "| policy | stm:2.5 |", "| left out | "):
        assert words in card
    assert card.startswith("---\nconfigs:\n- config_name: default\n  data_files: data/train.parquet\n")


def test_a_refusal_is_told_with_what_mends_it(hub: Hub, tmp_path: Path) -> None:
    hub.closed = True
    done = _push(hub, selected_rows(2).export(tmp_path / "out"))
    assert done.returncode == 3
    assert "the Hub refuses" in done.stdout
    assert "hf auth login" in done.stdout


def test_a_name_that_is_none_is_the_users_mistake(hub: Hub, tmp_path: Path) -> None:
    done = _push(hub, selected_rows(2).export(tmp_path / "out"), repo="no such/name/here")
    assert done.returncode == 2
