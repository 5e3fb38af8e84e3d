"""The sandbox's manners with honest programs, with its host, and on machines that lack a wall."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tokensieve.errors import EnvironmentProblem
from tokensieve.sandbox import (
    Ending,
    Limits,
    close,
    describe,
    pool,
    run_parts,
    run_python,
    run_sql,
    scratch,
)

SOURCE = Path(__file__).resolve().parents[3] / "src"


@pytest.fixture
def own_pool(sandbox: str) -> Iterator[pool.Pool]:
    """A pool that a test may ruin."""
    before = pool.pool()
    own = pool.Pool()
    pool.use(own)
    yield own
    own.close()
    pool.use(before)


def test_a_program_is_told_apart_from_its_output(sandbox: str) -> None:
    run = run_python("import sys\nprint('out')\nprint('err', file=sys.stderr)")
    assert (run.ok, run.stdout, run.stderr, run.ending) == (True, "out\n", "err\n", Ending.FINISHED)
    assert run.reason == "ran to its end"
    assert 0 < run.wall_s < 10


def test_parts_share_names_and_count(sandbox: str) -> None:
    run = run_parts(["x = 1", "assert x == 1", "assert x == 2", "print('never')"])
    assert (run.ok, run.reached, run.stdout) == (False, 2, "")
    assert run.reason == "AssertionError at line 1: assert x == 2"
    assert run_parts([]).ok


def test_checks_see_honest_values_as_they_are(sandbox: str) -> None:
    program = """
from __future__ import annotations
import collections, dataclasses, decimal, enum, fractions

@dataclasses.dataclass(order=True)
class Point:
    x: int

class Colour(enum.IntEnum):
    RED = 1

Pair = collections.namedtuple("Pair", "a b")
def f(x): return [Pair(1, Colour.RED), fractions.Fraction(1, 2), decimal.Decimal("0.5"), collections.Counter("aab")]
def point(x): return Point(x)
"""
    checks = [
        "from __future__ import annotations\nimport numpy",
        "assert f(1) == [(1, 1), 0.5, 0.5, {'a': 2, 'b': 1}]",
        "assert point(1) == point(1) < point(2)",
        "assert point(1) != point(2) and point(1) < point(2)",
        "assert 'a' in f(1)[3] and 'c' not in f(1)[3]",
        "assert 1 < len(f(1)) <= 4 and f(1) is not None",
        "assert (numpy.array([1, 2]) == numpy.array([1, 2])).all()",
    ]
    run = run_parts([program, *checks], Limits(cpu_s=10), checks_from=1, own_equality=False)
    assert run.ok, run.reason


def test_a_rule_of_the_program_s_own_may_be_allowed(sandbox: str) -> None:
    program = "class V(tuple):\n def __eq__(self, other): return tuple(self) == tuple(other)"
    assert run_parts([program, "assert V((1, 2)) == [1, 2]"], checks_from=1).ok
    run = run_parts([program, "assert V((1, 2)) == [1, 2]"], checks_from=1, own_equality=False)
    assert run.reason.startswith("SelfMade (the answer is an object that decides by itself what it equals) at line 1")


def test_a_check_that_is_no_python_is_found_where_it_stands(sandbox: str) -> None:
    run = run_parts(["print('ran')", "assert 1 ==", "x"], checks_from=1)
    assert (run.ok, run.reached, run.stdout) == (False, 1, "ran\n")
    assert run.reason == "SyntaxError (invalid syntax) at line 1: assert 1 =="


def test_the_demonstration_under_main_does_not_run(sandbox: str) -> None:
    assert run_python("if __name__ == '__main__':\n    raise SystemExit(input())").ok


def test_usual_library_features_work(sandbox: str) -> None:
    program = """
import asyncio, collections, dataclasses, datetime, decimal, json, math, pickle, re, sqlite3, tempfile, typing, zoneinfo

@dataclasses.dataclass
class Point:
    x: "int"
    y: typing.Optional["Point"] = None

assert pickle.loads(pickle.dumps(Point(1))) == Point(1)
assert typing.get_type_hints(Point)["x"] is int
assert asyncio.run(asyncio.sleep(0, "done")) == "done"
with tempfile.NamedTemporaryFile("w+") as file:
    file.write("x")
