"""BIRD: questions over real databases, to be answered by a SQL query, judged by running it.

The published folder layout: ``dev.json`` with ``dev_databases/<db_id>/<db_id>.sqlite`` and the same for ``train``.
Two rules, two names: ``bird`` compares results as sets, as the official evaluation does; ``bird_multiset`` counts
equal rows as well.
"""

import contextlib
import sqlite3
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from urllib.parse import quote

from tokensieve.errors import InputError
from tokensieve.tasks.benchmark_io import Row, find_file, read_rows, require_split
from tokensieve.tasks.execution import ResultComparison, judge_query
from tokensieve.tasks.task import Task
from tokensieve.types import JSON, Message, Problem, Verdict

_FILES = {"train": "train", "validation": "dev"}
_INSTRUCTION = "Write one SQLite query that answers the question. Answer with the query only."


def load(task: str, split: str, folder: Path | None) -> Iterator[Problem]:
    """The questions of a split, in the order of the file; ``validation`` is what is published as dev.

    Raises:
        InputError: no folder is given (the databases are published as an archive, not as rows), or one lacks
            a file.
    """
    require_split(task, split, tuple(_FILES))
    if folder is None:
        raise InputError(
            "BIRD comes as an archive of databases", where=task, fix="unpack it and give it with --data FOLDER"
        )
    name = _FILES[split]
    path = find_file(folder, "bird", f"{name}.json", f"{name}/{name}.json")
    for number, row in enumerate(read_rows(path)):
        yield _problem(task, split, number, row, _databases(path.parent, name))


def check(problem: Problem, answer: str, *, comparison: ResultComparison) -> Verdict:
    """Run the answer's query and the gold query on the question's database, in the sandbox."""
    database = problem.files["database"]
    return judge_query(answer, str(problem.facts["query"]), database=database, comparison=comparison)


def _databases(folder: Path, name: str) -> Path:
    for candidate in (folder / f"{name}_databases", folder / "databases", folder):
        if candidate.is_dir() and any(candidate.glob("*/*.sqlite")):
            return candidate
    raise InputError(f"expected {name}_databases/<db_id>/<db_id>.sqlite", where=str(folder))


def _problem(task: str, split: str, number: int, row: Row, databases: Path) -> Problem:
    name = row.text("db_id")
    database = databases / name / f"{name}.sqlite"
    # A name from a file must not lead out of the folder.
    if Path(name).name != name or not database.is_file():
        raise InputError(f"no database {name!r} at {database}", where=row.where)
    evidence = row.fields.get("evidence")
    hint = f"\n\nHint: {evidence}" if isinstance(evidence, str) and evidence.strip() else ""
    content = f"{_schema(database)}\n\nQuestion: {row.text('question')}{hint}\n\n{_INSTRUCTION}"
    turn: Message = {"role": "user", "content": content}
    own = row.fields.get("question_id", number)
    query = row.text("SQL")
    # Not where the database lies: an evaluation goes on after the data moved. Its size tells another one apart.
    facts: dict[str, JSON] = {"database": name, "bytes": database.stat().st_size, "query": query}
    return Problem(f"bird/{split}/{own}", task, (turn,), query, facts, {"database": database})


@lru_cache(maxsize=256)
def _schema(database: Path) -> str:
    """The statements that created a database's tables, one after the other."""
    uri = f"file:{quote(str(database))}?mode=ro&immutable=1"
    try:
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            rows = connection.execute(
                "SELECT sql FROM sqlite_master WHERE type = 'table' AND sql IS NOT NULL"
            ).fetchall()
    except sqlite3.Error as error:
        raise InputError(f"no readable SQLite database: {error}", where=str(database)) from None
    return "\n".join(f"{statement};" for (statement,) in rows)


def _task(name: str, title: str, comparison: ResultComparison) -> Task:
    return Task(name, title, tuple(_FILES), partial(load, name), partial(check, comparison=comparison))


BIRD_TASKS = {
    "bird": _task("bird", "BIRD: text to SQL, results compared as sets", ResultComparison.SET),
    "bird_multiset": _task("bird_multiset", "BIRD by the strict rule: results as multisets", ResultComparison.MULTISET),
}
