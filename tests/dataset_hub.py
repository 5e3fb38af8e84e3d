"""A Hub of data sets on this machine, for tests: it speaks the real one's protocol as far as reading and pushing need.

The libraries read the Hub's address once, at their import, so what talks to it runs in a process of its own, which
gets the address as ``HF_ENDPOINT``.
"""

import json
import os
import re
import threading
from base64 import b64decode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"
TOKEN: Final = "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"

_FILE = re.compile(r"/datasets/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_TREE = re.compile(r"/api/datasets/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(/(?P<path>.+))?")
_PATHS = re.compile(r"/api/datasets/(?P<repo>[^/]+/[^/]+)/paths-info/(?P<revision>[^/]+)")
_INFO = re.compile(r"/api/datasets/(?P<repo>[^/]+/[^/]+)(/revision/(?P<revision>[^/]+))?")


@dataclass
class DataHub:
    """What the server holds, how it misbehaves, and what it was asked.

    Attributes:
        address: where it listens.
        repos: files of each data set, by name of the data set and path.
        gated: data sets whose files need an access that nobody has.
        public: data sets that everybody may read, as far as the Hub's answers say; the others are private.
        needs_token: data sets that only ``TOKEN`` may read.
        cut_off: path of the file whose second half does not arrive.
        refuses_writes: answers every write with 403.
        down: answers every question with 418, which no library asks again.
        created: bodies of the requests to make a data set.
        asked: method and address of every question.
        spoken: every byte that came in the bodies of requests.
        tokens: tokens that came in headers.
    """

    address: str = ""
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    public: set[str] = field(default_factory=set)
    needs_token: set[str] = field(default_factory=set)
    cut_off: str = ""
    refuses_writes: bool = False
    down: bool = False
    created: list[dict[str, object]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    spoken: bytearray = field(default_factory=bytearray)
    tokens: set[str] = field(default_factory=set)

    def environment(self, home: Path, **more: str) -> Mapping[str, str]:
        """Variables of a process that talks to this Hub and keeps its caches in ``home``."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING_FACE"))}
        ours = {
            "HF_ENDPOINT": self.address,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
        }
        return {**kept, **ours, **more}


@contextmanager
def serving(hub: DataHub) -> Iterator[DataHub]:
    """Run the server while the context lasts."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(hub: DataHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None: ...  # noqa: A002

        def do_HEAD(self) -> None:
            self._note()
            self._file(body=False)

        def do_GET(self) -> None:
            self._note()
            path = urlsplit(self.path).path
            if found := _TREE.fullmatch(path):
                if self._may_see(found["repo"], found["revision"]):
                    self._json(200, _entries(hub.repos[found["repo"]], unquote(found["path"] or "")))
            elif _FILE.fullmatch(path):
                self._file(body=True)
            elif found := _INFO.fullmatch(path):
                if self._may_see(found["repo"], found["revision"]):
                    siblings = [{"rfilename": name} for name in hub.repos[found["repo"]]]
                    private = found["repo"] not in hub.public
                    info = {"id": found["repo"], "sha": COMMIT, "siblings": siblings, "private": private}
                    self._json(200, info)
            else:
                self._refuse(*((401, "RepoNotFound") if path.startswith("/api/datasets/") else (404, "")))

        def do_POST(self) -> None:
            self._note()
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            hub.spoken += body
            path = urlsplit(self.path).path
            if found := _PATHS.fullmatch(path):
                if self._may_see(found["repo"], found["revision"]):
                    asked = _asked_paths(body)
                    self._json(
                        200, [e for e in _entries(hub.repos[found["repo"]], "", deep=True) if e["path"] in asked]
                    )
            elif hub.refuses_writes:
                self._json(403, {"error": "Forbidden: you don't have the rights to create this repository"})
            elif path == "/api/repos/create":
                self._create(json.loads(body))
            elif "/preupload/" in path:
                names = [file["path"] for file in json.loads(body)["files"]]
                files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
                self._json(200, {"files": files})
            elif "/commit/" in path:
                self._commit(re.sub(r"^/api/datasets/([^/]+/[^/]+)/.*", r"\1", path), body)
            else:
                self._json(200, {"warnings": [], "errors": []})

        def _note(self) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            hub.tokens.add((self.headers.get("Authorization") or "").removeprefix("Bearer "))

        def _may_see(self, repo: str, revision: str | None) -> bool:
            """Whether the data set and its revision are there for this visitor; answers where not."""
            if hub.down:
                self._refuse(418, "")
                return False
            locked = repo in hub.needs_token and self.headers.get("Authorization") != f"Bearer {TOKEN}"
            if repo not in hub.repos or locked:
                self._refuse(401, "RepoNotFound")
                return False
            if revision not in (None, "main", COMMIT):
                self._refuse(404, "RevisionNotFound")
                return False
            return True

        def _file(self, *, body: bool) -> None:
            found = _FILE.fullmatch(urlsplit(self.path).path)
            if found is None:
                self._refuse(404, "")
                return
            if not self._may_see(found["repo"], found["revision"]):
                return
            if found["repo"] in hub.gated:
                self._refuse(403, "GatedRepo")
                return
            content = hub.repos[found["repo"]].get(unquote(found["path"]))
            if content is None:
                self._refuse(404, "EntryNotFound")
                return
            self._content(content, body=body, whole=unquote(found["path"]) != hub.cut_off)

        def _content(self, content: bytes, *, body: bool, whole: bool) -> None:
            status, length, first = 200, len(content), 0
            headers = {"ETag": f'"{hash(content):x}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
            if asked:
                first, last = int(asked[1]), min(int(asked[2] or length), length - 1)
                headers["Content-Range"] = f"bytes {first}-{last}/{length}"
                status, content = 206, content[first : last + 1]
            sent = content if whole else content[: max(0, length // 2 - first)]
            self._send(status, sent if body else b"", {**headers, "Content-Length": str(len(content))})
            self.close_connection |= len(sent) < len(content)

        def _create(self, asked: dict[str, object]) -> None:
            hub.created.append(asked)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            if name in hub.repos:
                self._json(409, {"error": "You already created this dataset repo", "url": f"{hub.address}/{name}"})
                return
            hub.repos[name] = {}
            if asked.get("visibility", "private") == "public" or asked.get("private") is False:
                hub.public.add(name)
            self._json(200, {"url": f"{hub.address}/datasets/{name}", "name": name})

        def _commit(self, repo: str, body: bytes) -> None:
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    hub.repos[repo][entry["value"]["path"]] = b64decode(entry["value"]["content"])
            url = f"{hub.address}/datasets/{repo}/commit/{COMMIT}"
            self._json(200, {"success": True, "commitOid": COMMIT, "commitUrl": url, "hookOutput": ""})

        def _refuse(self, status: int, code: str) -> None:
            self._send(status, b"", {"X-Error-Code": code, "X-Error-Message": code} if code else {})

        def _json(self, status: int, content: object) -> None:
            self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

        def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content)

    return Handler


def _entries(files: Mapping[str, bytes], folder: str, *, deep: bool = False) -> list[dict[str, object]]:
    """What lies in a folder of a repository: its files and folders, or, deep, those of all folders."""
    prefix = f"{folder}/" if folder else ""
    entries: list[dict[str, object]] = []
    folders: set[str] = set()
    for name, content in files.items():
        if not name.startswith(prefix):
            continue
        parents = name.removeprefix(prefix).split("/")[:-1]
        folders |= {prefix + "/".join(parents[:depth]) for depth in range(1, len(parents) + 1)}
        if deep or not parents:
            entries.append({"type": "file", "path": name, "size": len(content), "oid": "0" * 40})
    shown = folders if deep else {name for name in folders if "/" not in name.removeprefix(prefix)}
    entries += [{"type": "directory", "path": name, "oid": "0" * 40} for name in sorted(shown)]
    return entries


def _asked_paths(body: bytes) -> list[str]:
    """Paths in a question about them, which comes as JSON or as a form."""
    try:
        asked = json.loads(body)["paths"]
    except json.JSONDecodeError:
        from urllib.parse import parse_qs

        asked = parse_qs(body.decode())["paths"]
    return [asked] if isinstance(asked, str) else list(asked)
