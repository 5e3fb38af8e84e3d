"""Rows of a benchmark, from a local folder in the published format or from the Hub."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from tokensieve.errors import InputError
from tokensieve.types import JSON

if TYPE_CHECKING:
    from tokensieve.data.formats.hub import HubName

_PINNED: Final[dict["HubName", "HubName"]] = {}
"""Each data set that was read from the Hub, with its commit."""
_LISTENING: Final[ContextVar[tuple[dict[str, str], ...]]] = ContextVar("listening", default=())


@dataclass(frozen=True, slots=True)
class Row:
    """One row as published, with the place it came from.

    Attributes:
        fields: its columns.
        where: file and line, or data set and number, for messages.
    """

    fields: Mapping[str, JSON]
    where: str

    def text(self, name: str) -> str:
        """A column that must be text.

        Raises:
            InputError: it is missing or something else.
        """
        value = self.fields.get(name)
        if not isinstance(value, str):
            raise InputError(f"expected text in {name!r}, got {_kind(value)}", where=self.where)
        return value

    def number(self, name: str) -> int:
        """A column that must be a whole number.

        Raises:
            InputError: it is missing or something else.
        """
        value = self.fields.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(f"expected a whole number in {name!r}, got {_kind(value)}", where=self.where)
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A column that must be a list of texts.

        Raises:
            InputError: it is missing or something else.
        """
        return texts(self.fields.get(name), name, self.where)


def texts(value: JSON, name: str, where: str) -> tuple[str, ...]:
    """A list of texts as a tuple.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, list):
        raise InputError(f"expected a list of texts in {name!r}, got {_kind(value)}", where=where)
    found = tuple(item for item in value if isinstance(item, str))
    if len(found) != len(value):
        raise InputError(f"expected only texts in the list {name!r}", where=where)
    return found


def require_split(task: str, split: str, splits: Sequence[str]) -> None:
    """Refuse a split that the task does not have.

    Raises:
        InputError: names those it has.
    """
    if split not in splits:
        raise InputError(f"{task} has no split {split!r}; it has: {', '.join(splits)}", where="split")


def find_file(folder: Path, benchmark: str, *names: str) -> Path:
    """The first of these files that is there, also packed as ``.gz``.

    Args:
        folder: the benchmark's folder, or one that holds it beside others.
        benchmark: the name of the benchmark's folder there.
        names: file names, the preferred one first.

    Raises:
        InputError: none is.
    """
    for name in names:
        for place in (folder / name, folder / benchmark / name):
            for candidate in (place, place.with_name(f"{place.name}.gz")):
                if candidate.is_file():
                    return candidate
    if not folder.is_dir():
        raise InputError("no such folder", where=str(folder), fix="--data FOLDER with the published files")
    wanted = " or ".join(names)
    raise InputError(
        f"expected {wanted} in this folder, or in its folder {benchmark}",
        where=str(folder),
        fix="--data FOLDER with the published files",
    )


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file: JSON lines, one JSON array, CSV or Parquet, the text ones also compressed.

    Raises:
        InputError: there is no file, it is damaged, or a row is no JSON object; names file and line (from 1).
    """
    from tokensieve.data.formats.files import read_file

    if not path.is_file():
        raise InputError("no such file", where=str(path))
    for located in read_file(path):
        yield Row(cast("Mapping[str, JSON]", located.record), located.where)


def from_hub(repo: str, split: str, *, name: str | None = None) -> Iterator[Row]:
    """The rows of a data set on the Hugging Face Hub at the commit of its main branch, or of its copy in the cache.

    The commit is asked for once a process, so that all passes read the same rows, and told to ``hub_commits``.

    Args:
        repo: the repository.
        split: one of its splits.
        name: one of several data sets that it holds.

    Raises:
        InputError: no such data set or split, or no access to it.
        EnvironmentProblem: the Hub cannot be reached, and the cache has no copy.
    """
    from tokensieve.data.formats.hub import HubName, download

    asked = HubName(repo, name)
    data_set, rows = download(_PINNED.get(asked, asked), split)
    _PINNED[asked] = data_set
    for commits in _LISTENING.get():
        commits[str(asked)] = data_set.revision or "unknown"
    for number, record in enumerate(rows):
        yield Row(cast("Mapping[str, JSON]", record), f"{data_set} ({split}), row {number}")


@contextmanager
def hub_commits() -> Iterator[dict[str, str]]:
    """The commits of the data sets that are read from the Hub in this context, by the data set's name."""
    commits: dict[str, str] = {}
    token = _LISTENING.set((*_LISTENING.get(), commits))
    try:
        yield commits
    finally:
        _LISTENING.reset(token)


def _kind(value: object) -> str:
    from tokensieve.data.formats.fields import json_kind

    return json_kind(value)