assert sqlite3.connect(":memory:").execute("select 1").fetchone() == (1,)
print("\\u20ac \\udc80".encode("utf-8", "replace"))
print("\\u20ac")
"""
    run = run_python(program)
    assert run.ok, run.reason
    assert run.stdout.endswith("\u20ac\n")


def test_threads_work_in_namespaces(own_pool: pool.Pool) -> None:
    if not describe().startswith("sandbox by namespaces"):
        pytest.skip("threads are refused where they cannot be counted")
    run = run_python("from concurrent.futures import ThreadPoolExecutor as T\nprint(sum(T(4).map(abs, [-1, -2])))")
    assert run.stdout == "3\n", run.reason


def test_the_same_program_does_the_same_every_time(sandbox: str) -> None:
    program = "import random\nprint(random.random(), list({'a', 'b', 'c', 'd'}), hash('x'))"
    assert len({run_python(program).stdout for _ in range(3)}) == 1


def test_output_that_is_no_text(sandbox: str) -> None:
    run = run_python("import os\nos.write(1, bytes(range(128, 160)))")
    assert run.ok
    assert set(run.stdout) == {"\ufffd"}


def test_many_threads_get_their_own_results(sandbox: str) -> None:
    with ThreadPoolExecutor(12) as threads:
        runs = list(threads.map(lambda n: run_python(f"print({n})").stdout, range(60)))
    assert runs == [f"{n}\n" for n in range(60)]


def test_a_busy_wait_is_not_idling(sandbox: str) -> None:
    run = run_python(
        "import time\nend = time.process_time() + 0.8\nwhile time.process_time() < end: pass", Limits(wall_s=0.3)
    )
    # A machine may be so busy that it gets nothing at all for a second; more than the one it had to have.
    assert run.ok or run.wall_s > 1.5, run.reason


def test_a_parent_that_dies_is_replaced(own_pool: pool.Pool) -> None:
    assert run_python("pass").ok
    with own_pool.parent((), ()) as parent:
        os.kill(parent.process.pid, signal.SIGKILL)
        parent.process.wait()
    assert run_python("print(1)").stdout == "1\n"


def test_programs_die_with_the_host(sandbox: str, tmp_path: Path) -> None:
    program = (
        "import os, threading, time\n"
        "from tokensieve.sandbox import pool, run_python\n"
        "threading.Thread(target=run_python, args=('while True: pass',), daemon=True).start()\n"
        "time.sleep(2)\n"
        "pids = [p for p in os.listdir('/proc') if p.isdigit()]\n"
        "print(os.getpid(), flush=True)\n"
        "time.sleep(60)\n"
    )
    host = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(SOURCE)}, text=True
    )
    assert host.stdout is not None
    host.stdout.readline()
    family = tree(host.pid)
    assert family
    host.kill()
    host.wait()
    host.stdout.close()
    deadline = time.monotonic() + 20
    while any(alive(pid) for pid in family) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in family if alive(pid)]


def tree(pid: int) -> list[int]:
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        # The child of a thread is listed under that thread.
        for task in Path(f"/proc/{pid}/task").iterdir():
            children += [int(child) for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [member for child in set(children) for member in (child, *tree(child))]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_close_leaves_nothing(own_pool: pool.Pool) -> None:
    assert run_python("open('litter', 'w').close()").ok
    with own_pool.parent((), ()) as parent:
        folder, pid = Path(parent.folder), parent.process.pid
    assert folder.is_dir()
    close()
    assert not folder.exists()
    assert not alive(pid)
    assert run_python("pass").ok


def test_a_fork_of_the_host_gets_a_sandbox_of_its_own(own_pool: pool.Pool) -> None:
    assert run_python("pass").ok
    child = os.fork()
    if child == 0:
        ok = run_python("print(7)").stdout == "7\n"
        close()
        os._exit(0 if ok else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert run_python("print(8)").stdout == "8\n"


def test_elsewhere_than_on_linux_it_refuses_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(EnvironmentProblem, match=r"only on Linux.*this is darwin"):
        run_python("pass")
    with pytest.raises(EnvironmentProblem, match="only on Linux"):
        run_sql("SELECT 1", script="")


def test_a_missing_database_is_named(sandbox: str, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="no such database file"):
        run_sql("SELECT 1", database=tmp_path / "absent.sqlite")


def user_python() -> str:
    """An interpreter that any user can run; the tests' own may lie where only root can go."""
    for name in (sys.executable, "/usr/bin/python3.11", "/usr/bin/python3.12", "/usr/bin/python3.13"):
        path = Path(name)
        if path.exists() and all(folder.stat().st_mode & 1 for folder in path.resolve().parents):
            return name
    pytest.skip("no interpreter that an unprivileged user could run")


