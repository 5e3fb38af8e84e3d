"""The host's side: starts confined parents, hands programs to them, and turns their answers into results."""

import atexit
import contextlib
import json
import os
import select
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tokensieve.errors import EnvironmentProblem
from tokensieve.sandbox import scratch
from tokensieve.sandbox.protocol import Answer, Config, SandboxRequest

ISOLATIONS = ("namespaces", "landlock", "none")
"""Kinds of walls, best first; the last is used only where the user allows a weak sandbox."""

_START_S = 60.0

# The package's __init__ files are not run in the sandbox: they would load what no program needs.
_BOOTSTRAP = """
import sys, types
for name, path in {packages!r}.items():
    package = types.ModuleType(name)
    package.__path__ = [path]
    sys.modules[name] = package
from tokensieve.sandbox import zygote
zygote.main({config!r})
"""


class Broken(Exception):
    """A confined parent did not start, died or fell silent; says why."""


@dataclass(slots=True)
class _Parent:
    """A running confined parent; serves one program at a time."""

    process: subprocess.Popen[bytes]
    requests: int
    answers: int
    folder: str
    missing: tuple[str, ...] = ()
    isolation: str = ""
    buffer: bytearray = field(default_factory=bytearray)

    @classmethod
    def start(cls, isolation: str, readable: Sequence[str], preload: Sequence[str]) -> "_Parent":
        """Start one and wait until it is confined.

        Raises:
            Broken: it could not confine itself in this way.
        """
        folder = tempfile.mkdtemp(prefix="tokensieve-")
        requests_r, requests_w = os.pipe()
        answers_r, answers_w = os.pipe()
        paths = visible(readable)
        site = sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})
        config: Config = {
            "isolation": isolation,
            "visible": paths,
            "folder": folder,
            "requests": requests_r,
            "answers": answers_w,
            "site": site,
            "preload": list(preload),
        }
        here = Path(__file__).parent
        packages = {
            "tokensieve": str(here.parent),
            "tokensieve.sandbox": str(here),
        }
        code = _BOOTSTRAP.format(packages=packages, config=json.dumps(config))
        # One hash seed for all: a program that depends on the order of a set gets the same verdict every time.
        environment = {"PYTHONHASHSEED": "0", "OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and code
            [sys.executable, "-S", "-s", "-P", "-B", "-c", code],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd="/",
            pass_fds=(requests_r, answers_w),
            start_new_session=True,
        )
        os.close(requests_r)
        os.close(answers_w)
        parent = cls(process, requests_w, answers_r, folder, isolation=isolation)
        try:
            hello: dict[str, list[str]] = json.loads(parent._receive(_START_S))
        except Broken:
            parent.stop()
            raise
        if "refused" in hello:
            parent.stop()
            raise Broken(*hello["refused"])
        parent.missing = tuple(hello["missing"])
        return parent

    def ask(self, request: SandboxRequest, timeout_s: float) -> Answer:
        """Have one program run.

        Raises:
            Broken: no answer within the time, or the parent is gone.
        """
        data = json.dumps(request).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self.requests, data) :]
        except BrokenPipeError:
            raise Broken("the sandbox's parent process is gone") from None
        answer: Answer = json.loads(self._receive(timeout_s))
        return answer

    def stop(self) -> None:
        """End it and all its programs, and remove its folder."""
        os.close(self.requests)
        os.close(self.answers)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(0.5)
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(OSError):
            scratch.empty(self.folder)
            Path(self.folder).rmdir()

    def _receive(self, timeout_s: float) -> bytes:
        deadline = time.monotonic() + timeout_s
        while (end := self.buffer.find(b"\n")) < 0:
            left = deadline - time.monotonic()
            # poll, not select: a large host has descriptors above select's limit.
            poll = select.poll()
            poll.register(self.answers, select.POLLIN)
            if left <= 0 or not poll.poll(left * 1000):
                raise Broken(f"the sandbox's parent process did not answer within {timeout_s:.0f} s")
            chunk = os.read(self.answers, 1 << 20)
            if not chunk:
                raise Broken("the sandbox's parent process ended without an answer")
            self.buffer += chunk
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        return line


