"""Programs that try to get out, to take the machine down, or to pass without having passed.

Each runs behind both kinds of walls. Each must end as the table says, within seconds, and an honest program must run
right after it. Each table is (name, program, ending, words of the reason).
"""

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from tokensieve.sandbox import Ending, Limits, pool, run_parts, run_python

LIMITS = Limits(wall_s=20, cpu_s=1, memory_mb=128, output_kb=64, file_mb=2)
FORKING = Limits(wall_s=2, cpu_s=1, memory_mb=128, output_kb=64, file_mb=2, processes=6)
RAISED, LEFT, FINISHED = Ending.RAISED, Ending.LEFT_EARLY, Ending.FINISHED
Program = tuple[str, str, Ending | tuple[Ending, ...], str]

BOMBS: list[Program] = [
    ("fork bomb", "import os\nwhile True: os.fork()", RAISED, "PermissionError"),
    ("memory bomb, one block", "b = bytearray(10**10)", Ending.MEMORY, "MemoryError"),
    ("memory bomb, many lists", "a = []\nwhile True: a.append([0] * 10**5)", Ending.MEMORY, "MemoryError"),
    ("memory bomb, mapped", "import mmap\nkeep = [mmap.mmap(-1, 2**26) for _ in range(99)]", RAISED, "memory"),
    ("memory bomb, memfd", "import os\nos.memfd_create('x')", RAISED, "not permitted"),
    ("memory bomb, doubling text", "s = 'x'\nwhile True: s += s", Ending.MEMORY, "MemoryError"),
    ("huge integer", "x = 9 ** 9 ** 9", (Ending.CPU_TIME, Ending.MEMORY), ""),
    ("endless loop", "while True: pass", Ending.CPU_TIME, "processor time"),
    ("endless output", "while True: print('x' * 1000)", Ending.OUTPUT, "wrote more"),
    ("endless error output", "import os\nwhile True: os.write(2, b'x' * 1000)", Ending.OUTPUT, "wrote more"),
    ("endless report", "import os\nwhile True: os.write(3, b'x' * 1000)", Ending.OUTPUT, "wrote more"),
    ("big file", "open('f', 'wb').write(b'x' * 10**8)", RAISED, "File too large"),
    ("open files", "keep = [open('/dev/null') for _ in range(9999)]", RAISED, "Too many open files"),
    ("thread bomb", "import threading, time\nthreading.stack_size(2**16)\n"
     "for _ in range(10**5): threading.Thread(target=time.sleep, args=(99,)).start()", RAISED, "start new thread"),
    ("bottomless recursion", "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
     (Ending.SIGNAL, Ending.MEMORY, Ending.CPU_TIME, RAISED), ""),
    ("message that never ends", "class E(Exception):\n def __str__(self):\n  while True: pass\nraise E",
     Ending.CPU_TIME, ""),
    ("message that raises", "class E(Exception):\n def __str__(self): raise SystemExit(0)\nraise E",
     RAISED, "could not"),
    ("raised limits", "import resource\nresource.setrlimit(resource.RLIMIT_AS, (-1, -1))", RAISED, "limit"),
    ("raised parent's limits", "import resource, os\nresource.prlimit(os.getppid() or 2, resource.RLIMIT_CPU, (1, 1))",
     RAISED, ""),
]  # fmt: skip

