"""Manifest of a stage, one file beside its rows: settings, inputs, model, versions, counts, shards."""

import hashlib
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal, TypeAlias, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
)

from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.types import JSON

SCHEMA_VERSION: Final = 1
MANIFEST_NAME: Final = "manifest.json"
T = TypeVar("T")

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
    """Identity of a model by digests and dtypes: enough to refuse another one in its place."""

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
        dumped: dict[str, JSON] = serialise(self)
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
    """Start and duration of a run; the only part of a manifest that differs between two equal runs."""

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
    """Findings of the stage that a later one or a person needs, e.g. the threshold in nats."""
    counts: Counts = Counts()
    shards: tuple[Shard, ...] = ()
    timing: Timing = Timing()

    @property
    def digest(self) -> str:
        """Identity of the stage's result: everything but the timing, as 64 hex digits."""
        return digest_of(self.model_dump(mode="json", exclude={"timing"}))

    def fact(self, name: str, kind: type[T]) -> T | None:
        """A fact of a stated type, e.g. ``fact("files", dict[str, str])``; None where the stage has not written it.

        Raises:
            InputError: it is of another type.
        """
        if self.facts.get(name) is None:
            return None
        try:
            return TypeAdapter(kind).validate_python(self.facts[name])
        except ValidationError as error:
            raise InputError(f"the fact {name} of a manifest ({self.stage}) is not as expected: {error}") from None

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
