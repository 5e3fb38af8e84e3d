"""Running one hostile SQL query on SQLite in the forked process: read-only, authorised action by action."""

import json
import os
import sqlite3
import time
from typing import NoReturn
from urllib.parse import quote

from tokensieve.sandbox.child import NONCE_BYTES, NONCE_FD, RESULT_FD
from tokensieve.sandbox.limits import Limits

_ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
_REFUSED_FUNCTIONS = frozenset({"load_extension", "readfile", "writefile", "edit", "fts3_tokenizer", "sqlite_attach"})
_ACTIONS = {
    getattr(sqlite3, name): name.removeprefix("SQLITE_").replace("_", " ")
    for name in dir(sqlite3)
    if name.startswith(("SQLITE_CREATE", "SQLITE_DROP", "SQLITE_ALTER"))
} | {
    sqlite3.SQLITE_ATTACH: "ATTACH",
    sqlite3.SQLITE_DETACH: "DETACH",
    sqlite3.SQLITE_PRAGMA: "PRAGMA",
    sqlite3.SQLITE_INSERT: "INSERT",
    sqlite3.SQLITE_UPDATE: "UPDATE",
    sqlite3.SQLITE_DELETE: "DELETE",
    sqlite3.SQLITE_TRANSACTION: "TRANSACTION",
    sqlite3.SQLITE_SAVEPOINT: "SAVEPOINT",
    sqlite3.SQLITE_REINDEX: "REINDEX",
    sqlite3.SQLITE_ANALYZE: "ANALYZE",
    sqlite3.SQLITE_FUNCTION: "this function",
}
_STEPS_BETWEEN_LOOKS = 10_000


def open_database(path: str) -> sqlite3.Connection | None:
    """Open a database file read-only and immutable; no byte of it is read yet. None where it cannot be opened."""
    try:
        return sqlite3.connect(f"file:{quote(path)}?mode=ro&immutable=1", uri=True, isolation_level=None)
    except sqlite3.Error:
        return None


def run_query(query: str, source: sqlite3.Connection | str | None, limits: Limits) -> NoReturn:
    """Run the query, report the result or what went wrong, and end the process.

    Args:
        query: one statement.
        source: an open database, or a script that builds one, or None where the file could not be opened.
        limits: time, rows and size of the result.
    """
    nonce = os.read(NONCE_FD, NONCE_BYTES)
    try:
        message = _result(query, source, limits)
    except sqlite3.Error as error:
        message = {"kind": "sql", "text": str(error)}
    except MemoryError:
        message = {"kind": "memory", "text": "out of memory"}
    payload = nonce + json.dumps(message, ensure_ascii=False).encode("utf-8", "replace")
    while payload:
        payload = payload[os.write(RESULT_FD, payload) :]
    os._exit(0)


def _result(query: str, source: sqlite3.Connection | str | None, limits: Limits) -> dict[str, object]:
    stopped: list[str] = []
    if source is None:
        return {"kind": "sql", "text": "the database file cannot be opened"}
    connection = _build(source) if isinstance(source, str) else source
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")

    def authorize(action: int, first: str | None, second: str | None, *_: str | None) -> int:
        refused_function = action == sqlite3.SQLITE_FUNCTION and (second or first or "").lower() in _REFUSED_FUNCTIONS
        # SQLite asks for this where a table-valued function is named; a real update of that table it refuses itself.
        naming = action == sqlite3.SQLITE_UPDATE and first == "sqlite_master"
        if (action in _ALLOWED and not refused_function) or naming:
            return sqlite3.SQLITE_OK
        stopped.append(f"{_ACTIONS.get(action, f'action {action}')} is refused: a query may only read")
        return sqlite3.SQLITE_DENY

    def look() -> int:
        if time.process_time() < limits.cpu_s:
            return 0
        stopped.append("time")
        return 1

    connection.set_authorizer(authorize)
    connection.set_progress_handler(look, _STEPS_BETWEEN_LOOKS)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, max(1, limits.output_kb) * 1024)
    try:
        cursor = connection.execute(query)
        rows = cursor.fetchmany(limits.rows + 1) if cursor.description else []
    except (sqlite3.Error, sqlite3.Warning) as error:
        text = str(error)
        if stopped == ["time"]:
            return {"kind": "time", "text": text}
        return {"kind": "refused", "text": stopped[0]} if stopped else {"kind": "sql", "text": text}
    if not cursor.description:
        return {"kind": "sql", "text": "the query gives no result: it is empty or no SELECT"}
    if len(rows) > limits.rows:
        return {"kind": "rows", "text": f"more than {limits.rows} rows"}
    columns = [str(column[0]) for column in cursor.description]
    return {"kind": "rows_follow", "columns": columns, "rows": [[_json_value(value) for value in row] for row in rows]}


def _build(script: str) -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(script)
    connection.execute("PRAGMA query_only = 1")
    return connection


def _json_value(value: object) -> object:
    """JSON knows no bytes and no infinities: those travel in a tagged object."""
    if isinstance(value, bytes):
        return {"hex": value.hex()}
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return {"float": str(value)}
    return value
