"""math-verify behind a hard time limit: a small pool of worker processes, killed and replaced when they hang.

The limit is processor time, so that a busy machine decides no verdict. Pools such as ``pebble`` limit the clock only,
and math-verify's own limits are signals, which reach the main thread alone. This file is also the worker's program, so
it imports nothing but the standard library.
"""

import atexit
import contextlib
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

_LIMIT_S = 10.0
_START_S = 120.0
_PATIENCE = 10
_LOOK_S = 0.05
_CPU_CLOCK = 2
"""With a pid, Linux's name for the clock of that process's processor time."""

_MEMORY_BYTES = 2 << 30
"""Address space of a worker on Linux."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Finding of math-verify on one pair.

    Attributes:
        equal: whether the answer has the gold's value.
        extracted: what it took for the answer; None where it found nothing.
        problem: why there is no finding; empty where there is one.
    """

    equal: bool
    extracted: str | None
    problem: str = ""


def equivalent(gold: str, answer: str, *, limit_s: float = _LIMIT_S) -> Judged:
    """Compare an answer's final formula with the gold formula by value. Thread-safe.

    Args:
        gold: the formula alone, in LaTeX.
        answer: a text that holds the answer.
        limit_s: seconds of processor time for the pair; ten times as many on the clock.
    """
    with _pool.worker() as worker:
        line = worker.ask(json.dumps([gold, answer]), limit_s)
        if line is None:
            return Judged(False, None, f"math-verify did not answer within {limit_s:g} s, or failed")
        found = json.loads(line)
    if not found["gold_parsed"]:
        return Judged(False, found["found"], f"math-verify cannot read the gold answer {gold}")
    return Judged(bool(found["equal"]), found["found"])


class _Watch:
    """Kills a worker after so many seconds of its processor time, or ten times as many on the clock.

    A machine too busy to let it compute must not decide the verdict. Where processor time cannot be read, the clock
    alone counts.
    """

    def __init__(self, process: "subprocess.Popen[str]", limit_s: float) -> None:
        self._process = process
        self._limit_s = limit_s
        self._began_s = self._computed_s()
        self._last = time.monotonic() + _PATIENCE * limit_s
        self._done = threading.Event()
        self._timer = threading.Timer(limit_s, self._look)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """The answer is there."""
        self._done.set()
        self._timer.cancel()

    def _look(self) -> None:
        while not self._done.is_set():
            left = self._limit_s - (self._computed_s() - self._began_s)
            if left <= 0 or math.isnan(left) or time.monotonic() >= self._last:
                self._process.kill()
                return
            self._done.wait(max(_LOOK_S, left))

    def _computed_s(self) -> float:
        """Seconds of processor time that the worker has taken; NaN where the system does not tell."""
        if sys.platform != "linux":
            return math.nan
        try:
            return time.clock_gettime(~self._process.pid << 3 | _CPU_CLOCK)
        except OSError:
            return math.nan


@dataclass(slots=True)
class _Worker:
    process: "subprocess.Popen[str]"
    warm: bool = False
    broken: bool = False

    @classmethod
    def start(cls) -> "_Worker":
        return cls(
            subprocess.Popen(  # noqa: S603 - our own interpreter and file
                # -P: the folder of the file holds a module called math, which must not hide Python's own.
                [sys.executable, "-P", __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="utf-8",
            )
        )

    def ask(self, line: str, limit_s: float) -> str | None:
        """One question, one answer; None where it had to be killed or fell over."""
        stdin, stdout = self.process.stdin, self.process.stdout
        if stdin is None or stdout is None:
            return None
        # Whatever cuts this short leaves a worker whose next line would answer the wrong question.
        self.broken = True
        # The first answer waits for the import of a large library.
        watch = _Watch(self.process, limit_s if self.warm else limit_s + _START_S)
        try:
            stdin.write(line + "\n")
            stdin.flush()
            answer = stdout.readline()
        except OSError:
            answer = ""
        finally:
            watch.cancel()
        self.warm, self.broken = True, not answer.endswith("\n")
        return None if self.broken else answer

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()


@dataclass(slots=True)
class _Pool:
    idle: list[_Worker] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    places: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(os.cpu_count() or 1))

    @contextlib.contextmanager
    def worker(self) -> Iterator[_Worker]:
        with self.places:
            with self.lock:
                worker = self.idle.pop() if self.idle else None
            worker = worker or _Worker.start()
            try:
                yield worker
            finally:
                if worker.broken:
                    worker.stop()
                else:
                    with self.lock:
                        self.idle.append(worker)

    def close(self) -> None:
        with self.lock:
            idle, self.idle = self.idle, []
        for worker in idle:
            worker.stop()


_pool = _Pool()


def _forget_workers() -> None:
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_workers)


@atexit.register
def close() -> None:
    """End the worker processes; the next question starts new ones. Done by itself when the interpreter ends."""
    _pool.close()


def serve() -> None:
    """Run the worker: read pairs of gold and answer as JSON lines, write what math-verify finds."""
    _limit_resources()
    import math_verify

    formulas = (math_verify.LatexExtractionConfig(boxed_match_priority=0), math_verify.ExprExtractionConfig())

    @lru_cache(maxsize=1024)
    def parsed_gold(text: str) -> list[object]:
        return list(math_verify.parse(f"\\boxed{{{text}}}", formulas, parsing_timeout=None))

    for line in sys.stdin:
        gold_text, answer_text = json.loads(line)
        # Its own time limits are signals in the main thread; the host's clock is the hard one.
        gold = parsed_gold(gold_text)
        answer = math_verify.parse(answer_text, formulas, parsing_timeout=None)
        equal = bool(gold) and bool(answer) and math_verify.verify(gold, answer, timeout_seconds=None)
        found = str(answer[-1]) if answer else None
        sys.stdout.write(json.dumps({"equal": equal, "found": found, "gold_parsed": bool(gold)}) + "\n")
        sys.stdout.flush()


def _limit_resources() -> None:
    if sys.platform == "win32":
        return
    import resource

    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    # More digits than this is no answer to a school problem, and arithmetic on them is how to hang a worker.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    serve()
