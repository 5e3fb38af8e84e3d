"""What a training run must leave as it was, and what it must say in words of ours."""

import contextlib
import copy
import warnings
from collections.abc import Iterator

from tokensieve.errors import EnvironmentProblem
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
