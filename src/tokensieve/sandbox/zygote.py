"""The sandbox's parent process: warm, confined, single-threaded; forks one process for each program.

Started by the host as ``python -S -s -P -c …`` with an empty environment. Reads requests from one pipe and answers
on another, both of which no program ever sees. Ends when the host does.
"""

import contextlib
import gc
import importlib
import json
import os
import random
import resource
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tokensieve.sandbox import child, confine, query, scratch, seccomp
from tokensieve.sandbox.limits import PATIENCE, Ending, Limits
from tokensieve.sandbox.protocol import Answer, Config, SandboxRequest

_CPU_CLOCK = 2
"""With a pid, the kernel's name for the clock of that process's processor time."""

_STIR_S = 0.02
"""Processor time in the last stretch of wall time from which on a program counts as still computing, not asleep."""

_WARM = (
    "array", "bisect", "cmath", "collections", "copy", "dataclasses", "datetime", "decimal", "enum", "fractions",
    "functools", "heapq", "itertools", "json", "math", "numbers", "operator", "random", "re", "sqlite3", "statistics",
    "string", "typing", "unittest",
)  # fmt: skip
"""Modules that are loaded before any program asks for them."""


@dataclass(slots=True)
class _Isolation:
    """The isolation that is in force, and its parameters for a run."""

    pid_namespace: int | None = None
    scratch: str = confine.SCRATCH
    scratch_mb: int | None = None
    files: bool = False
    seccomp: bool = False
    base_processes: int | None = None
    missing: list[str] = field(default_factory=list)


def main(arguments: str) -> None:
    """Confine this process, say how well that went, and serve programs until the host is gone."""
    config: Config = json.loads(arguments)
    requests = os.fdopen(config["requests"], "rb")
    answers = os.fdopen(config["answers"], "wb")
    os.environ.clear()
    _warm_up(config)
    # What is there now stays: no fork shall walk or copy it.
    gc.collect()
    gc.freeze()
    base_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    with contextlib.suppress(OSError):
        # Where the machine runs out of memory, rather this than the host.
        Path("/proc/self/oom_score_adj").write_text("500")
    try:
        isolation = _confine_self(config)
    except confine.Refused as error:
        _send(answers, {"refused": [str(error)]})
        return
    _send(answers, {"missing": isolation.missing})
    for line in requests:
        _send(answers, _serve(json.loads(line), isolation, base_bytes, requests))


def _warm_up(config: Config) -> None:
    sys.path += config["site"]
    # Packages that would keep a way to call C functions do without it, as they do where it is not built.
    hidden = {name: sys.modules.pop(name) for name in [*sys.modules] if name.partition(".")[0] == "ctypes"}
    sys.modules["ctypes"] = None  # type: ignore[assignment] # how Python marks a module as not to be had
    for name in (*_WARM, *config["preload"]):
        # What is not installed is simply not there for programs either.
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    sys.modules.update(hidden)


def _confine_self(config: Config) -> _Isolation:
    kind, visible, folder = config["isolation"], config["visible"], config["folder"]
    isolation = _Isolation(scratch=folder, seccomp=seccomp.supported())
    if kind == "namespaces":
        root = os.geteuid() == 0
        isolation.pid_namespace = confine.enter_namespaces()
        confine.build_root(folder, visible)
        # As a normal user this process and the one that waits for it count as the program's user, too.
        isolation.files, isolation.scratch, isolation.base_processes = True, confine.SCRATCH, 0 if root else 2
        if isolation.seccomp:
            # Every program is process 1 of its namespace: build its filter here, once.
            for may_fork in (False, True):
                seccomp.program(own_pid=1, may_fork=may_fork, own_namespaces=True)
    else:
        _become_nobody_where_possible(folder, visible, by_landlock=kind == "landlock")
        if kind == "landlock":
            confine.restrict_files(visible, folder)
            isolation.files = True
        confine.drop_capabilities()
    if not isolation.seccomp:
        isolation.missing.append("system calls are not filtered: other processes can be signalled, sockets opened")
    if not isolation.files:
        isolation.missing.append("the user's files can be read (no mount namespace, no Landlock)")
    return isolation


def _become_nobody_where_possible(folder: str, visible: Sequence[str], *, by_landlock: bool) -> None:
    """Without namespaces, root turns into nobody at once; or stays, without capabilities, behind Landlock.

    Root's own interpreter may lie where nobody can go. Landlock and the filter bind root as well: they, not the
    uid, keep it from files, and from starting processes, which no limit could.
    """
    if confine.anyone_can_reach(visible):
        if os.geteuid() == 0:
            os.chown(folder, confine.NOBODY, confine.NOBODY)
        confine.become_nobody()
    elif os.geteuid() == 0 and not (by_landlock and seccomp.supported()):
        raise confine.Refused("the interpreter lies in a folder that only root can enter, so programs would be root")


