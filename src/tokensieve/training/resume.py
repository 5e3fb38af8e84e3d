"""Resumption of a training run: what is done already, and which checkpoint a killed one goes on from."""

import json
import shutil
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from tokensieve.config import MachineSettings, TrainSettings
from tokensieve.data.manifest import MANIFEST_NAME, Manifest, read_manifest, write_atomically
from tokensieve.errors import InputError
from tokensieve.training.adapter import CHECKPOINTS

_DRAFT: Final = "draft.json"
RESULT: Final = "result"
"""Folder of the result in a run's working folder."""


def is_done(out: Path, draft: Manifest) -> bool:
    """True where the folder is this run's result; another's is refused rather than overwritten."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if (out / MANIFEST_NAME).is_file() and _same_run(read_manifest(out), draft):
        return True
    raise InputError(
        "the folder holds something else than this run", where=str(out), fix="choose another --out, or delete it"
    )


def _same_run(one: Manifest, other: Manifest) -> bool:
    """True where two manifests are of one run, whatever machine settings each was made with."""
    settings = [_without_machine(manifest) for manifest in (one, other)]
    same = all(getattr(one, part) == getattr(other, part) for part in ("stage", "inputs", "model"))
    return same and settings[0] is not None and settings[0] == settings[1]


def _without_machine(manifest: Manifest) -> TrainSettings | None:
    """A run's settings, new ones at their defaults; None where another version had settings that are gone."""
    try:
        return TrainSettings.model_validate({**manifest.settings, "machine": {}})
    except ValidationError:
        return None


def pin(work: Path, draft: Manifest) -> None:
    """Keep an earlier start's checkpoints only where it was a start of this very run, in the same portions."""
    path = work / _DRAFT
    if path.is_file() and not _goes_on(path, draft):
        shutil.rmtree(work / CHECKPOINTS, ignore_errors=True)
    shutil.rmtree(work / RESULT, ignore_errors=True)
    write_atomically(path, draft.model_dump_json(indent=2).encode())


def _goes_on(path: Path, draft: Manifest) -> bool:
    """True where the trainer can go on from the checkpoints of the start that is described in a file."""
    try:
        earlier = Manifest.model_validate_json(path.read_bytes())
        before, now = (MachineSettings.model_validate(m.settings["machine"]) for m in (earlier, draft))
    except (ValidationError, KeyError):  # written by another version
        return False
    # How often it saves, and who is told, is free to change; a checkpoint counts the passes within an epoch, so their
    # size is not.
    free = {"checkpoint_minutes": now.checkpoint_minutes, "trackers": now.trackers}
    return _same_run(earlier, draft) and now == before.model_copy(update=free)


def latest_checkpoint(work: Path) -> Path | None:
    """The newest complete checkpoint; the trainer writes its state last, so one with a readable state is whole."""
    found = sorted((work / CHECKPOINTS).glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]))
    for folder in reversed(found):
        try:
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            continue  # cut short by a kill
        return folder
    return None
