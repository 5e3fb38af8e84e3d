"""The sandbox: run one hostile Python program or SQL query, learn how it ended, lose nothing.

Each program is a process of its own, forked from a warm interpreter that has confined itself first: its own user,
mount, network, IPC and pid namespaces with an almost empty read-only file system where the kernel grants them,
Landlock and stricter system-call rules where it does not; in both a seccomp filter, no environment, an unprivileged
uid without capabilities, and limits on time, memory, output, files and processes. Its end takes along everything
that it started.

What remains. Tests run in the interpreter of the code that they test. What is easy is closed: leaving early, printing
the right thing, patching built-in functions, objects that compare equal to everything, reaching for what is still to
run. With enough effort, code written to cheat can still forge what its process says; it cannot get out. Programs
see the interpreter's installed packages and may use processor time up to their limit. The kernel is trusted.
"""

from tokensieve.sandbox.limits import DEFAULT_LIMITS, SQL_LIMITS, Ending, Limits, Run, SqlRun, SqlValue
from tokensieve.sandbox.pool import close
from tokensieve.sandbox.run import allow_weak_sandbox, describe, run_parts, run_python, run_sql

__all__ = [
    "DEFAULT_LIMITS",
    "SQL_LIMITS",
    "Ending",
    "Limits",
    "Run",
    "SqlRun",
    "SqlValue",
    "allow_weak_sandbox",
    "close",
    "describe",
    "run_parts",
    "run_python",
    "run_sql",
]
