"""Content-addressed store of scores: a row is never scored twice by the same model, in any data set.

One SQLite file in write-ahead mode: a kill at any moment loses nothing that was committed, and several processes
of one machine share it. Records carry a checksum and are scored again where it does not hold. On a network file
system, give every machine its own store (``--store``): SQLite's locks do not work there.
"""

import hashlib
import sqlite3
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final

from tokensieve.data.hashing import cache_folder
from tokensieve.data.manifest import ModelIdentity, digest_of
from tokensieve.errors import EnvironmentProblem
from tokensieve.scoring.backend import Measures, ScoreRecord

STORE_FILE: Final = "scores.sqlite"
_FORMAT: Final = 1
_KEY_PARTS: Final = ("weights_digest", "adapter_digest", "quantisation", "dtype", "head_dtype", "attention", "backend")
_BUSY_S: Final = 60.0
"""Seconds that a process waits while another one writes."""

_EVERYTHING: Final = Measures(entropy=True, rank=True)

_AT_ONCE: Final = 500
"""Keys in one query; SQLite limits the variables of a statement."""

_TABLES: Final = """
CREATE TABLE IF NOT EXISTS models (
  id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, name TEXT NOT NULL, identity TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS scores (
  model INTEGER NOT NULL REFERENCES models(id) ON DELETE CASCADE,
  key BLOB NOT NULL, used_day INTEGER NOT NULL, crc INTEGER NOT NULL, content BLOB NOT NULL,
  UNIQUE (model, key)
);
"""


@dataclass(frozen=True, slots=True)
class StoredModel:
    """Contents of the store for one model.

    Attributes:
        digest: identity of the model in the dtypes that it was run in.
        name: how it was called when its first scores came in.
        rows: number of records.
        size_bytes: of the records.
        last_used: date of the last use, ISO.
    """

    digest: str
    name: str
    rows: int
    size_bytes: int
    last_used: str


def default_store() -> Path:
    """The store's folder in the user's cache."""
    return cache_folder() / "store"


class ScoreStore:
    """An open store, for one model.

    Args:
        folder: where the store lies; made where missing. None is the user's cache.
        identity: model and backend of the scores. Weights, adapter, quantisation, dtypes of backbone and LM head,
            attention and backend tell one from another; names and folders do not.

    Raises:
        EnvironmentProblem: the folder cannot be written, or the file is damaged.
    """

    def __init__(self, folder: Path | None, identity: ModelIdentity) -> None:
        self.path = (folder or default_store()) / STORE_FILE
        self._connection = _connect(self.path)
        digest = model_digest(identity)
        with _explained(self.path), self._connection:
            self._connection.execute(
                "INSERT OR IGNORE INTO models (digest, name, identity) VALUES (?, ?, ?)",
                (digest, identity.name, identity.model_dump_json()),
            )
            found = self._connection.execute("SELECT id FROM models WHERE digest = ?", (digest,)).fetchone()
        self._model = int(found[0])

    def __enter__(self) -> "ScoreStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    def get(self, keys: Sequence[bytes], measures: Measures) -> dict[bytes, ScoreRecord]:
        """The records of those keys that are there, whole, and hold what is measures.

        Args:
            keys: requests' keys.
            measures: a record without one of these measures does not count.
        """
        with _explained(self.path), self._connection:
            found = {key: one.only(measures) for key, one in self._read(keys).items() if one.holds(measures)}
            if measures.top_k is None:
                return found
            owners = {_top_key(key, measures.top_k): key for key in found}
            tops = self._read(list(owners))
        return {owners[own]: replace(found[owners[own]], top_entropy_N=top.nll_N) for own, top in tops.items()}

    def put(self, records: Mapping[bytes, ScoreRecord], top_k: int | None = None) -> None:
        """Keep records by their keys, all of them or none; one that is there already is replaced.

        What an earlier record holds beyond a new one is kept with it. Top-k entropies are entries of their own, so
        that those of other k stand beside them.

        Args:
            records: by their requests' keys.
            top_k: the number of likeliest entries that top-k entropies are of.

        Raises:
            EnvironmentProblem: the disk is full or refuses.
        """
        with _explained(self.path), self._connection:
            earlier = self._read([key for key, one in records.items() if not one.holds(_EVERYTHING)])
            contents = {key: record.completed(earlier.get(key)).to_bytes() for key, record in records.items()}
            if top_k is not None:
                tops = ((key, record.top_entropy_N) for key, record in records.items())
                contents |= {
                    _top_key(key, top_k): ScoreRecord(top_N).to_bytes() for key, top_N in tops if top_N is not None
                }
            today = _today()
            self._connection.executemany(
                "INSERT OR REPLACE INTO scores (model, key, used_day, crc, content) VALUES (?, ?, ?, ?, ?)",
                ((self._model, key, today, zlib.crc32(content), content) for key, content in contents.items()),
            )

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, ScoreRecord]:
        """The entries of those keys that are there and whole, marked as used today."""
        found: dict[bytes, ScoreRecord] = {}
        today = _today()
        for start in range(0, len(keys), _AT_ONCE):
            some = keys[start : start + _AT_ONCE]
            marks = ",".join("?" * len(some))
            rows = self._connection.execute(
                f"SELECT key, crc, content, used_day FROM scores WHERE model = ? AND key IN ({marks})",  # noqa: S608
                (self._model, *some),
            ).fetchall()
            for key, crc, content, _ in rows:
                record = ScoreRecord.from_bytes(content) if zlib.crc32(content) == crc else None
                if record is not None:
                    found[key] = record
            stale = [(today, self._model, key) for key, _, _, day in rows if day != today and key in found]
            self._connection.executemany("UPDATE scores SET used_day = ? WHERE model = ? AND key = ?", stale)
        return found