ESCAPES: list[Program] = [
    ("password file", "open('/etc/passwd').read()", RAISED, "Error"),
    ("own environment file", "open('/proc/self/environ').read()", RAISED, "Error"),
    ("parent's memory", "import os\nopen(f'/proc/{os.getppid()}/mem', 'rb')", RAISED, "Error"),
    ("first process", "open('/proc/1/environ').read()", RAISED, "Error"),
    ("write into the library", "import os\nopen(os.path.dirname(os.__file__) + '/evil.py', 'w')", RAISED, "Error"),
    ("replace a library file", "import os\nos.rename(os.__file__, os.__file__ + 'x')", RAISED, "Error"),
    ("write at the root", "open('/evil', 'w')", RAISED, "Error"),
    ("climb out", "open('../../../../../../etc/shadow')", RAISED, "Error"),
    ("symbolic link", "import os\nos.symlink('/etc/passwd', 'p')\nopen('p').read()", RAISED, "Error"),
    ("hard link", "import os\nos.link('/etc/passwd', 'p')\nopen('p').read()", RAISED, "Error"),
    ("device", "import os, stat\nos.mknod('d', 0o600 | stat.S_IFBLK, os.makedev(254, 0))", RAISED, "Error"),
    ("new root", "import os\nos.chroot('.')", RAISED, "Error"),
    ("become root", "import os\nos.setresuid(0, 0, 0) if os.getuid() else os.seteuid(1)", RAISED, "Error"),
    ("TCP", "import socket\nsocket.create_connection(('127.0.0.1', 80))", RAISED, "Error"),
    ("UDP", "import socket\nsocket.socket(type=socket.SOCK_DGRAM)", RAISED, "not permitted"),
    ("look up a name", "import socket\nsocket.getaddrinfo('example.org', 80)", RAISED, "failure"),
    ("another program", "import os\nos.execv('/bin/sh', ['sh'])", RAISED, "Error"),
    ("shell", "import subprocess\nsubprocess.run('ls', shell=True, check=True)", RAISED, "Error"),
    ("spawn", "import os\nos.posix_spawn('/bin/ls', ['ls'], {})", RAISED, "Error"),
    ("C functions", "import ctypes\nctypes.CDLL(None)", RAISED, "ImportError"),
    ("C functions by another name", "import _ctypes", RAISED, "ImportError"),
    ("C functions of the sandbox", "import sys\n"
     "[m for m in list(sys.modules.values()) if hasattr(m, '_libc')][0]._libc.syscall(39)", RAISED, "IndexError"),
    ("kernel keyring by number", "import signal\nsignal.pidfd_send_signal(0, 9)", RAISED, "Error"),
    ("priorities", "import os\nos.setpriority(os.PRIO_PROCESS, 0, 19)", RAISED, "not permitted"),
    ("shared memory that stays", "from multiprocessing import shared_memory\nshared_memory.SharedMemory('x', True, 9)",
     RAISED, "Error"),
    ("the host's pipes", "import os\nfor fd in range(5, 1024):\n try: os.fstat(fd)\n except OSError: continue\n"
     " raise ValueError(fd)", FINISHED, ""),
    ("input", "input()", RAISED, "EOFError"),
]  # fmt: skip

