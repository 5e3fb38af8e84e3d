"""Files that a manifest lists, and results that take the place of an earlier one: no other file is ever removed."""

import contextlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tokensieve.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    Stage,
    digest_of_file,
    read_manifest,
    write_atomically,
)
from tokensieve.errors import InputError

_CALL: Final = "call.txt"
"""Name of the file that tells whose steps a folder keeps."""

_REPLACING: Final = ".replacing.json"
"""Names and digests of old and new files while one result takes the place of another."""


def listed_files(manifest: Manifest) -> dict[str, str]:
    """SHA-256 of every file that a stage wrote into its folder, by path relative to it; without the manifest's own."""
    others = manifest.fact("files", dict[str, str])
    return {shard.name: shard.sha256 for shard in manifest.shards} | (others or {})


def files_in(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under a folder, by relative path: ``facts["files"]`` of a folder that is no dataset."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST_NAME)
    return {path.relative_to(folder).as_posix(): digest_of_file(path) for path in paths}


def pin_call(out: Path, call: str) -> None:
    """Make the folder of a call that keeps its steps, or take up that of the same call.

    Args:
        out: the folder.
        call: everything that decides the result, as text.

    Raises:
        InputError: it holds another call's steps, or something else.
    """
    pinned = out / _CALL
    if out.exists() and any(out.iterdir()) and (not pinned.is_file() or pinned.read_text(encoding="utf-8") != call):
        raise InputError("the folder holds something else than this call's result", where=str(out), fix="another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(pinned, call.encode())


def check_replaceable(folder: Path, stage: Stage) -> None:
    """Check that a folder is missing, empty, or an earlier result of the stage whose files are as they were written.

    Raises:
        InputError: it holds something else, or a listed file that was changed since.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    known = _written_by(folder, stage)
    changed = [
        name
        for name, digests in known.items()
        if (folder / name).is_file() and digest_of_file(folder / name) not in digests
    ]
    if changed:
        raise InputError(
            f"changed since it was written, and would be lost: {_some(changed)}",
            where=str(folder),
            fix="move it out of the folder, or choose another --out",
        )


def replace_listed_files(folder: Path, new: Path) -> None:
    """Put a finished folder in the place of an earlier result: only files that a manifest lists are removed.

    Whatever else lies in the folder, such as a trainer's adapter, stays. A kill in between leaves a folder that the
    next call takes for an earlier result.

    Args:
        folder: missing, empty, or an earlier result that ``check_replaceable`` let through.
        new: the new result with its manifest, on the same disk; it is used up.

    Raises:
        InputError: a new file would overwrite one that no manifest lists.
    """
    if not folder.exists() or not any(folder.iterdir()):
        new.replace(folder)
        return
    manifest = read_manifest(new)
    listed, known = listed_files(manifest), _written_by(folder, manifest.stage)
    foreign = [name for name in listed if name not in known and os.path.lexists(folder / name)]
    if foreign:
        raise InputError(
            f"not written by tokensieve, and would be overwritten: {_some(foreign)}",
            where=str(folder),
            fix="move it out of the folder, or choose another --out",
        )
    both = {
        name: sorted({*known.get(name, ()), *([listed[name]] if name in listed else [])}) for name in known | listed
    }
    note = {"stage": manifest.stage, "files": both}
    write_atomically(folder / _REPLACING, json.dumps(note).encode())
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    for name in known:
        _unlink(folder, name)
    for name in listed:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (new / name).replace(folder / name)
    (new / MANIFEST_NAME).replace(folder / MANIFEST_NAME)
    (folder / _REPLACING).unlink()


def remove_listed_files(folder: Path) -> None:
    """Remove a finished folder's manifest and the files that it lists; the folder too where nothing else lies in it."""
    if not (folder / MANIFEST_NAME).is_file():
        return
    for name in (*listed_files(read_manifest(folder)), MANIFEST_NAME):
        _unlink(folder, name)
    with contextlib.suppress(OSError):  # something else lies in it
        folder.rmdir()


def _written_by(folder: Path, stage: Stage) -> dict[str, list[str]]:
    """Digests that each file of an earlier result may have; two of them where a replacement was killed."""
    known: dict[str, list[str]] = {}
    if (folder / _REPLACING).is_file():
        note = json.loads((folder / _REPLACING).read_text(encoding="utf-8"))
        known = note["files"] if note["stage"] == stage else {}
    if not known and (folder / MANIFEST_NAME).is_file() and (manifest := read_manifest(folder)).stage == stage:
        known = {name: [digest] for name, digest in listed_files(manifest).items()}
    if not known or any(Path(name).is_absolute() or ".." in Path(name).parts for name in known):
        raise InputError(
            f"expected an empty folder or an earlier result ({stage}) whose manifest lists its files",
            where=str(folder),
            fix="choose another --out, or delete the folder",
        )
    return known


def _unlink(folder: Path, name: str) -> None:
    """Remove a file, and the folders between it and ``folder`` that are empty then."""
    path = folder / name
    path.unlink(missing_ok=True)
    for parent in path.relative_to(folder).parents:
        if parent == Path():
            return
        with contextlib.suppress(OSError):  # something else lies in it
            (folder / parent).rmdir()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
