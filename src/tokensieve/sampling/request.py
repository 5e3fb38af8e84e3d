"""Requests to a sampler, and the sampler's interface."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tokensieve.config import SampleSettings
from tokensieve.data.hashing import seeded_hash
from tokensieve.data.manifest import ModelIdentity
from tokensieve.types import FloatArray, IntArray, Message, Sample


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """One prompt and how many answers to it are wanted.

    Attributes:
        id: the problem's id; with the seed and the answer's number it decides what is drawn.
        messages: the turns before the answer; empty where ``prompt_T`` is given.
        max_new_tokens: longest answer, end-of-turn included.
        n: answers.
        first: number of the first of them; more answers to a prompt go on from those there are.
        task: carried into the samples.
        prompt_T: token ids of the prompt where it is not made of messages, such as a bare header of the template.
    """

    id: str
    messages: tuple[Message, ...]
    max_new_tokens: int
    n: int = 1
    first: int = 0
    task: str = ""
    prompt_T: IntArray | None = None


class Sampler(Protocol):
    """Draws answers.

    An answer depends on the sampler's model, the settings' seed and sampling rule, the request's id and the answer's
    number; never on which other requests are drawn at the same time (a server may not keep to that, and says so).
    """

    @property
    def identity(self) -> ModelIdentity:
        """Identity of the model that answers."""
        ...

    def draw(self, requests: Iterable[Request], settings: SampleSettings) -> Iterator[Sample]:
        """Answer the requests, each ``n`` times; the samples come as they are finished, in any order.

        Verdicts are None. ``nll`` is the mean under the model at temperature 1, in nats a token; NaN where the
        backend does not tell. ``settings.n`` and ``settings.max_new_tokens`` are not read: the requests say.
        """
        ...


def seed_of(seed: int, request_id: str, index: int) -> int:
    """The seed of one answer: 64 bits of a hash of the run's seed, the problem's id and the answer's number."""
    return int.from_bytes(seeded_hash(seed, index, request_id), "little")


def uniforms(seed: int, request_id: str, index: int, count: int) -> FloatArray:
    """The random numbers in [0, 1) that decide an answer's tokens, one a token, float32."""
    return np.random.Generator(np.random.PCG64(seed_of(seed, request_id, index))).random(count, dtype=np.float32)