def _serve(request: SandboxRequest, isolation: _Isolation, base_bytes: int, requests: BinaryIO) -> Answer:
    """Run one program in a fork of this process and say how it ended."""
    limits = Limits(**request["limits"])
    _prepare_scratch(isolation, limits)
    pipes = [os.pipe() for _ in range(4)]
    started = time.monotonic()
    if isolation.pid_namespace is not None:
        confine.next_fork_gets_own_pids(isolation.pid_namespace)
    pid = os.fork()
    if pid == 0:
        try:
            _become_program(request, limits, isolation, base_bytes, pipes)
        finally:
            os._exit(70)
    (out, out_w), (err, err_w), (result, result_w), (nonce_r, nonce_w) = pipes
    for fd in (out_w, err_w, result_w, nonce_r):
        os.close(fd)
    nonce = os.urandom(child.NONCE_BYTES)
    with contextlib.suppress(BrokenPipeError):
        os.write(nonce_w, nonce)
    os.close(nonce_w)
    output_cap = limits.output_kb * 1024
    caps = {out: output_cap, err: output_cap, result: output_cap + 4096}
    watch = _Watch(pid, caps, limits.wall_s, requests.fileno())
    stopped = watch.until_end()
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    watch.drain()
    report = bytes(watch.collected[result])
    proved = report.startswith(nonce)
    return {
        "proved": proved and status == 0 and not stopped,
        "report": (report.removeprefix(nonce) if proved else report).decode("utf-8", "replace"),
        "stopped": stopped,
        "status": os.waitstatus_to_exitcode(status),
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "wall_s": time.monotonic() - started,
        "stdout": watch.collected[out][:output_cap].decode("utf-8", "replace"),
        "stderr": watch.collected[err][:output_cap].decode("utf-8", "replace"),
    }


def _become_program(
    request: SandboxRequest, limits: Limits, isolation: _Isolation, base_bytes: int, pipes: list[tuple[int, int]]
) -> None:
    """In the fork: apply the last restrictions, then run the program; never returns."""
    os.setsid()
    (_, out), (_, err), (_, result), (nonce, _) = pipes
    child.arrange_descriptors(out, err, result, nonce)
    # As whoever we still are: the file may be readable to its owner alone.
    path = request.get("database")
    source = query.open_database(path) if path else request.get("script") or ""
    own_namespaces = isolation.pid_namespace is not None
    if own_namespaces:
        confine.become_nobody()
    confine.drop_capabilities()
    confine.die_with_parent()
    child.limit_resources(limits, base_bytes=base_bytes, base_processes=isolation.base_processes)
    if isolation.seccomp:
        may_fork = limits.processes > 1 and own_namespaces
        rules = seccomp.program(own_pid=os.getpid(), may_fork=may_fork, own_namespaces=own_namespaces)
        seccomp.install(rules)
    confine.forget_c_library()
    random.seed(0)
    if "query" in request:
        query.run_query(request["query"], source, limits)
    child.guard_checker()
    child.run_python(
        request.get("parts", []), request.get("checks_from"), own_equality=request.get("own_equality", True)
    )


def _prepare_scratch(isolation: _Isolation, limits: Limits) -> None:
    if isolation.pid_namespace is not None:
        # Taking a file system down waits on the whole machine: one that was left as it was found serves again.
        if isolation.scratch_mb != limits.file_mb or not scratch.untouched(isolation.scratch):
            confine.fresh_scratch(limits.file_mb, replace=isolation.scratch_mb is not None)
            isolation.scratch_mb = limits.file_mb
        return
    os.chdir(isolation.scratch)
    scratch.empty(isolation.scratch)


def _send(answers: BinaryIO, message: Mapping[str, object]) -> None:
    try:
        answers.write(json.dumps(message).encode() + b"\n")
        answers.flush()
    except BrokenPipeError:
        os._exit(0)


class _Watch:
    """Reads a program's pipes until it ends or breaks a limit."""

    def __init__(self, pid: int, caps: dict[int, int], wall_s: float, host: int) -> None:
        self.clock = ~pid << 3 | _CPU_CLOCK
        self.caps = caps
        self.collected = {fd: bytearray() for fd in caps}
        self.wall_s = wall_s
        self.host = host
        self.ended = os.pidfd_open(pid)
        self.poll = select.poll()
        for fd in (*caps, self.ended):
            self.poll.register(fd, select.POLLIN)
        self.poll.register(host, select.POLLHUP)

    def until_end(self) -> str:
        """Wait; return the limit that was broken as an ``Ending``'s value, or the empty string."""
        deadline, last = time.monotonic() + self.wall_s, time.monotonic() + PATIENCE * self.wall_s
        computed = 0.0
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                # A machine too busy to let it compute must not decide the verdict; its processor time will.
                before, computed = computed, self._computed()
                if computed - before < _STIR_S or time.monotonic() >= last:
                    return Ending.WALL_TIME
                deadline += self.wall_s
                continue
            for fd, event in self.poll.poll(left * 1000 + 1):
                if fd == self.ended:
                    return ""
                if fd == self.host:
                    os._exit(0)
                if not self._read(fd) or event & select.POLLERR:
                    self.poll.unregister(fd)
                if self._too_much():
                    return Ending.OUTPUT

    def _computed(self) -> float:
        """Seconds of processor time that the program has taken so far."""
        with contextlib.suppress(OSError):
            return time.clock_gettime(self.clock)
        return 0.0

    def drain(self) -> None:
        """Read what is left in the pipes once the process is dead, and close everything."""
        for fd in self.collected:
            os.set_blocking(fd, False)
            with contextlib.suppress(BlockingIOError):
                while len(self.collected[fd]) < self.caps[fd] and self._read(fd):
                    pass
            os.close(fd)
        os.close(self.ended)

    def _read(self, fd: int) -> bool:
        chunk = os.read(fd, 65536)
        self.collected[fd] += chunk
        return bool(chunk)

    def _too_much(self) -> bool:
        return any(len(data) > self.caps[fd] for fd, data in self.collected.items())
