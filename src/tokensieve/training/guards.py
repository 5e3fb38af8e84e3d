"""Guards around a training run: random state, tokens and log settings left as they were, errors in words."""

import contextlib
import copy
import warnings
from collections.abc import Iterator
from pathlib import Path

from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.launch import portion_of_launch
from tokensieve.models import LoadedModel
from tokensieve.models.weights import quiet_transformers


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
