"""Several processes, one folder: each scores its portion of the shards beside the others; the last one joins them.

A portion is written to ``.portions/i-of-N`` inside the result's folder. Whoever finishes and finds all portions
finished moves their shards together, which copies nothing, and writes the manifest. No process waits for another.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

from tokensieve.data.dataset import Rows, ShardRun, in_shards, open_rows_of, read_ahead
from tokensieve.data.manifest import MANIFEST_NAME, Manifest, read_manifest, remove_listed_files, write_atomically
from tokensieve.data.shards import check_empty, check_same_run
from tokensieve.errors import InputError
from tokensieve.launch import Portion
from tokensieve.scoring.account import Account
from tokensieve.scoring.scorer import Scorer, TokenRows
from tokensieve.types import Scored, Tokens

_PORTIONS: Final = ".portions"
_PINNED: Final = "pinned.json"


@dataclass(frozen=True, slots=True)
class Portions:
    """The places of a run by several processes.

    Attributes:
        out: folder of the whole result.
        count: number of processes.
    """

    out: Path
    count: int

    def folder(self, index: int) -> Path:
        """Where one portion is written."""
        return self.out / _PORTIONS / str(Portion(index, self.count))

    @property
    def finished(self) -> bool:
        """Whether every portion is done."""
        return all((self.folder(index) / MANIFEST_NAME).is_file() for index in range(self.count))

    def remove(self) -> None:
        """Remove the portions' folders, whose shards have been moved into the whole."""
        for index in range(self.count):
            remove_listed_files(self.folder(index))
        (self.out / _PORTIONS / _PINNED).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else lies in it, or another process removed it
            (self.out / _PORTIONS).rmdir()

    def pin(self, draft: Manifest) -> Manifest:
        """The draft of the process that came first; all use its token budget, so that shards do not depend on who
        made them.

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
        return Manifest.model_validate_json(path.read_text(encoding="utf-8"))


def score_portion(
    rows: TokenRows,
    scorer: Scorer,
    draft: Manifest,
    out: Path,
    portion: Portion,
    progress: Callable[[int], None] = lambda _: None,
) -> Rows[Scored]:
    """Score the shards of one portion, and join all portions where this was the last one.

    Args:
        rows: those of all portions.
        scorer: who scores them.
        draft: manifest of the whole result as far as it is known.
        out: folder of the whole result.
        portion: which shards are this process's.
        progress: called with the number of rows that were passed, of all portions, after every shard.

    Returns:
        All rows where the whole is finished, else those of this portion.
    """
    portions = Portions(out, portion.count)
    if (out / MANIFEST_NAME).is_file():
        check_same_run(read_manifest(out), draft, out)
        return open_rows_of(Scored, out)
    if not (out / _PORTIONS).is_dir():
        check_empty(out)
    if not portions.finished:
        pinned = portions.pin(draft)
        scorer = replace(scorer, backend=scorer.backend.pinned(pinned.facts))
        # The other parts of the draft are checked against what this process was asked for.
        draft = draft.model_copy(update={"facts": pinned.facts})
        mine, done = Account(draft), 0

        def passed(shard: Sequence[Tokens | Scored]) -> None:
            nonlocal done
            done += len(shard)
            progress(done)

        with ShardRun[Scored](portions.folder(portion.index), draft) as run:
            run.make(
                read_ahead(in_shards(cast(Iterable[Tokens | Scored], rows), scorer.settings.shard_rows)),
                lambda shard: mine.kept(shard, scorer.score(shard)),
                recall=mine.recall,
                passed=passed,
                has=portion.has,
            )
            part = run.finish(mine.counts)
        if not portions.finished:
            return part
    return join(portions, rows.manifest)


def join(portions: Portions, source: Manifest) -> Rows[Scored]:
    """Move the shards of all portions into one folder, with one manifest; going on where a killed join stopped."""
    manifests = [read_manifest(portions.folder(index)) for index in range(portions.count)]
    shards = sorted((shard for manifest in manifests for shard in manifest.shards), key=lambda shard: shard.name)
    for index, manifest in enumerate(manifests):
        for shard in manifest.shards:
            written = portions.folder(index) / shard.name
            try:
                written.replace(portions.out / shard.name)
            except FileNotFoundError:  # moved already, by a join that was killed or that runs beside this one
                continue
    account = Account(source)
    for manifest in manifests:
        account.add(manifest.counts)
    whole = manifests[0].model_copy(update={"counts": account.counts, "shards": tuple(shards)})
    whole.write(portions.out)
    portions.remove()
    return open_rows_of(Scored, portions.out)