FORGERIES: list[Program] = [
    ("leave at once", "import os\nos._exit(0)\n", LEFT, "status 0"),
    ("leave politely", "import sys\nsys.exit(0)", LEFT, "SystemExit"),
    ("leave from a thread", "import os, threading, time\nthreading.Thread(target=os._exit, args=(0,)).start()\n"
     "time.sleep(9)", (LEFT, RAISED), ""),
    ("leave inside a test", "import os\nclass Yes:\n def __eq__(self, other): os._exit(0)\ndef f(x): return Yes()",
     LEFT, ""),
    ("abort", "import os\nos.abort()", Ending.SIGNAL, "signal"),
    ("say so", "print('OK: all tests passed')\nimport os\nos.write(3, b'ok')\nos._exit(0)", LEFT, ""),
    ("report that never nests back", "import os\nos.write(3, b'E' + b'[' * 60000)\nos._exit(1)", LEFT, ""),
    ("report of an endless line", "import os\n"
     "os.write(3, b'E{\"kind\": 1, \"text\": 1, \"source\": 1, \"line\": 1e999}')\nos._exit(1)", LEFT, ""),
    ("report of more tests than there are", "import os\nos.write(3, b'E{\"kind\": \"K\", \"text\": \"\", '\n"
     " b'\"source\": \"\", \"line\": 0, \"reached\": 99, \"leaving\": false}')\nos._exit(0)", RAISED, "K"),
    ("guess the nonce", "import os\nos.write(3, os.urandom(32))\nos._exit(0)", LEFT, ""),
    ("read the nonce again", "import os\nos.write(3, os.read(4, 32))\nos._exit(0)", LEFT, ""),
    ("look for the nonce in frames", "import os, sys\nframe = sys._getframe()\nwhile frame:\n"
     " for v in [*frame.f_locals.values(), *frame.f_globals.values()]:\n"
     "  if isinstance(v, bytes) and len(v) == 32: os.write(3, v)\n"
     " frame = frame.f_back\nos._exit(0)", LEFT, ""),
    ("look for the nonce in objects", "import gc\ngc.get_objects()", RAISED, "refuses"),
    ("jump over the tests", "import sys\nsys.settrace(lambda *a: None)", RAISED, "refuses"),
    ("patch the checker", "import builtins, os, sys\nbuiltins.AssertionError = KeyError\nbuiltins.exec = print\n"
     "builtins.compile = lambda *a, **k: (lambda: 0).__code__\nos.write = lambda *a: 0\nos._exit = lambda *a: None\n"
     "import json\njson.dumps = lambda *a, **k: ''\ndef f(x): return 0", RAISED, "assert f(1) == 2"),
    ("patch the runner's modules", "import sys\nfor name in [n for n in sys.modules if 'tokensieve' in n]:\n"
     " for key, value in list(vars(sys.modules[name]).items()):\n"
     "  if callable(value): setattr(sys.modules[name], key, lambda *a, **k: 0)\ndef f(x): return 0",
     (RAISED, LEFT), ""),
    ("catch the failure", "import sys\nsys.excepthook = lambda *a: None\ndef f(x): return 0",
     RAISED, "assert f(1) == 2"),
    ("catch the time-out", "import signal\nfor number in range(1, 65):\n try: signal.signal(number, lambda *a: None)\n"
     " except (OSError, ValueError): pass\nwhile True:\n try:\n  while True: pass\n except BaseException: pass",
     Ending.CPU_TIME, ""),
    ("swallow the tests", "def f(x):\n return 0\ncomment = '''", RAISED, "SyntaxError"),
    ("continue into the tests", "def f(x): return 0\nx = 1 or \\", RAISED, "SyntaxError"),
    ("clear what is still to run", "import sys\nframe = sys._getframe()\nwhile frame:\n"
     " for value in [v for v in frame.f_locals.values() if isinstance(v, list)]: value.clear()\n"
     " frame = frame.f_back\ndef f(x): return 0", (RAISED, LEFT), ""),
    ("change what is still to run", "import sys\nframe = sys._getframe()\nwhile frame:\n"
     " for value in [v for v in frame.f_locals.values() if isinstance(v, (list, dict)) and v is not globals()]:\n"
     "  value.clear()\n frame = frame.f_back\ndef f(x): return 0", (RAISED, LEFT), ""),
    ("equal to everything", "class Yes:\n def __eq__(self, other): return True\ndef f(x): return Yes()",
     RAISED, "decides by itself what it equals"),
    ("a number equal to everything", "class Yes(int):\n def __eq__(self, other): return True\n"
     "def f(x): return Yes()", RAISED, "decides by itself"),
    ("equal to everything by a builtin", "import operator\nclass Yes:\n __eq__ = operator.truth\n"
     " __eq__ = type('T', (), {'__get__': lambda *a: lambda other: True})()\ndef f(x): return Yes()",
     RAISED, "decides by itself"),
    ("patch a built-in function", "import builtins\nbuiltins.abs = lambda x: 0\ndef f(x): return 0",
     RAISED, "AssertionError"),
    ("patch the comparison", "import sys\nfor name, module in list(sys.modules.items()):\n"
     " if name.endswith('_checks'):\n  for key in ('_decides_itself', '_has_own_rule', '_is_librarys', '_compare'):\n"
     "   setattr(module, key, lambda *a: False)\n"
     "class Yes:\n def __eq__(self, other): return True\ndef f(x): return Yes()", RAISED, "decides by itself"),
    ("leave when done", "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return 0",
     RAISED, "assert f(1) == 2"),
]  # fmt: skip


