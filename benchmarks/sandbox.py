"""MBPP checks a second: the sandbox against a fresh interpreter for each program, side by side.

    python benchmarks/sandbox.py [--data FOLDER] [--programs N] [--workers N]

All 974 programs by default. One of them (mbpp/123) computes for two seconds by itself: of a few hundred, it alone would
set the time.
"""

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from machine import describe_run

from tokensieve.sandbox import close, describe
from tokensieve.tasks import TASKS
from tokensieve.tasks.judging import judge
from tokensieve.types import Problem

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "mbpp"


def in_sandbox(problems: list[Problem], workers: int) -> int:
    pairs = ((problem, problem.gold) for problem in problems)
    return sum(verdict.correct for verdict in judge(TASKS["mbpp"], pairs, workers=workers))


def in_fresh_interpreters(problems: list[Problem], workers: int) -> int:
    """No wall at all: what the checks cost where each starts an interpreter."""

    def passes(problem: Problem) -> bool:
        tests = problem.facts["tests"]
        parts = [problem.gold, str(problem.facts["setup"]), *(tests if isinstance(tests, list) else [])]
        program = "\n".join(str(part) for part in parts)
        return subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, check=False).returncode == 0

    with ThreadPoolExecutor(workers) as pool:
        return sum(pool.map(passes, problems))


def processor_s() -> float:
    """Processor time of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def timed(way: Callable[[list[Problem], int], int], problems: list[Problem], workers: int) -> tuple[float, float, int]:
    """Checks a second, processor milliseconds a check (which a busy machine leaves as they are), checks passed."""
    close()
    before, started = processor_s(), time.perf_counter()
    passed = way(problems, workers)
    rate = len(problems) / (time.perf_counter() - started)
    close()
    return rate, (processor_s() - before) / len(problems) * 1e3, passed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=_SHARED)
    parser.add_argument("--programs", type=int, default=974)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    mbpp = TASKS["mbpp"]
    everything = (problem for split in mbpp.splits for problem in mbpp.load(split, arguments.data))
    problems = list(islice(everything, arguments.programs))
    print(describe_run())
    print(f"{len(problems)} gold programs of MBPP with their tests, {arguments.workers} workers; {describe()}")
    for name, way in (("sandbox", in_sandbox), ("fresh interpreter, no walls", in_fresh_interpreters)):
        rate, cost_ms, passed = timed(way, problems, arguments.workers)
        print(f"{name:28} {rate:7.1f} checks/s  {cost_ms:6.1f} ms of processor time each  {passed} passed")


if __name__ == "__main__":
    main()
