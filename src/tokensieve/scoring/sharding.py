"""The folder of a scoring run: its manifest, the count of its rows, and the portions of several processes.

Each process scores its portion of the shards beside the others, into ``.portions/i-of-N`` in the result's folder. The
process that finishes and finds all portions finished moves their shards together, which copies nothing, and writes the
manifest. No process waits.
"""

import contextlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokensieve.config import ScoreSettings
from tokensieve.data.dataset import Rows, open_rows_of
from tokensieve.data.listed_files import remove_listed_files
from tokensieve.data.manifest import (
    MANIFEST_NAME,
    Counts,
    Manifest,
    package_versions,
    read_manifest,
    write_atomically,
)
from tokensieve.data.row_counts import Tally
from tokensieve.data.shards import FinishedShard, check_empty, check_same_run
from tokensieve.errors import InputError
from tokensieve.launch import Portion
from tokensieve.scoring.backend import Backend
from tokensieve.types import JSON, Progress, Scored, Tokens

TOO_LARGE: Final = "does not fit into memory"
_PORTIONS: Final = ".portions"
_PINNED: Final = "pinned.json"


NO_PART_OF_THE_RESULT: Final = {"store", "use_store", "token_budget", "packing"}
"""Settings that change how the work is done; the folder of a run may be taken up with others."""


def draft_manifest(rows: Rows[Tokens | Scored], backend: Backend, settings: ScoreSettings) -> Manifest:
    """The manifest as far as it is known before the first row is scored."""
    facts: dict[str, JSON] = {**rows.manifest.facts, **backend.facts}
    _add(facts, "scorers", settings.scorer, backend.identity.model_dump(mode="json"))
    if settings.entropy_top_k is not None:
        _add(facts, "entropy_top_k", settings.scorer, settings.entropy_top_k)
    return Manifest(
        stage="scored",
        settings=settings.model_dump(mode="json", exclude=NO_PART_OF_THE_RESULT),
        inputs={"tokens": rows.manifest.digest},
        model=backend.identity,
        versions=dict(package_versions()),
        facts=facts,
    )


def _add(facts: dict[str, JSON], name: str, scorer: str, value: JSON) -> None:
    """Put a scorer's value beside those of earlier scorers."""
    earlier = facts.get(name)
    facts[name] = {**(earlier if isinstance(earlier, dict) else {}), scorer: value}


@dataclass(frozen=True, slots=True)
class Portions:
    """Folders of a run by several processes.

    Attributes:
        out: folder of the whole result.
        count: number of processes.
    """

    out: Path
    count: int

    def folder(self, index: int) -> Path:
        """Folder of one portion."""
        return self.out / _PORTIONS / str(Portion(index, self.count))

    @property
    def finished(self) -> bool:
        """True where every portion is done."""
        return all((self.folder(index) / MANIFEST_NAME).is_file() for index in range(self.count))

    @staticmethod
    def of(out: Path | None, portion: Portion) -> "Portions":
        """The portions of which one is given.

        Raises:
            InputError: there is no folder to put them into.
        """
        if out is None:
            raise InputError("several processes need a folder to put their shards together in", fix="give --out")
        return Portions(out, portion.count)

    def result(self, draft: Manifest, source: Manifest) -> Rows[Scored] | None:
        """The whole result where it is there already, or can be joined; ``source`` is the manifest of what is scored.

        Raises:
            InputError: the folder holds the result of another run, or something else.
        """
        if (self.out / MANIFEST_NAME).is_file():
            check_same_run(read_manifest(self.out), draft, self.out)
            return open_rows_of(Scored, self.out)
        if not (self.out / _PORTIONS).is_dir():
            check_empty(self.out)
        return self.join(source) if self.finished else None

    def remove(self) -> None:
        """Remove the portions' folders, whose shards have been moved into the whole."""
        for index in range(self.count):
            with contextlib.suppress(InputError):  # another process that joins removed it first
                remove_listed_files(self.folder(index))
        (self.out / _PORTIONS / _PINNED).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else lies in it, or another process removed it
            (self.out / _PORTIONS).rmdir()

    def pin(self, draft: Manifest) -> Manifest:
        """The draft with the facts of the process that came first: all use its token budget, so that a shard does not
        depend on the process that scored it.

        Raises:
            InputError: another run, or one by another number of processes, is under way here.
        """
        path = self.out / _PORTIONS / _PINNED
        others = [p.name for p in path.parent.glob("*-of-*") if not p.name.endswith(f"-of-{self.count}")]
        if others:
            raise InputError(
                f"this run was begun by another number of processes ({others[0]}), not {self.count}",
                where=str(self.out),
                fix="start as many as before, or delete the folder",
            )
        mine = path.with_name(f".{_PINNED}.{os.getpid()}")
        write_atomically(mine, draft.model_dump_json().encode())
        try:
            os.link(mine, path)  # fails where another process was first: its draft counts
        except FileExistsError:
            pass
        finally:
            mine.unlink()
        pinned = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        # The other parts of the draft are checked against what this process was asked for.
        return draft.model_copy(update={"facts": pinned.facts})

    def join(self, source: Manifest) -> Rows[Scored]:
        """Move the shards of all portions into one folder, with one manifest; going on where a killed join stopped."""
        manifests = [read_manifest(self.folder(index)) for index in range(self.count)]
        shards = sorted((shard for manifest in manifests for shard in manifest.shards), key=lambda shard: shard.name)
        for index, manifest in enumerate(manifests):
            for shard in manifest.shards:
                written = self.folder(index) / shard.name
                try:
                    written.replace(self.out / shard.name)
                except FileNotFoundError:  # moved already, by a join that was killed or that runs beside this one
                    continue
        account = RowAccount(source)
        for manifest in manifests:
            account.add(manifest.counts)
        whole = manifests[0].model_copy(update={"counts": account.counts, "shards": tuple(shards)})
        whole.write(self.out)
        self.remove()
        return open_rows_of(Scored, self.out)


