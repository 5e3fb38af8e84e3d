"""Rows of a stage, in memory or in a folder of Parquet shards with a manifest; and the one runner that makes them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Generic, TypeVar

from tokensieve.data.arrow_io import R, StageRow
from tokensieve.data.manifest import Counts, Manifest, Shard, Stage, read_manifest
from tokensieve.data.shards import FinishedShard, FolderWriter, ids_in_footer, read_shard
from tokensieve.errors import InputError
from tokensieve.types import BASE_SCORER, JSON, Anchor, Example, Sample, Scored, Selected, Tokens

S = TypeVar("S")
R_co = TypeVar("R_co", bound=StageRow, covariant=True)

_SHARD_ROWS: Final = 512
_STAGES: Final[Mapping[type, tuple[Stage, ...]]] = {
    Example: ("examples",),
    Tokens: ("tokens",),
    Scored: ("scored",),
    Selected: ("selected",),
    Sample: ("samples", "evaluated"),
    Anchor: ("anchors",),
}
"""Stages by the type of their rows."""

_MADE_BY: Final[Mapping[Stage, str]] = {
    "examples": "tokensieve generate TASK --out FOLDER",
    "tokens": 'tokensieve.load(DATA, MODEL, out=Path("FOLDER"))',
    "scored": "tokensieve score DATA --model MODEL --out FOLDER",
    "selected": "tokensieve select SCORED --out FOLDER",
    "samples": "tokensieve generate TASK --out FOLDER",
    "evaluated": "tokensieve evaluate TASK --model MODEL --out FOLDER",
    "anchors": "tokensieve anchors SELECTED --model MODEL --out FOLDER",
}
"""The command, or call, that makes a folder of each stage's rows."""

_RETURNED_BY: Final[Mapping[Stage, str]] = {
    "tokens": "tokensieve.load(DATA, MODEL)",
    "scored": "tokensieve.score(DATA, MODEL)",
    "selected": "tokensieve.select(tokensieve.score(DATA, MODEL))",
}
"""The call that returns each stage's rows."""


@dataclass(frozen=True, slots=True, repr=False)
class Rows(Generic[R_co]):
    """Rows of one stage and the manifest that says how they were made.

    In memory or on disk: iterating a folder's rows reads one shard at a time, so memory does not grow with
    their number. Can be iterated any number of times.

    Attributes:
        manifest: the stage's record.
        iterate: starts a fresh pass over the rows.
        folder: where they lie; None in memory.
        held: the rows themselves where they are in memory.
    """

    manifest: Manifest
    iterate: Callable[[], Iterator[R_co]]
    folder: Path | None = None
    held: Sequence[R_co] | None = None

    def __iter__(self) -> Iterator[R_co]:
        return self.iterate()

    def __len__(self) -> int:
        return self.manifest.counts.rows_out

    def __repr__(self) -> str:
        """Stage, rows, tokens and share trained as far as they are known without reading the rows."""
        parts = [f"{len(self):,} row{'' if len(self) == 1 else 's'}"]
        if (tokens := self._tokens()) is not None:
            parts.append(f"{tokens:,} tokens")
        trained, response = (self.manifest.facts.get(name) for name in ("trained_tokens", "response_tokens"))
        if isinstance(trained, int) and isinstance(response, int) and response:
            parts.append(f"{trained / response:.1%} of {response:,} response tokens trained")
        place = "" if self.folder is None else f" in {self.folder}"
        return f"<Rows {self.manifest.stage}: {', '.join(parts)}{place}>"

    def _tokens(self) -> int | None:
        """Number of tokens: counted in memory, from the Parquet footers in a folder; None where it is not known."""
        if self.held is not None:
            tokens = [row if isinstance(row, Tokens) else getattr(row, "tokens", None) for row in self.held]
            return None if None in tokens else sum(len(one) for one in tokens if one is not None)
        if self.folder is None or self.manifest.stage in ("examples", "samples", "evaluated"):
            return None
        try:
            return sum(ids_in_footer(self.folder / shard.name) for shard in self.manifest.shards)
        except (OSError, ValueError):  # a shard that is missing or damaged: reading the rows will say so
            return None

    def shards(self) -> Iterator[Callable[[], list[R_co]]]:
        """A reader for each shard of the folder, in their order; a single one in memory."""
        if self.folder is None:
            yield lambda: list(self)
            return
        for shard in self.manifest.shards:
            yield self._reader(self.folder, shard)

    def _reader(self, folder: Path, shard: Shard) -> Callable[[], list[R_co]]:
        return lambda: read_shard(folder, shard, self.manifest)

    def save(self, folder: str | Path) -> "Rows[R_co]":
        """Write the rows as a stage's folder, and return them as read from there."""
        with ShardRun[R_co](Path(folder), self.manifest) as run:
            run.make(in_shards(self, _SHARD_ROWS), list)
            return run.finish(self.manifest.counts)


def in_memory(rows: Sequence[R], manifest: Manifest) -> Rows[R]:
    """Rows that are held in memory; the manifest's ``rows_out`` is set to their number."""
    counts = manifest.counts.model_copy(update={"rows_out": len(rows)})
    return Rows(manifest.model_copy(update={"counts": counts}), lambda: iter(rows), held=rows)


def open_rows(folder: str | Path) -> Rows[StageRow]:
    """Rows of a finished stage's folder, whichever stage it is, read shard by shard.

    Raises:
        InputError: no finished folder there, or (while iterating) a shard that is damaged, by name.
    """
    return _opened(Path(folder))


def _opened(folder: Path) -> Rows[R]:
    """The folder's rows, of the type that its stage makes: the caller knows the stage."""
    manifest = read_manifest(folder)

    def iterate() -> Iterator[R]:
        for shard in manifest.shards:
            yield from read_shard(folder, shard, manifest)

    return Rows(manifest, iterate, folder)


