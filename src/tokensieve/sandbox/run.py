"""Entry points of the sandbox: run a Python program or a SQL query and return its result."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tokensieve.errors import EnvironmentProblem
from tokensieve.sandbox.limits import (
    DEFAULT_LIMITS,
    PATIENCE,
    SQL_LIMITS,
    Ending,
    Limits,
    Run,
    SqlRun,
    SqlValue,
)
from tokensieve.sandbox.pool import Broken, pool
from tokensieve.sandbox.protocol import Answer, SandboxRequest, limit_fields

_GRACE_S = 20.0
_TOLD = 500
"""Characters that are kept of each thing that a program says of its failure."""

_HEAVY_PACKAGES = ("numpy",)
"""Loaded beforehand for programs that name them: importing takes longer than most programs run."""


def allow_weak_sandbox(allowed: bool = True) -> None:
    """Say whether programs may run where a wall is missing; by default they may not (``--allow-weak-sandbox``)."""
    pool().weak_allowed = allowed


def describe() -> str:
    """One sentence on the isolation that this machine grants, for ``tokensieve doctor``.

    Raises:
        EnvironmentProblem: the sandbox cannot run here; says why.
    """
    _require_linux()
    with pool().parent((), ()) as parent:
        lacking = f"; missing: {'; '.join(parent.missing)}" if parent.missing else ""
        return f"sandbox by {parent.isolation}{lacking}"


def run_python(program: str, limits: Limits = DEFAULT_LIMITS) -> Run:
    """Run one Python program in the sandbox. Thread-safe.

    It is a module named ``program`` in a process of its own: standard input is empty, the standard library and the
    installed packages can be imported, the current folder is an empty scratch folder.

    Raises:
        EnvironmentProblem: this machine cannot confine it (says why), or the sandbox broke twice.
    """
    return run_parts((program,), limits)


def run_parts(
    parts: Sequence[str],
    limits: Limits = DEFAULT_LIMITS,
    *,
    checks_from: int | None = None,
    own_equality: bool = True,
) -> Run:
    """Run several pieces of Python one after the other in one module, each compiled by itself.

    Code that ends in an open string or a line continuation can thus not swallow the tests that follow it, and
    ``Run.reached`` says how many pieces ran to their end.

    Args:
        parts: the pieces.
        limits: limits of the whole program.
        checks_from: number of the first piece that is the checker's own, before which Python's built-in functions are
            put back as they were; None where all are the program's.
        own_equality: whether an object of the program's may decide that it equals what the checker compares it with.

    Raises:
        EnvironmentProblem: as ``run_python``.
    """
    preload = tuple(name for name in _HEAVY_PACKAGES if any(name in part for part in parts))
    request: SandboxRequest = {
        "parts": list(parts),
        "checks_from": checks_from,
        "own_equality": own_equality,
        "limits": limit_fields(limits),
    }
    answer = _ask((), preload, request, limits)
    stdout, stderr, wall_s = answer["stdout"], answer["stderr"], answer["wall_s"]
    if answer["proved"]:
        return Run(True, stdout, stderr, "ran to its end", Ending.FINISHED, len(parts), wall_s)
    stopped = _stopped(answer, limits)
    if stopped is not None:
        return Run(False, stdout, stderr, stopped[1], stopped[0], 0, wall_s)
    ending, reason, reached = _raised(answer["report"], answer["status"], len(parts))
    return Run(False, stdout, stderr, reason, ending, reached, wall_s)


def run_sql(
    query: str, *, database: Path | None = None, script: str | None = None, limits: Limits = SQL_LIMITS
) -> SqlRun:
    """Run one SQL query on SQLite in the sandbox. Thread-safe.

    Args:
        query: one statement that reads.
        database: a database file, opened read-only and immutable.
        script: statements that build a small database in memory instead.
        limits: its limits.

    Raises:
        EnvironmentProblem: as ``run_python``, or the database file is not there.
    """
    if database is not None and not database.is_file():
        raise EnvironmentProblem("no such database file", where=str(database))
    path = None if database is None else str(database.resolve())
    request: SandboxRequest = {"query": query, "database": path, "script": script, "limits": limit_fields(limits)}
    answer = _ask((path,) if path else (), (), request, limits)
    stopped = _stopped(answer, limits)
    if stopped is not None:
        return SqlRun(False, (), None, stopped[1], stopped[0])
    if not answer["proved"]:
        return SqlRun(False, (), None, f"ended with status {answer['status']}", Ending.SIGNAL)
    result = json.loads(answer["report"])
    kind, text = result["kind"], str(result.get("text", ""))
    if kind != "rows_follow":
        endings = {
            "time": (Ending.CPU_TIME, f"stopped after {limits.cpu_s:g} s of processor time"),
            "memory": (Ending.MEMORY, f"needed more than {limits.memory_mb} MiB"),
            "rows": (Ending.OUTPUT, text),
            "refused": (Ending.REFUSED, text),
        }
        ending, reason = endings.get(kind, (Ending.RAISED, text))
        return SqlRun(False, (), None, reason, ending)
    rows = tuple(tuple(_sql_value(value) for value in row) for row in result["rows"])
    return SqlRun(True, tuple(result["columns"]), rows, "ran to its end", Ending.FINISHED)


def _ask(readable: tuple[str, ...], preload: tuple[str, ...], request: SandboxRequest, limits: Limits) -> Answer:
    _require_linux()
    problem = ""
    for _ in range(2):
        try:
            with pool().parent(readable, preload) as parent:
                return parent.ask(request, PATIENCE * limits.wall_s + _GRACE_S)
        except Broken as error:
            problem = str(error)
    raise EnvironmentProblem(f"the sandbox broke twice on one program: {problem}")


def _require_linux() -> None:
    if sys.platform != "linux":
        raise EnvironmentProblem(
            f"generated code and SQL run only on Linux, where they can be confined; this is {sys.platform}",
            fix="run this step in a Linux machine, virtual machine or container",
        )


def _stopped(answer: Answer, limits: Limits) -> tuple[Ending, str] | None:
    """The limit that ended a program from outside, if one did."""
    if answer["stopped"] == Ending.WALL_TIME:
        return Ending.WALL_TIME, f"stopped after {answer['wall_s']:.0f} s"
    if answer["stopped"] == Ending.OUTPUT:
        return Ending.OUTPUT, f"stopped: wrote more than {limits.output_kb} KiB"
    status = answer["status"]
    # The kernel enforces the limit by whole ticks and reports use by its own clock; on a busy machine they differ.
    if status == -9 and answer["cpu_s"] >= limits.cpu_s * 0.5:
        return Ending.CPU_TIME, f"stopped after {limits.cpu_s:g} s of processor time"
    if status < 0:
        return Ending.SIGNAL, f"killed by signal {-status}"
    return None


def _raised(report: str, status: int, parts: int) -> tuple[Ending, str, int]:
    """A program's own report of its failure, parsed; it may hold anything, so nothing of it is trusted."""
    try:
        told, _ = json.JSONDecoder().raw_decode(report.removeprefix("E"))
        kind, text, source = (str(told[name])[:_TOLD] for name in ("kind", "text", "source"))
        line, reached, leaving = int(told["line"]), int(told["reached"]), bool(told["leaving"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return Ending.LEFT_EARLY, f"left before its end, with status {status}", 0
    reached = min(max(reached, 0), max(parts - 1, 0))
    if leaving:
        return Ending.LEFT_EARLY, f"left before its end: {kind} {text}".rstrip(), reached
    place = f" at line {line}: {source}" if source else ""
    ending = Ending.MEMORY if kind == "MemoryError" else Ending.RAISED
    return ending, f"{kind}{f' ({text})' if text else ''}{place}", reached


def _sql_value(value: object) -> SqlValue:
    if isinstance(value, dict):
        return bytes.fromhex(value["hex"]) if "hex" in value else float(value["float"])
    return value if isinstance(value, (int, float, str)) else None
