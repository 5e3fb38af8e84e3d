"""What a stage did, in one file beside its rows: settings, inputs, model, versions, counts, shards."""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, TypeAlias, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)

from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.types import JSON

SCHEMA_VERSION: Final = 1
MANIFEST_NAME: Final = "manifest.json"
_REPLACING: Final = ".replacing.json"
"""Names and digests of old and new files while one result takes the place of another."""

Stage: TypeAlias = Literal[
    "examples", "samples", "tokens", "scored", "selected", "anchors", "evaluated", "trained", "exported"
]

_STRICT = ConfigDict(frozen=True, extra="forbid")


class Counts(BaseModel):
    """Rows in, rows out, and why the others were dropped."""

    model_config = _STRICT

    rows_in: int = 0
    rows_out: int = 0
    dropped: dict[str, int] = Field(default_factory=dict)
    dropped_ids: dict[str, list[str]] = Field(default_factory=dict)
    """Ids of the dropped rows by reason, the first 100,000 of each."""


class ModelIdentity(BaseModel):
    """Which model, exactly: enough to refuse another one in its place."""

    model_config = _STRICT

    name: str
    revision: str | None = None
    weights_digest: str = ""
    adapter_digest: str | None = None
    tokenizer_digest: str = ""
    template_digest: str = ""
    template_kwargs: dict[str, JSON] = Field(default_factory=dict)
    """The chat template's arguments; left out of the file where there are none, so that older digests stay true."""
    dtype: str = ""
    head_dtype: str = ""
    attention: str = ""
    quantisation: str = "none"
    backend: str = "transformers"

    @model_serializer(mode="wrap")
    def _without_empty_arguments(self, serialise: SerializerFunctionWrapHandler) -> dict[str, JSON]:
        dumped = cast("dict[str, JSON]", serialise(self))
        if not self.template_kwargs:
            dumped.pop("template_kwargs", None)
        return dumped


class Shard(BaseModel):
    """One Parquet file."""

    model_config = _STRICT

    name: str
    rows: int
    sha256: str


class Timing(BaseModel):
    """When and how long; the only part of a manifest that differs between two equal runs."""

    model_config = _STRICT

    started_at: str = ""
    wall_s: float = 0.0

    @classmethod
    def since(cls, began: float) -> "Timing":
        """Of work that began at a reading of the monotonic clock and ends now."""
        wall_s = time.monotonic() - began
        started = datetime.now(UTC) - timedelta(seconds=wall_s)
        return cls(started_at=started.isoformat(timespec="seconds"), wall_s=wall_s)


class Manifest(BaseModel):
    """The record of one stage."""

    model_config = _STRICT

    schema_version: int = SCHEMA_VERSION
    stage: Stage
    settings: dict[str, JSON] = Field(default_factory=dict)
    inputs: dict[str, str] = Field(default_factory=dict)
    """Digest of each input, by its name."""
    model: ModelIdentity | None = None
    versions: dict[str, str] = Field(default_factory=dict)
    seed: int | None = None
    facts: dict[str, JSON] = Field(default_factory=dict)
    """What the stage found out and a later one or a person needs, e.g. the threshold in nats."""
    counts: Counts = Counts()
    shards: tuple[Shard, ...] = ()
    timing: Timing = Timing()

    @property
    def digest(self) -> str:
        """Identity of the stage's result: everything but the timing, as 64 hex digits."""
        return digest_of(self.model_dump(mode="json", exclude={"timing"}))

    def write(self, folder: Path) -> None:
        """Put the manifest into its folder, whole or not at all."""
        write_atomically(folder / MANIFEST_NAME, self.model_dump_json(indent=2).encode() + b"\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a stage's folder.

    Raises:
        InputError: no manifest there, one that is damaged, or one of another schema version.
    """
    path = folder / MANIFEST_NAME
    if not folder.is_dir():
        found = "expected a folder, this is a file" if folder.exists() else "there is no such folder"
        raise InputError(found, where=str(folder))
    if not path.is_file():
        raise InputError(
            f"no {MANIFEST_NAME}, so this is not the finished folder of a stage",
            where=str(folder),
            fix="run the command that makes it again; it goes on where it stopped",
        )
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"the manifest is damaged: {error}", where=str(path), fix="delete the folder, run again"
        ) from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"schema version {version!r}, this tokensieve reads {SCHEMA_VERSION}",
            where=str(path),
            fix="run the command that made the folder again with this version",
        )
    try:
        return Manifest.model_validate(raw)
    except ValidationError as error:
        raise InputError(f"the manifest does not fit its schema: {error}", where=str(path)) from None


def listed_files(manifest: Manifest) -> dict[str, str]:
    """SHA-256 of every file that a stage wrote into its folder, by path relative to it; without the manifest's own."""
    others = cast("dict[str, str]", manifest.facts.get("files", {}))
    return {shard.name: shard.sha256 for shard in manifest.shards} | others


def files_in(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under a folder, by relative path: ``facts["files"]`` of a folder that is no dataset."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST_NAME)
    return {path.relative_to(folder).as_posix(): digest_of_file(path) for path in paths}


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


def digest_of(value: object) -> str:
    """SHA-256 of a JSON value in canonical form, 64 hex digits; equal values give equal digests."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def package_versions(
    names: tuple[str, ...] = ("tokensieve", "torch", "transformers", "trl", "peft"),
) -> Mapping[str, str]:
    """Installed versions of Python and of the named packages; those that are not installed are left out."""
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new one and nothing between.

    Raises:
        EnvironmentProblem: the disk is full or refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise EnvironmentProblem(
            f"could not be written: {error.strerror or error}",
            where=str(path),
            fix="make room or choose another --out; the same command goes on where it stopped",
        ) from None
