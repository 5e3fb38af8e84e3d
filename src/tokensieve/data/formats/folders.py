"""Folders of data: the files of one split, and what the datasets library saved."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import pyarrow as pa

from tokensieve.data.formats.files import SUFFIXES, Located, read_file, suffix_of, without_nulls
from tokensieve.errors import InputError

DEFAULT_SPLIT: Final = "train"
INFO_NAME: Final = "dataset_info.json"

_SPLITS: Final[Mapping[str, str]] = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
    "holdout": "test",
    "heldout": "test",
}
"""Words in the names of files and folders that name a split, and the Hub's name for it, as in the datasets library."""

_ENDINGS: Final = ("data", "set", "s")
"""Endings with which such a word is written too: ``testset``, ``traindata``, ``evals``."""

_BETWEEN_WORDS: Final = re.compile(r"[-._ 0-9]+|(?<=[a-z])(?=[A-Z])")
_SHARD: Final = re.compile(r"(?P<split>\w[\w.]*)-\d{5}-of-\d{5}")
_NO_DATA: Final = {INFO_NAME, "dataset_infos.json", "dataset_dict.json", "state.json"}
_TEXTS_ABOUT_DATA: Final = {".md", ".py", ".yaml", ".yml", ".toml", ".png", ".jpg", ".svg", ".pdf"}
_NO_SPLITS_FIX: Final = "leave --split out, or name the split's own file or folder"


@dataclass(frozen=True, slots=True)
class SplitFiles:
    """The files of one split in a folder.

    Attributes:
        files: in the order of their paths.
        passed_over: files that belong to no split, or are of no known kind.
    """

    files: tuple[Path, ...]
    passed_over: tuple[Path, ...] = ()


def files_of_split(folder: Path, split: str) -> SplitFiles:
    """The files of a folder, and of those in it, that hold one split, by their names.

    Where no name tells a split, all files are the split ``train``, as in the datasets library.

    Raises:
        InputError: there is no file, no such split, or a name that tells two.
    """
    every = sorted(path for path in folder.rglob("*") if path.is_file() and _is_visible(path.relative_to(folder)))
    data = [path for path in every if suffix_of(path) and path.name not in _NO_DATA]
    others = [path for path in every if not suffix_of(path) and _may_be_data(path)]
    if not data:
        raise InputError(f"the folder holds no file of the kinds {', '.join(SUFFIXES)}", where=str(folder))
    by_split: dict[str, list[Path]] = {}
    for path in data:
        by_split.setdefault(split_in_name(path.relative_to(folder)), []).append(path)
    unnamed = by_split.pop("", [])
    if not by_split:
        _check_only_split(folder, split)
        return SplitFiles(tuple(unnamed), tuple(others))
    if split in by_split:
        return SplitFiles(tuple(by_split[split]), (*unnamed, *others))
    same = [name for name in by_split if _meaning(name) == _meaning(split)]
    if not same:
        more = f"; of no split: {', '.join(path.name for path in unnamed[:5])}" if unnamed else ""
        raise InputError(
            f"no split {split!r}; by the names of its files there are: {', '.join(sorted(by_split))}{more}",
            where=str(folder),
            fix="--split NAME, or name the file itself",
        )
    return SplitFiles(tuple(sorted(path for name in same for path in by_split[name])), (*unnamed, *others))


def notes_on_split(path: Path, split: str) -> tuple[str, ...]:
    """Notes on a single file's split: the file is read whatever its name tells, since it was named itself.

    Raises:
        InputError: a split was asked for, and the file's name does not tell it.
    """
    if split == DEFAULT_SPLIT:
        others = [word for word in _words(path.stem) if _meaning(word) != DEFAULT_SPLIT]
        return tuple(f"file whose name tells the split {word!r}, read as it was named" for word in others)
    if _meaning(split_in_name(Path(path.parent.name, path.name))) != _meaning(split):
        raise InputError(f"a single file has no split {split!r}", where=str(path), fix=_NO_SPLITS_FIX)
    return ()