def _top_key(key: bytes, top_k: int) -> bytes:
    """Key of the entropies of the ``top_k`` most likely entries, from a request's key."""
    return hashlib.sha256(key + f"entropy of the {top_k} likeliest".encode()).digest()


def model_digest(identity: ModelIdentity) -> str:
    """SHA-256 over what tells one model's scores from another's, 64 hex digits; name and revision are no part."""
    return digest_of({part: getattr(identity, part) for part in _KEY_PARTS})


def stored_models(folder: Path | None = None) -> list[StoredModel]:
    """Contents of the store by model, the largest first; empty where there is no store."""
    path = (folder or default_store()) / STORE_FILE
    if not path.is_file():
        return []
    with _opened(path) as connection:
        rows = connection.execute(
            "SELECT m.digest, m.name, COUNT(s.key), COALESCE(SUM(LENGTH(s.content)), 0), COALESCE(MAX(s.used_day), 0)"
            " FROM models m LEFT JOIN scores s ON s.model = m.id GROUP BY m.id ORDER BY 4 DESC, 1"
        ).fetchall()
    return [StoredModel(digest, name, count, size, _date(day)) for digest, name, count, size, day in rows]


def store_size(folder: Path | None = None) -> int:
    """Bytes on disk, write-ahead log included; 0 where there is no store."""
    path = (folder or default_store()) / STORE_FILE
    return sum(part.stat().st_size for part in path.parent.glob(f"{STORE_FILE}*")) if path.parent.is_dir() else 0


def prune_store(
    folder: Path | None = None, *, model: str | None = None, unused_days: int | None = None, everything: bool = False
) -> int:
    """Delete records and give their room back to the disk.

    Args:
        folder: the store; None is the one in the user's cache.
        model: only those of this model: its name, or its digest or the beginning of it.
        unused_days: only those that nothing has used for so many days.
        everything: needed where neither of the two is given.

    Returns:
        Number of records that were deleted; 0 where nothing was chosen.
    """
    path = (folder or default_store()) / STORE_FILE
    if not path.is_file() or (model is None and unused_days is None and not everything):
        return 0
    before_day = _today() + 1 if unused_days is None else _today() - unused_days + 1
    with _opened(path) as connection:
        chosen = connection.execute(
            "SELECT id FROM models WHERE ? IS NULL OR name = ? OR digest LIKE ? || '%'", (model, model, model)
        ).fetchall()
        deleted = 0
        for (number,) in chosen:
            cursor = connection.execute("DELETE FROM scores WHERE model = ? AND used_day < ?", (number, before_day))
            deleted += cursor.rowcount
        connection.execute("DELETE FROM models WHERE id NOT IN (SELECT DISTINCT model FROM scores)")
        connection.commit()
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return deleted


def _connect(path: Path) -> sqlite3.Connection:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(
            f"the score store cannot be made: {error.strerror}", where=str(path.parent), fix="choose another --store"
        ) from None
    with _explained(path):
        connection = sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)
        _into_wal(connection)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        version = int(connection.execute("PRAGMA user_version").fetchone()[0])
        if version not in (0, _FORMAT):
            raise EnvironmentProblem(
                f"the score store has format {version}, this tokensieve knows {_FORMAT}",
                where=str(path),
                fix="choose another --store, or delete it: scores can be made again",
            )
        with connection:
            connection.executescript(_TABLES)
            connection.execute(f"PRAGMA user_version = {_FORMAT}")
    return connection


def _into_wal(connection: sqlite3.Connection) -> None:
    """Switch to the write-ahead log; SQLite does not wait its turn for that by itself when several processes start."""
    deadline = time.monotonic() + _BUSY_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with _explained(path):
        connection = _connect(path)
        try:
            yield connection
        finally:
            connection.close()


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """SQLite's own errors in words that say what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        fix = "make room, or choose another --store; the same command goes on where it stopped"
        raise EnvironmentProblem(f"the score store cannot be used: {error}", where=str(path), fix=fix) from error
    except sqlite3.DatabaseError as error:
        fix = "delete the file: scores can be made again"
        raise EnvironmentProblem(f"the score store is damaged: {error}", where=str(path), fix=fix) from error


def _today() -> int:
    """Days since 1970."""
    return int(time.time() // 86_400)


def _date(day: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(day * 86_400))