@dataclass(slots=True)
class Pool:
    """Confined parents by what they can see; at most one a core and kind is at work, idle ones are kept."""

    isolation: str | None = None
    why_not: list[str] = field(default_factory=list)
    weak_allowed: bool = False
    idle: list[tuple[tuple[tuple[str, ...], tuple[str, ...]], _Parent]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    places: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(cores()))

    @contextlib.contextmanager
    def parent(self, readable: tuple[str, ...], preload: tuple[str, ...]) -> Iterator[_Parent]:
        """A parent for one program; one that breaks is thrown away."""
        key = (readable, preload)
        with self.places:
            parent = self._take(key) or self._start(readable, preload)
            try:
                yield parent
            except BaseException:
                parent.process.kill()
                parent.stop()
                raise
            self._give_back(key, parent)

    def _take(self, key: tuple[tuple[str, ...], tuple[str, ...]]) -> _Parent | None:
        with self.lock:
            for place, (its_key, parent) in enumerate(self.idle):
                if its_key == key:
                    del self.idle[place]
                    return parent
        return None

    def _give_back(self, key: tuple[tuple[str, ...], tuple[str, ...]], parent: _Parent) -> None:
        with self.lock:
            self.idle.append((key, parent))
            surplus = self.idle[: max(0, len(self.idle) - 4 * cores())]
            del self.idle[: len(surplus)]
        for _, old in surplus:
            old.stop()

    def _start(self, readable: tuple[str, ...], preload: tuple[str, ...]) -> _Parent:
        known = self.isolation
        for isolation in ISOLATIONS if known is None else (known,):
            try:
                parent = _Parent.start(isolation, readable, preload)
            except Broken as error:
                if known is not None:
                    raise EnvironmentProblem(f"the sandbox did not start: {error}") from error
                self.why_not.append(f"{isolation}: {error}")
                continue
            if parent.missing and not self.weak_allowed:
                missing = "; ".join(parent.missing)
                parent.stop()
                raise EnvironmentProblem(
                    f"this machine cannot keep what the sandbox promises: {missing} ({'; '.join(self.why_not)})",
                    fix="run on Linux 6.2 or newer, allow user namespaces, or accept it with --allow-weak-sandbox",
                )
            self.isolation = isolation
            return parent
        raise EnvironmentProblem(f"the sandbox cannot run here: {'; '.join(self.why_not)}")

    def close(self) -> None:
        """Stop every idle parent process."""
        with self.lock:
            idle, self.idle = self.idle, []
        for _, parent in idle:
            parent.stop()


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_pool = Pool()


def pool() -> Pool:
    """This process's pool."""
    return _pool


def use(pool: Pool) -> None:
    """Take another pool from now on, as tests do that ask for certain walls."""
    global _pool
    _pool = pool


def _forget_parents() -> None:
    """After a fork of the host the child must not talk over its parent's pipes; it gets a pool of its own."""
    global _pool
    _pool = Pool(isolation=_pool.isolation, weak_allowed=_pool.weak_allowed)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents)


@atexit.register
def close() -> None:
    """End the sandbox's processes; the next program starts new ones. Done by itself when the interpreter ends."""
    _pool.close()


def visible(readable: Sequence[str]) -> list[str]:
    """Existing paths that the interpreter needs, and the caller's, none inside another."""
    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    paths += [f"{sys.base_prefix}/lib", "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/share/zoneinfo"]
    paths += ["/etc/ld.so.cache", "/etc/localtime", *readable]
    kept: list[str] = []
    for path in sorted(dict.fromkeys(str(Path(path).absolute()) for path in paths)):
        if Path(path).exists() and not any(path.startswith(f"{outer}/") for outer in kept):
            kept.append(path)
    return kept