def endings(expected: Ending | tuple[Ending, ...]) -> tuple[Ending, ...]:
    return expected if isinstance(expected, tuple) else (expected,)


def honest_program_runs() -> bool:
    return run_parts(("def f(x): return x + 1", "assert f(1) == 2"), LIMITS).ok


@pytest.mark.parametrize(("program", "ending", "words"), [row[1:] for row in BOMBS], ids=[row[0] for row in BOMBS])
def test_bombs_are_stopped(isolation: str, program: str, ending: Ending, words: str) -> None:
    run = run_python(program, LIMITS)
    assert not run.ok
    assert run.ending in endings(ending), run.reason
    assert words in run.reason
    assert honest_program_runs()


def test_sleep_is_stopped_by_the_clock(isolation: str) -> None:
    program = "import signal, time\nfor n in (2, 14, 15): signal.signal(n, lambda *a: None)\ntime.sleep(1000)"
    run = run_python(program, Limits(wall_s=1))
    assert run.ending is Ending.WALL_TIME
    assert run.reason.startswith("stopped after ")
    assert 1 <= run.wall_s < 5
    assert honest_program_runs()


@pytest.mark.parametrize(("program", "ending", "words"), [row[1:] for row in ESCAPES], ids=[row[0] for row in ESCAPES])
def test_escapes_fail_as_ordinary_errors(isolation: str, program: str, ending: Ending, words: str) -> None:
    run = run_python(program, LIMITS)
    assert run.ending in endings(ending), run.reason
    assert words in run.reason
    assert honest_program_runs()


@pytest.mark.parametrize(
    ("program", "ending", "words"), [row[1:] for row in FORGERIES], ids=[row[0] for row in FORGERIES]
)
def test_success_cannot_be_forged(isolation: str, program: str, ending: Ending, words: str) -> None:
    test = "assert abs(f(1) - 2) < 1e-6 and f(1) == 2" if "builtins.abs" in program else "assert f(1) == 2"
    run = run_parts((program, test), LIMITS, checks_from=1, own_equality=False)
    assert not run.ok
    assert run.ending in endings(ending), run.reason
    assert words in run.reason
    assert honest_program_runs()


@pytest.mark.parametrize("question", ["== [2]", "!= 0", "< 9", "> -9", "<= 9", ">= -9"])
@pytest.mark.parametrize("value", ["Yes(2)", "[Yes(2)]", "({1: Yes(2)},)", "{Yes(2): 1}"])
def test_no_comparison_is_decided_by_what_is_compared(isolation: str, question: str, value: str) -> None:
    rules = "\n".join(f" def __{name}__(self, other): return True" for name in ("eq", "ne", "lt", "le", "gt", "ge"))
    program = f"class Yes(int):\n __hash__ = int.__hash__\n{rules}\ndef f(x): return {value}"
    test = f"def check(answer):\n    assert answer(1) {question}\ncheck(f)"
    run = run_parts((program, test), LIMITS, checks_from=1, own_equality=False)
    assert not run.ok
    assert run.reached == 1