def _check_only_split(folder: Path, split: str) -> None:
    """Refuse a split of a folder in which no name tells one, but the folder's own."""
    if _meaning(split) not in (DEFAULT_SPLIT, _meaning(split_in_name(Path(folder.resolve().name)))):
        raise InputError(
            f"no split {split!r}: the names of the files tell no splits", where=str(folder), fix=_NO_SPLITS_FIX
        )


def split_in_name(path: Path) -> str:
    """The split that a file's path tells, in the path's own word; empty where it tells none.

    The file's name counts first, then its folders from the innermost. ``SPLIT-00000-of-00002`` is a shard of that
    split where it lies in a folder named ``data``, as on the Hub, or where its words tell one.

    Raises:
        InputError: the file's name tells two splits.
    """
    stem = path.name[: path.name.lower().index(suffix_of(path))] if suffix_of(path) else path.name
    shard = _SHARD.fullmatch(stem)
    if shard and (path.parent.name == "data" or _words(shard["split"])):
        return shard["split"]
    for part in (stem, *reversed(path.parent.parts)):
        words = _words(part)
        if len({_SPLITS[word] for word in words}) > 1:
            raise InputError(
                f"the name tells two splits: {', '.join(words)}",
                where=str(path),
                fix="rename it, or name the file itself",
            )
        if words:
            return words[0]
    return ""


def _words(name: str) -> list[str]:
    words = (
        word.lower()
        for word in _BETWEEN_WORDS.split(name.replace("held_out", "heldout").replace("hold_out", "holdout"))
    )
    return [stem for word in words if (stem := _without_ending(word)) in _SPLITS]


def _without_ending(word: str) -> str:
    """The word of a split in another one, such as ``test`` in ``testset``."""
    for ending in ("", *_ENDINGS):
        if (stem := word.removesuffix(ending)) in _SPLITS:
            return stem
    return word


def _meaning(split: str) -> str:
    return _SPLITS.get(split.lower(), split)


def _is_visible(path: Path) -> bool:
    return not any(part.startswith((".", "__")) for part in path.parts)


def _may_be_data(path: Path) -> bool:
    return path.suffix.lower() not in _TEXTS_ABOUT_DATA and path.stem.upper() not in ("README", "LICENSE", "LICENCE")


def read_files(files: tuple[Path, ...]) -> Iterator[Located]:
    """The records of several files, one after another.

    Raises:
        InputError: a file is damaged.
    """
    first = 0
    for path in files:
        for located in read_file(path, first):
            yield located
            first = located.index + 1


# --- saved by the datasets library ----------------------------------------------------------------------------------


def is_saved(folder: Path) -> bool:
    """True where the folder was written by ``save_to_disk`` of the datasets library."""
    return (folder / "dataset_dict.json").is_file() or all((folder / n).is_file() for n in (INFO_NAME, "state.json"))


def read_saved(folder: Path, split: str) -> Iterator[Located]:
    """The rows that ``save_to_disk`` wrote; of several splits the one that is asked for.

    Raises:
        InputError: it is damaged, or has no such split.
    """
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:
        raise InputError(f"the saved data set is damaged: {error}", where=str(folder)) from None
    if isinstance(loaded, dict):
        loaded = split_of_dict(loaded, split, str(folder))
    elif split != DEFAULT_SPLIT and str(loaded.split) != split:
        raise InputError(
            f"no split {split!r}: one data set was saved, without others", where=str(folder), fix=_NO_SPLITS_FIX
        )
    for index, record in enumerate(loaded):
        yield Located(without_nulls(record), index, f"{folder}, row {index + 1}")


T = TypeVar("T")


def split_of_dict(splits: Mapping[str, T], split: str, where: str) -> T:
    """One of several data sets by the name of its split.

    Raises:
        InputError: no such split; lists those that are there.
    """
    if split not in splits:
        raise InputError(
            f"no split {split!r}; there are: {', '.join(map(str, splits))}", where=where, fix="--split NAME"
        )
    return splits[split]
