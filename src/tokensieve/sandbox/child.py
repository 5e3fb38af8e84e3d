"""The forked process of one program: resource limits, the program, and a report that it cannot forge easily.

The report of success is a secret (a nonce) that the parent makes after the fork. While the program runs it lives
on the interpreter's value stack only: in no variable, frame or tracked object that the program could look up. It
is sent when control comes back from the last statement of the last part, which is why leaving early, printing the
right thing, patching ``os.write`` or catching exceptions cannot stand in for having passed.
"""

import contextlib
import json
import linecache
import os
import resource
import sys
import types
from collections import deque
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import NoReturn

from tokensieve.sandbox import checks
from tokensieve.sandbox.limits import Limits

RESULT_FD = 3
NONCE_FD = 4
NONCE_BYTES = 32
_PART = "<part "
MODULE = "program"
"""Name of the module that a program is: not ``__main__``, so that its own demonstration does not run."""

_THREADS = 8
_REFUSED_EVENTS = frozenset({"sys.settrace", "sys.setprofile", "gc.get_objects", "gc.get_referrers"})
_ABSENT_MODULES = frozenset({"ctypes", "_ctypes", "_cffi_backend"})


def limit_resources(limits: Limits, *, base_bytes: int, base_processes: int | None) -> None:
    """Set what the kernel enforces by itself.

    Args:
        limits: the program's limits.
        base_bytes: address space that the interpreter takes before the program.
        base_processes: processes of the same user in the same user namespace; None where they cannot be counted.
    """
    seconds = max(1, -int(-limits.cpu_s // 1))
    memory = base_bytes + limits.memory_mb * 2**20
    bounds = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_FSIZE: limits.file_mb * 2**20,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if base_processes is not None:
        bounds[resource.RLIMIT_NPROC] = base_processes + (limits.processes if limits.processes > 1 else _THREADS)
    for kind, bound in bounds.items():
        resource.setrlimit(kind, (bound, bound))


def arrange_descriptors(stdout: int, stderr: int, result: int, nonce: int) -> None:
    """Keep five descriptors and no others: an empty input, two outputs, the report, the nonce."""
    null = os.open("/dev/null", os.O_RDONLY)
    # First out of the way, so that no target number is still in use as a source.
    high = [os.dup2(fd, 100 + place) for place, fd in enumerate((null, stdout, stderr, result, nonce))]
    for target, fd in enumerate(high):
        os.dup2(fd, target)
    os.closerange(5, 1024)


def guard_checker() -> None:
    """Refuse the means by which Python code reaches into the frames and memory of the checker around it.

    An audit hook cannot be taken off. It is no wall (code that runs in the checker's process can in the end do
    what that process can): it makes forging a verdict much harder than solving the problem.
    """
    refused, foreign, absent = _REFUSED_EVENTS, "ctypes.", _ABSENT_MODULES
    for name in [name for name in sys.modules if name.partition(".")[0] in absent]:
        del sys.modules[name]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "import" and str(arguments[0]).rpartition(".")[2] in absent:
            raise ImportError(f"the sandbox has no {arguments[0]}")
        if event in refused or event.startswith(foreign):
            raise PermissionError(f"the sandbox refuses {event}")

    sys.addaudithook(hook)


def run_python(parts: Sequence[str], checks_from: int | None, *, own_equality: bool) -> NoReturn:
    """Run the parts one after the other in one module, report, and end the process.

    Args:
        parts: the program, and the checks behind it.
        checks_from: number of the first part that is the checker's own; None where all are the program's.
        own_equality: whether the program's objects may decide what they equal.
    """
    module = types.ModuleType(MODULE)
    sys.modules[MODULE] = module
    codes, broken = _compiled(parts, checks_from, own_equality=own_equality)
    write, leave, report, flush = os.write, os._exit, _report, _flush
    try:
        if broken is None:
            # The loop is C's and the tuple is built on the value stack: the program finds in no frame what is still
            # to run, nor the nonce, which is read before the first part and used after the last.
            write(RESULT_FD, (os.read(NONCE_FD, NONCE_BYTES), deque(map(exec, codes, repeat(module.__dict__)), 0))[0])
        else:
            deque(map(exec, codes, repeat(module.__dict__)), 0)
            report(broken, file_name_of(len(codes)))
    except BaseException as error:  # noqa: BLE001 - whatever a hostile program raises is its result
        flush()
        report(error)
        leave(1)
    flush()
    leave(0)


def file_name_of(place: int) -> str:
    """File name of a part in tracebacks."""
    return f"{_PART}{place + 1}>"


def _compiled(
    parts: Sequence[str], checks_from: int | None, *, own_equality: bool
) -> tuple[tuple[types.CodeType, ...], BaseException | None]:
    """The parts as code, up to the first that is none, and what is wrong with that one."""
    codes: list[types.CodeType] = []
    for place, part in enumerate(parts):
        file_name = file_name_of(place)
        linecache.cache[file_name] = (len(part), None, part.splitlines(True), file_name)
        try:
            if checks_from is None or place < checks_from:
                codes.append(compile(part, file_name, "exec", dont_inherit=True))
            else:
                restore_first = place == checks_from
                codes.append(checks.compiled(part, file_name, own_equality=own_equality, restore_first=restore_first))
        except BaseException as error:  # noqa: BLE001 - a hostile program's text
            return tuple(codes), error
    return tuple(codes), None


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # The program may have put anything in their place.
        with contextlib.suppress(BaseException):
            stream.flush()


def _report(
    error: BaseException,
    file_name: str | None = None,
    write: Callable[[int, bytes], int] = os.write,
    encode: Callable[[dict[str, object]], str] = json.dumps,
) -> None:
    """Send what was raised and where; hostile exceptions may refuse to be described.

    What it calls is bound beforehand, so that a program that patches modules still gets a readable reason.

    Args:
        error: what was raised.
        file_name: of the part that is no Python; None where the error was raised in running one.
        write: as in ``os``.
        encode: to JSON.
    """
    kind = type(error).__name__
    try:
        text = str(error)[:500]
    except BaseException:  # noqa: BLE001 - a hostile exception's own code runs here
        text = "(its message could not be read)"
    line, source = 0, ""
    frame = error.__traceback__
    while frame is not None:
        name = frame.tb_frame.f_code.co_filename
        if file_name is None and name.startswith(_PART):
            file_name = name
        if name == file_name:
            line = frame.tb_lineno
        frame = frame.tb_next
    if isinstance(error, SyntaxError) and error.lineno:
        line, text = error.lineno, str(error.msg)
    file_name = file_name or file_name_of(0)
    with contextlib.suppress(BaseException):
        source = linecache.getline(file_name, line).strip()[:300]
    number = file_name.removeprefix(_PART).removesuffix(">")
    message: dict[str, object] = {
        "reached": int(number) - 1 if number.isdecimal() else 0,
        "kind": kind,
        "text": text,
        "line": line,
        "source": source,
        "leaving": isinstance(error, SystemExit),
    }
    write(RESULT_FD, b"E" + encode(message).encode("utf-8", "backslashreplace"))