def test_secrets_of_the_environment_are_not_there(isolation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN", "secret-of-the-user")
    assert run_python("import os\nassert not os.environ and not os.getenv('HUB_TOKEN')\nprint(dict(os.environ))").ok


def test_files_of_the_user_are_not_there(isolation: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret-of-the-user")
    secret.chmod(0o666)
    run = run_python(f"print(open({str(secret)!r}).read())")
    assert run.ending is RAISED
    assert "secret-of" not in run.stdout
    run = run_python(f"open({str(secret)!r}, 'w').write('spoiled')")
    assert run.ending is RAISED
    run = run_python(f"import os\nos.chmod({str(secret)!r}, 0)")
    assert run.ending is RAISED
    assert secret.read_text() == "secret-of-the-user"
    assert secret.stat().st_mode & 0o777 == 0o666


def test_working_folder_and_home_are_not_listed(isolation: str) -> None:
    for folder in (Path.cwd(), Path.home()):
        assert any(folder.iterdir())
        run = run_python(f"import os\nprint(*os.listdir({str(folder)!r}), sep='\\n')")
        # An interpreter that lives in the folder is seen, and of the folder only the way to it.
        interpreter = {
            Path(path).relative_to(folder).parts[0] for path in pool.visible(()) if Path(path).is_relative_to(folder)
        }
        assert set(run.stdout.split()) <= interpreter
        assert run.ending is RAISED or interpreter


def test_a_listening_server_is_not_reached(isolation: str, tmp_path: Path) -> None:
    reached = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(1.5)

        def accept() -> None:
            try:
                connection, _ = server.accept()
            except TimeoutError:
                return
            reached.set()
            connection.close()

        waiting = threading.Thread(target=accept)
        waiting.start()
        run = run_python(f"import socket\nsocket.create_connection(('127.0.0.1', {server.getsockname()[1]}))", LIMITS)
        waiting.join()
    assert run.ending is RAISED
    assert not reached.is_set()


@pytest.mark.parametrize("target", ["os.getppid()", "1", "-1", "0", "HOST"])
def test_signals_reach_no_one_else(isolation: str, target: str) -> None:
    program = f"import os, signal\nos.kill({target.replace('HOST', str(os.getpid()))}, signal.SIGKILL)"
    run_python(program, LIMITS)
    run_python(program.replace("os.kill", "os.killpg"), LIMITS)
    assert honest_program_runs()


def test_scratch_is_empty_again_for_the_next_program(isolation: str) -> None:
    litter = (
        "import os\nopen('a', 'w').write('x')\nos.symlink('/', 'root')\nos.makedirs('d/e')\nos.chmod('d', 0o500)"
        if isolation == "namespaces"
        else "import os\nopen('a', 'w').write('x')\nos.symlink('/', 'root')\nos.makedirs('d/e')"
    )
    assert run_python(litter).ok
    deep = "import os\nfor _ in range(2000):\n os.mkdir('d')\n os.chdir('d')"
    run_python(deep)
    run = run_python("import os\nprint(os.listdir('.'))")
    if isolation == "namespaces":
        assert run.stdout == "[]\n"
    assert "'a'" not in run.stdout
    assert "'root'" not in run.stdout


def test_scratch_folder_is_bounded_as_a_whole(isolation: str) -> None:
    if isolation != "namespaces":
        pytest.skip("without a mount namespace each file is bounded, their sum is not")
    run = run_python("for n in range(99): open(f'f{n}', 'wb').write(b'x' * 2**19)", LIMITS)
    assert "No space left" in run.reason
    run = run_python("for n in range(10**5): open(f'f{n}', 'wb').close()", LIMITS)
    assert "No space left" in run.reason


@pytest.mark.parametrize(
    "program",
    [
        "import os\nwhile True: os.fork()",
        "import os, time\nif os.fork() == 0:\n os.setsid()\n time.sleep(1000)",
        "import os, time\nif os.fork() == 0:\n if os.fork() == 0:\n  os.setsid()\n  time.sleep(1000)\n os._exit(0)",
        "import os, time\nfor _ in range(3):\n if os.fork() == 0:\n  while True: pass",
        "import os, signal\nif os.fork() == 0:\n signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
        " while True: pass",
    ],
    ids=["fork bomb", "child outlives its parent", "double fork", "busy children", "child that blocks signals"],
)
def test_what_a_program_starts_ends_with_it(isolation: str, program: str) -> None:
    if isolation != "namespaces":
        assert "PermissionError" in run_python(program, FORKING).reason
        return
    started = time.monotonic()
    run_python(program, FORKING)
    assert time.monotonic() - started < FORKING.wall_s + 2
    with pool.pool().parent((), ()) as parent:
        # The one child of the process that waits is the sandbox's parent, and that one has no child left.
        assert len(descendants(parent.process.pid)) == 1
    assert honest_program_runs()


def descendants(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children] + [deep for child in children for deep in descendants(int(child))]
