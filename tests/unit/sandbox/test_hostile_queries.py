"""SQL queries that try to write, to read files or to take the machine down; and honest ones; behind both walls."""

import os
import sqlite3
from pathlib import Path

import pytest

from tokensieve.sandbox import Ending, Limits, run_sql

SCRIPT = "CREATE TABLE t(a INTEGER, b TEXT); INSERT INTO t VALUES (1, 'x'), (2, 'y');"
COUNTING = "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c)"
QUERIES: list[tuple[str, str, tuple[Ending, ...], str]] = [
    ("attach", "ATTACH DATABASE '/etc/passwd' AS p", (Ending.REFUSED,), "ATTACH"),
    ("pragma", "PRAGMA table_info(t)", (Ending.REFUSED,), "PRAGMA"),
    ("pragma, writable schema", "PRAGMA writable_schema = 1", (Ending.REFUSED,), "PRAGMA"),
    ("insert", "INSERT INTO t VALUES (3, 'z')", (Ending.REFUSED,), "INSERT"),
    ("insert that returns", "INSERT INTO t VALUES (3, 'z') RETURNING a", (Ending.REFUSED,), "INSERT"),
    ("update", "UPDATE t SET a = 0", (Ending.REFUSED,), "UPDATE"),
    ("delete", "DELETE FROM t", (Ending.REFUSED,), "DELETE"),
    ("drop", "DROP TABLE t", (Ending.REFUSED,), "refused"),
    ("create", "CREATE TABLE u(x)", (Ending.REFUSED,), "refused"),
    ("temporary table", "CREATE TEMP TABLE u AS SELECT * FROM t", (Ending.REFUSED,), "refused"),
    ("trigger", "CREATE TEMP TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END", (Ending.REFUSED,), "refused"),
    ("vacuum into", "VACUUM INTO '/tmp/copy'", (Ending.REFUSED, Ending.RAISED), ""),
    ("begin", "BEGIN EXCLUSIVE", (Ending.REFUSED,), "TRANSACTION"),
    ("load an extension", "SELECT load_extension('evil')", (Ending.REFUSED, Ending.RAISED), ""),
    ("read a file", "SELECT readfile('/etc/passwd')", (Ending.REFUSED, Ending.RAISED), ""),
    ("write a file", "SELECT writefile('/tmp/evil', 'x')", (Ending.REFUSED, Ending.RAISED), ""),
    ("endless recursion", f"{COUNTING} SELECT count(*) FROM c", (Ending.CPU_TIME,), "processor time"),
    ("endless rows", f"{COUNTING} SELECT n FROM c", (Ending.OUTPUT,), "rows"),
    ("cross joins", f"WITH c AS ({COUNTING} SELECT n FROM c LIMIT 9999) SELECT count(*) FROM c, c AS d, c AS e",
     (Ending.CPU_TIME,), ""),
    ("huge blob", "SELECT zeroblob(1000000000)", (Ending.RAISED, Ending.MEMORY), ""),
    ("huge random blob", "SELECT hex(randomblob(900000000))", (Ending.RAISED, Ending.MEMORY), ""),
    ("wide format", "SELECT printf('%.*c', 900000000, 'x')",
     (Ending.RAISED, Ending.MEMORY, Ending.CPU_TIME), ""),
    ("growing text", "SELECT replace(hex(zeroblob(30000)), '0', hex(zeroblob(30000)))",
     (Ending.RAISED, Ending.MEMORY), ""),
    ("many middling blobs", f"{COUNTING} SELECT zeroblob(60000) FROM c LIMIT 9000",
     (Ending.OUTPUT, Ending.MEMORY, Ending.CPU_TIME), ""),
    ("aggregate without end", f"{COUNTING} SELECT group_concat(n) FROM c",
     (Ending.CPU_TIME, Ending.RAISED, Ending.MEMORY), ""),
    ("deep expression", "SELECT " + "(" * 5000 + "1" + ")" * 5000, (Ending.RAISED,), ""),
    ("two statements", "SELECT 1; DROP TABLE t", (Ending.RAISED,), "one statement"),
    ("hidden in a comment", "/* harmless */ ATTACH 'x' AS y", (Ending.REFUSED,), "ATTACH"),
    ("nothing", "-- nothing", (Ending.RAISED,), "no result"),
    ("shell command", ".shell ls", (Ending.RAISED,), "syntax"),
    ("zero byte", "SELECT 1\x00; DROP TABLE t", (Ending.RAISED,), ""),
]  # fmt: skip


@pytest.mark.parametrize("where", ["script", "file"])
@pytest.mark.parametrize(("query", "expected", "words"), [row[1:] for row in QUERIES], ids=[row[0] for row in QUERIES])
def test_hostile_queries(
    isolation: str, query: str, expected: tuple[Ending, ...], words: str, where: str, database: Path
) -> None:
    limits = Limits(wall_s=20, cpu_s=0.3, memory_mb=128, output_kb=64, rows=1000)
    before = database.read_bytes()
    run = (
        run_sql(query, script=SCRIPT, limits=limits)
        if where == "script"
        else run_sql(query, database=database, limits=limits)
    )
    assert not run.ok
    assert run.rows is None
    assert run.ending in expected, run.reason
    assert words in run.reason
    assert database.read_bytes() == before
    assert [entry.name for entry in database.parent.iterdir()] == [database.name]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "shop.sqlite"
    connection = sqlite3.connect(path)
    connection.executescript(SCRIPT)
    connection.close()
    return path


def test_honest_queries(isolation: str, database: Path) -> None:
    run = run_sql("SELECT a, b, NULL, 2.5, x'00ff' FROM t ORDER BY a DESC;", database=database)
    assert run.ok
    assert run.columns[:2] == ("a", "b")
    assert run.rows == ((2, "y", None, 2.5, b"\x00\xff"), (1, "x", None, 2.5, b"\x00\xff"))
    assert run_sql("SELECT 9e999, -9e999", script="").rows == ((float("inf"), float("-inf")),)
    assert run_sql("SELECT value FROM json_each('[1, 2]')", script="").rows == ((1,), (2,))
    assert run_sql("SELECT name FROM sqlite_master", database=database).rows == (("t",),)


def test_a_database_that_only_its_owner_reads(isolation: str, database: Path) -> None:
    database.chmod(0o600)
    assert run_sql("SELECT count(*) FROM t", database=database).rows == ((2,),)


def test_a_broken_database_is_an_error_of_the_query(isolation: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.sqlite"
    path.write_bytes(b"SQLite format 3\x00" + os.urandom(4096))
    assert run_sql("SELECT * FROM t", database=path).ending is Ending.RAISED