def open_rows_of(kind: type[R], folder: str | Path) -> Rows[R]:
    """Rows of a finished stage's folder that must be of one type, e.g. ``open_rows_of(Scored, "runs/scored")``.

    Raises:
        InputError: no finished folder there, or one of another stage.
    """
    rows: Rows[R] = _opened(Path(folder))
    stages = _STAGES[kind]
    if rows.manifest.stage not in stages:
        raise InputError(
            f"expected the folder of a stage that makes {stages[0]} rows, got one of {rows.manifest.stage} rows",
            where=str(folder),
            fix=_MADE_BY.get(stages[0]),
        )
    return rows


def as_rows(kind: type[R], given: object) -> Rows[R]:
    """Rows of one stage as a caller gives them: in memory, or the folder that they lie in.

    Raises:
        InputError: rows of another stage, or something else.
    """
    if isinstance(given, str | Path):
        return open_rows_of(kind, given)
    stages = _STAGES[kind]
    if isinstance(given, Rows) and given.manifest.stage in stages:
        return given
    came = f"{given.manifest.stage} rows" if isinstance(given, Rows) else type(given).__name__
    raise InputError(f"expected {stages[0]} rows, got {came}", fix=_RETURNED_BY.get(stages[0]))


def as_training_rows(given: object) -> Rows[Selected]:
    """Selected rows; or anchors, with every response token trained, so that any trainer can rehearse them.

    Args:
        given: rows of either stage, or their folder.

    Raises:
        InputError: rows of another stage, or something else.
    """
    rows = open_rows(given) if isinstance(given, str | Path) else given
    if isinstance(rows, Rows) and rows.manifest.stage == "anchors":
        return _trained(rows)
    return as_rows(Selected, given)


def _trained(anchors: Rows[Anchor]) -> Rows[Selected]:
    """The anchors' tokens as a selection by the policy plain; without scores, which nothing has been left out by."""
    settings = {**anchors.manifest.settings, "policy": "plain", "scorer": BASE_SCORER}
    manifest = anchors.manifest.model_copy(update={"stage": "selected", "settings": settings, "facts": {}})

    def iterate() -> Iterator[Selected]:
        for anchor in anchors:
            yield Selected(Scored(anchor.tokens, {}), anchor.tokens.in_response_T.copy())

    return Rows(manifest, iterate, anchors.folder)


def in_shards(rows: Iterable[R], size: int) -> Iterator[list[R]]:
    """Consecutive groups of ``size`` rows; the last may be shorter, none is empty."""
    shard: list[R] = []
    for row in rows:
        shard.append(row)
        if len(shard) == size:
            yield shard
            shard = []
    if shard:
        yield shard


class ShardRun(Generic[R]):
    """One stage's run over its shards, resumable: the loop that every stage with a folder goes through.

    In a folder, shards that an earlier start finished are not made again, and each shard is written in the background
    while the next is made; a kill costs the shard that is being made and the one that is being written. In memory,
    rows are gathered.

    Args:
        out: folder of the result; None keeps the rows in memory.
        draft: the manifest as far as it is known; settings, inputs and model are pinned at the first start.

    Raises:
        InputError: the folder belongs to another run, or holds something else.
    """

    def __init__(self, out: Path | None, draft: Manifest) -> None:
        self.draft = draft
        self._writer = None if out is None else FolderWriter(out, draft)
        self._gathered: list[R] = []
        if self._writer is not None:
            self.draft = self._writer.draft

    def __enter__(self) -> "ShardRun[R]":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.__exit__(kind, error, at)

    @property
    def finished(self) -> "Rows[R] | None":
        """The result, where an earlier start finished it and all its shards are sound."""
        if self._writer is None or not self._writer.finished:
            return None
        return _opened(self._writer.folder)

    def make(
        self,
        inputs: Iterable[S],
        make: Callable[[S], Sequence[R]],
        *,
        recall: Callable[[S, FinishedShard[R]], None] = lambda _, __: None,
        passed: Callable[[S], None] = lambda _: None,
        has: Callable[[int], bool] = lambda _: True,
        write_behind: bool = True,
    ) -> None:
        """Make every shard that is not there yet.

        Args:
            inputs: what each shard is made from, in an order that every start keeps.
            make: makes a shard's rows.
            recall: called in place of ``make`` for a shard that is there, so that it can be accounted for.
            passed: called after each shard, made or not; for progress.
            has: says by a shard's index whether it is this process's; the others are passed over.
            write_behind: write a shard while the next is made. False waits for the file, where a shard takes minutes
                to make, so that a kill costs one of them at most.

        Raises:
            EnvironmentProblem: the disk is full or refuses.
        """
        with ThreadPoolExecutor(max_workers=1) as background:
            writing: Future[Shard] | None = None
            for index, item in enumerate(inputs):
                if self._writer is not None and has(index) and self._writer.has(index):
                    recall(item, self._writer.finished_shard(index))
                elif has(index):
                    made = make(item)
                    if writing is not None:
                        writing.result()
                    if self._writer is None:
                        self._gathered += made
                    else:
                        writing = background.submit(self._writer.write, index, made)
                        if not write_behind:
                            writing.result()
                passed(item)
            if writing is not None:
                writing.result()

    def finish(self, counts: Counts, facts: Mapping[str, JSON] | None = None) -> Rows[R]:
        """Write the manifest with counts and further facts, and return the rows."""
        if self._writer is None:
            facts = {**self.draft.facts, **(facts or {})}
            return in_memory(self._gathered, self.draft.model_copy(update={"counts": counts, "facts": facts}))
        self._writer.finish(counts, facts)
        return _opened(self._writer.folder)
