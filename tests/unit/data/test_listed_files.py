"""A result that takes the place of an earlier one removes the files that the earlier manifest lists, and no other."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tokensieve.data.listed_files import (
    check_replaceable,
    files_in,
    listed_files,
    remove_listed_files,
    replace_listed_files,
)
from tokensieve.data.manifest import MANIFEST_NAME, Manifest, read_manifest
from tokensieve.errors import InputError

OLD = {"train.py": "old", "README.md": "old", "data/train.parquet": "old rows", "data/old/part.arrow": "old part"}
NEW = {"axolotl.yaml": "new", "README.md": "new", "data/train.jsonl": "new rows"}


def written(folder: Path, files: dict[str, str]) -> Path:
    """A folder as a stage leaves it."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    Manifest(stage="exported", facts={"files": dict(files_in(folder))}).write(folder)
    return folder


def put(path: Path, text: str = "mine") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != MANIFEST_NAME
    }


@pytest.mark.parametrize("mine", ["adapter/weights.bin", "data/notes.txt", ".hidden", "data/old/mine", "runs/1/log"])
def test_a_file_that_the_manifest_does_not_list_stays(tmp_path: Path, mine: str) -> None:
    folder = written(tmp_path / "x", OLD)
    put(folder / mine)
    check_replaceable(folder, "exported")
    replace_listed_files(folder, written(tmp_path / "new", NEW))
    assert contents(folder) == {**NEW, mine: "mine"}
    assert set(listed_files(read_manifest(folder))) == set(NEW)


def _changed(folder: Path) -> None:
    put(folder / "train.py", "learning_rate=1e-3")


def _other_stage(folder: Path) -> None:
    Manifest(stage="trained").write(folder)


def _without_manifest(folder: Path) -> None:
    (folder / MANIFEST_NAME).unlink()


def _without_list(folder: Path) -> None:
    Manifest(stage="exported").write(folder)


def _outside(folder: Path) -> None:
    Manifest(stage="exported", facts={"files": {"../thesis.tex": "0" * 64}}).write(folder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_changed, r"changed since it was written, and would be lost: train\.py"),
        (_other_stage, "earlier result"),
        (_without_manifest, "earlier result"),
        (_without_list, "earlier result"),
        (_outside, "earlier result"),
    ],
)
def test_what_would_be_lost_is_refused(tmp_path: Path, change: Callable[[Path], None], said: str) -> None:
    folder = written(tmp_path / "x", OLD)
    change(folder)
    before = contents(folder)
    with pytest.raises(InputError, match=said):
        check_replaceable(folder, "exported")
    assert contents(folder) == before


def test_a_new_file_does_not_overwrite_one_that_nothing_lists(tmp_path: Path) -> None:
    folder = written(tmp_path / "x", OLD)
    put(folder / "axolotl.yaml")
    with pytest.raises(InputError, match=r"not written by tokensieve, and would be overwritten: axolotl\.yaml"):
        replace_listed_files(folder, written(tmp_path / "new", NEW))
    assert contents(folder) == {**OLD, "axolotl.yaml": "mine"}


@pytest.mark.parametrize("killed_at", range(8))
def test_a_replacement_that_was_killed_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    folder = written(tmp_path / "x", OLD)
    put(folder / "adapter/weights.bin")
    steps = 0

    def counted(name: str) -> None:
        real: Callable[..., object] = getattr(Path, name)

        def step(self: Path, *arguments: object, **options: object) -> object:
            nonlocal steps
            if folder in self.parents or tmp_path / "new" in self.parents:
                if steps == killed_at:
                    raise KeyboardInterrupt
                steps += 1
            return real(self, *arguments, **options)

        monkeypatch.setattr(Path, name, step)

    new = written(tmp_path / "new", NEW)
    with monkeypatch.context() as patch:
        monkeypatch = patch
        counted("unlink")
        counted("replace")
        with pytest.raises(KeyboardInterrupt):
            replace_listed_files(folder, new)
    check_replaceable(folder, "exported")
    replace_listed_files(folder, written(tmp_path / "again", NEW))
    assert contents(folder) == {**NEW, "adapter/weights.bin": "mine"}
    assert json.loads((folder / MANIFEST_NAME).read_text())["stage"] == "exported"


def test_missing_and_empty_folders_take_a_result(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("missing", "empty"):
        check_replaceable(tmp_path / name, "exported")
        replace_listed_files(tmp_path / name, written(tmp_path / "new", NEW))
        assert contents(tmp_path / name) == NEW


def test_removal_takes_what_is_listed_and_the_folder_only_where_it_is_empty(tmp_path: Path) -> None:
    folder = written(tmp_path / "x", OLD)
    put(folder / "data/mine")
    remove_listed_files(folder)
    assert contents(folder) == {"data/mine": "mine"}
    remove_listed_files(folder)
    remove_listed_files(written(tmp_path / "y", OLD))
    assert not (tmp_path / "y").exists()