# The package's own __init__ files want more than a bare interpreter has.
WEAK = """
import os, sys, types
for name in ("tokensieve", "tokensieve.tasks"):
    package = types.ModuleType(name)
    package.__path__ = [os.path.join(os.environ["PYTHONPATH"], *name.split("."))]
    sys.modules[name] = package
from tokensieve.errors import EnvironmentProblem
from tokensieve.sandbox import Limits, allow_weak_sandbox, describe, run_python
from tokensieve.sandbox import pool
pool.ISOLATIONS = tuple(sys.argv[1].split(","))
try:
    print(describe())
except EnvironmentProblem as error:
    print("REFUSED", error)
    allow_weak_sandbox()
    print(describe())
print(run_python("import os; print(os.getuid())").stdout)
print(run_python("import os; os.fork()").reason)
print(run_python("import socket; socket.socket()").reason)
print(run_python("while True: pass", Limits(cpu_s=1)).reason)
"""


def as_user(python: str, isolations: str, tmp_path: Path) -> str:
    """Output of the script when an unprivileged user runs it; as that user already where we are one."""
    if os.geteuid() != 0:
        command = []
    elif shutil.which("setpriv"):
        command = ["setpriv", "--reuid=4321", "--regid=4321", "--clear-groups"]
    else:
        pytest.skip("setpriv is not there to become a normal user with")
    source = Path("/var/tmp") / f"tokensieve-test-{os.getpid()}"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    try:
        run = subprocess.run(
            [*command, python, "-c", WEAK, isolations],
            env={"PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        shutil.rmtree(source)
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_a_normal_user_has_all_walls_too(sandbox: str, tmp_path: Path) -> None:
    said = as_user(user_python(), "namespaces,landlock,none", tmp_path)
    assert "REFUSED" not in said
    assert "PermissionError" in said
    assert "processor time" in said


def test_a_normal_user_behind_landlock(sandbox: str, tmp_path: Path) -> None:
    said = as_user(user_python(), "landlock", tmp_path)
    assert said.count("PermissionError") == 2
    assert "missing" not in said


def test_a_weak_sandbox_must_be_allowed_and_says_what_is_missing(sandbox: str, tmp_path: Path) -> None:
    said = as_user(user_python(), "none", tmp_path)
    assert "REFUSED" in said
    assert "the user's files can be read" in said
    assert "--allow-weak-sandbox" in said
    assert "sandbox by none; missing: the user's files can be read" in said
    # What can still be kept is kept.
    assert said.count("PermissionError") == 2
    assert "processor time" in said


def test_a_folder_is_emptied_whatever_was_left_in_it(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(outside)
    (folder / "file").write_text("x")
    here = os.open(folder, os.O_RDONLY)
    try:
        for _ in range(600):
            os.mkdir("deeper", dir_fd=here)
            below = os.open("deeper", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
    finally:
        os.close(here)
    (folder / "deeper" / "closed").mkdir(mode=0o000)
    scratch.empty(str(folder))
    assert not list(folder.iterdir())
    assert (outside / "kept").read_text() == "kept"


def test_waiting_for_a_place_is_fair_enough(own_pool: pool.Pool) -> None:
    """More programs than cores: all get their turn."""
    done = threading.Semaphore(0)

    def run_and_tell() -> None:
        run_python("pass")
        done.release()

    for _ in range(10):
        threading.Thread(target=run_and_tell).start()
    for _ in range(10):
        assert done.acquire(timeout=60)
