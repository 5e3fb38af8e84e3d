"""Guards around a training run: a folder that one run holds and goes on in after a kill, a process left as it was.

Left as they were are random state, special tokens and log settings; errors are put into words.
"""

import contextlib
import copy
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from tokensieve.config import MachineSettings, TrainSettings
from tokensieve.data.manifest import MANIFEST_NAME, Manifest, read_manifest, write_atomically
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.launch import portion_of_launch
from tokensieve.models import LoadedModel
from tokensieve.models.weights import quiet_transformers
from tokensieve.training.adapter import CHECKPOINTS, KEPT

_DRAFT: Final = "draft.json"
RESULT: Final = "result"
"""Folder of the result in a run's working folder."""


@contextlib.contextmanager
def alone_in(work: Path, out: Path) -> Iterator[None]:
    """Hold the working folder of a run, which two runs would write into at once; a killed run lets go of it.

    Of a launcher's processes the first one holds it for all.

    Raises:
        InputError: another run holds it.
    """
    from filelock import FileLock, Timeout

    work.mkdir(parents=True, exist_ok=True)
    if portion_of_launch().index > 0:
        yield
        return
    lock = FileLock(work / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            "another run is training into this folder at the moment",
            where=str(out),
            fix="wait for it, or choose another --out",
        ) from None
    try:
        yield
    finally:
        lock.release()


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
        for folder in (CHECKPOINTS, KEPT):
            shutil.rmtree(work / folder, ignore_errors=True)
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


@contextlib.contextmanager
def kept_special_tokens(loaded: LoadedModel) -> Iterator[None]:
    """The trainer writes the tokenizer's special ids into the model's configuration; a saved model keeps its own."""
    model = loaded.model
    config = model.config.get_text_config()
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    before = {name: getattr(config, name, None) for name in names}
    generation = copy.deepcopy(model.generation_config)
    yield
    for name, value in before.items():
        setattr(config, name, value)
    model.generation_config = generation


@contextlib.contextmanager
def kept_random_state() -> Iterator[None]:
    """Training seeds every global generator; the caller's go on as if nothing had happened."""
    import random

    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(states[0])
    np.random.set_state(states[1])


@contextlib.contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep back what TRL, PEFT and transformers say of each other's deprecated names and of special tokens."""
    with quiet_transformers(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


@contextlib.contextmanager
def out_of_memory_explained() -> Iterator[None]:
    """A device without room becomes an error that names the settings that help."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise EnvironmentProblem(
            "the device has no room for this batch",
            where="train.machine.micro_batch_size",
            fix="a smaller micro_batch_size keeps the result the same; gradient_checkpointing: true saves more",
        ) from error
