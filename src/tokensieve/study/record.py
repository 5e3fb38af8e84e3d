"""Record of a run: with what it was made, so that another can make it again."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from tokensieve.config import StudySettings
from tokensieve.data.manifest import digest_of, package_versions, write_atomically
from tokensieve.report.schema import Checkout, RunRecord
from tokensieve.study.workers import threads_of

RECORD_NAME: Final = "run.json"
_GIT_S: Final = 10.0
"""Seconds after which git is not waited for."""


def record_of(settings: StudySettings, recipe: Path | None, inputs: dict[str, str], workers: int) -> RunRecord:
    """The record of a run that starts now.

    Args:
        settings: of the study.
        recipe: file of the recipe; None for a shipped one or settings in memory.
        inputs: digest of the base model and of each set of problems.
        workers: number of processes.
    """
    return RunRecord(
        recipe=settings.name if recipe is None else recipe.name,
        settings_digest=digest_of(settings.model_dump(mode="json")),
        inputs=inputs,
        checkout=None if recipe is None else checkout_of(recipe),
        versions=dict(package_versions()),
        workers=workers,
        threads=threads_of(workers),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def checkout_of(recipe: Path) -> Checkout | None:
    """The git checkout that a file belongs to; None where it lies in none, or git is not there."""
    folder = recipe.resolve().parent
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None or _git(folder, "ls-files", "--error-unmatch", recipe.name) is None:
        return None
    return Checkout(commit=commit, changed=bool(_git(folder, "status", "--porcelain", "--untracked-files=no")))


def write_record(record: RunRecord, root: Path) -> None:
    """Write the record into the run's folder.

    Raises:
        EnvironmentProblem: the disk is full or refuses.
    """
    write_atomically(root / RECORD_NAME, record.model_dump_json(indent=2).encode() + b"\n")


def read_record(root: Path) -> RunRecord | None:
    """The record of a run; None where there is none that can be read, as in a folder of an earlier version."""
    try:
        return RunRecord.model_validate_json((root / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValidationError):
        return None


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command; None where it fails or is not installed."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(  # noqa: S603 -- fixed arguments, no shell
            command, capture_output=True, text=True, timeout=_GIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
