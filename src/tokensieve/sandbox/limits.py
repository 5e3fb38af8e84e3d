"""Resource limits of a sandboxed program, and its result."""

from dataclasses import dataclass
from enum import StrEnum

SqlValue = None | int | float | str | bytes


@dataclass(frozen=True, slots=True)
class Limits:
    """Resource limits of one program.

    Attributes:
        wall_s: seconds from start to end. A program that is still computing then, on a machine too busy to let it,
            gets up to ``PATIENCE`` times as long: its processor time decides, not the machine's other work.
        cpu_s: seconds of processor time, rounded up to whole ones; the limit that stops an endless loop.
        memory_mb: address space in MiB beyond what the bare interpreter takes; each process for itself.
        output_kb: KiB on standard output and error together; for a query, of its result.
        file_mb: MiB of the scratch folder, and of any one file in it.
        processes: processes and threads at one time, itself included. 1 refuses every further process and
            allows eight threads.
        rows: rows that a query may return.
    """

    wall_s: float = 10.0
    cpu_s: float = 3.0
    memory_mb: int = 512
    output_kb: int = 256
    file_mb: int = 16
    processes: int = 1
    rows: int = 100_000


PATIENCE = 10
"""Factor on ``wall_s`` for a program that has not idled."""

DEFAULT_LIMITS = Limits()
"""For programs: three seconds, as HumanEval's published evaluation has it."""

SQL_LIMITS = Limits(wall_s=60.0, cpu_s=30.0, output_kb=32 * 1024)
"""For queries: 30 seconds, as the published evaluation of BIRD has it."""


class Ending(StrEnum):
    """Kind of a program's end."""

    FINISHED = "finished"
    RAISED = "raised"
    LEFT_EARLY = "left_early"
    WALL_TIME = "wall_time"
    CPU_TIME = "cpu_time"
    MEMORY = "memory"
    OUTPUT = "output"
    SIGNAL = "signal"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Run:
    """A Python program's end.

    Attributes:
        ok: True only where every part ran to its last statement within the limits.
        stdout: what it printed, cut at the limit; bytes that are no UTF-8 are replaced.
        stderr: likewise.
        reason: why it ended, in words.
        ending: the same as a name.
        reached: number of parts that ran to their end.
        wall_s: seconds it took.
    """

    ok: bool
    stdout: str
    stderr: str
    reason: str
    ending: Ending
    reached: int = 0
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class SqlRun:
    """A query's end.

    Attributes:
        ok: True where it ran to its end within the limits.
        columns: names of the result's columns; empty where it failed.
        rows: the result; None where it failed.
        reason: why it ended, in words.
        ending: the same as a name.
    """

    ok: bool
    columns: tuple[str, ...]
    rows: tuple[tuple[SqlValue, ...], ...] | None
    reason: str
    ending: Ending