class RowAccount:
    """Row counts of a scoring run, shard by shard; rows that were dropped on the way to tokens stay counted.

    Args:
        source: manifest of the rows that are scored.
        others: True where other processes score other shards; the dropped rows of the source are counted once, when
            all portions are joined.
    """

    def __init__(self, source: Manifest, *, others: bool = False) -> None:
        self._earlier = source.counts if source.stage == "tokens" and not others else Counts()
        self._tally = Tally()
        self._passed = 0

    def passed(self, shard: Sequence[Tokens | Scored], total: int, progress: Progress | None) -> None:
        """Count a shard as done, whoever scored it, and report the progress."""
        self._passed += len(shard)
        if progress is not None:
            progress(self._passed, total)

    @property
    def counts(self) -> Counts:
        """For the manifest."""
        counts = self._tally.counts
        before = self._earlier
        return before.model_copy(
            update={
                "rows_in": counts.rows_in + sum(before.dropped.values()),
                "rows_out": counts.rows_out,
                "dropped": {**before.dropped, **counts.dropped},
                "dropped_ids": {**before.dropped_ids, **counts.dropped_ids},
            }
        )

    def kept(self, rows: Sequence[Tokens | Scored], scored: Sequence[Scored | None]) -> list[Scored]:
        """A shard's scored rows; those that are None are counted out."""
        for row, one in zip(self._tally.counted(rows), scored, strict=True):
            if one is None:
                self._tally.drop(TOO_LARGE, _id(row))
        return [one for one in scored if one is not None]

    def recall(self, rows: Sequence[Tokens | Scored], shard: FinishedShard[Scored]) -> None:
        """Count a shard that an earlier start finished; it is read only where it lacks rows."""
        kept_ids: Iterable[str] = map(_id, rows)
        if shard.rows < len(rows):
            kept_ids = (row.tokens.id for row in shard.read())
        kept = set(kept_ids)
        for row in self._tally.counted(rows):
            if _id(row) not in kept:
                self._tally.drop(TOO_LARGE, _id(row))

    def add(self, other: Counts) -> None:
        """Count the rows of another process's portion."""
        self._tally.rows_in += other.rows_in
        for reason, count in other.dropped.items():
            ids = other.dropped_ids.get(reason, [])
            for number in range(count):
                self._tally.drop(reason, ids[number] if number < len(ids) else "")


def _id(row: Tokens | Scored) -> str:
    return row.tokens.id if isinstance(row, Scored) else row.id
