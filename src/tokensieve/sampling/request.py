"""Requests to a sampler, the sampler's interface, and one that says what it is told to: for tests, without a model."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import numpy as np

from tokensieve.config import SampleSettings
from tokensieve.data.hashing import seeded_hash
from tokensieve.data.manifest import ModelIdentity
from tokensieve.types import FloatArray, IntArray, Message, Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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


@runtime_checkable
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


Script: TypeAlias = Mapping[str, Sequence[str]] | Callable[[Request, int], str]
"""Answers by request id, taken in turn; or a function of the request and the answer's number."""


class ScriptedSampler:
    """Answers from a script.

    Args:
        script: the answers; one that ends in ``…`` is returned without that mark, as cut off.
        tokenizer: makes the answers' ids; without one, samples have no ids.
        nll: mean nll in nats of an answer, by its text; NaN where not given.
        end: id of the end-of-turn token that finished answers close with, where there is a tokenizer.
    """

    def __init__(
        self,
        script: Script,
        tokenizer: "PreTrainedTokenizerBase | None" = None,
        nll: Mapping[str, float] | None = None,
        end: int | None = None,
    ) -> None:
        self._script = script
        self._tokenizer = tokenizer
        self._nll = nll or {}
        self._end = end

    @property
    def identity(self) -> ModelIdentity:
        """A model called ``scripted``."""
        return ModelIdentity(name="scripted", backend="scripted")

    def draw(self, requests: Iterable[Request], settings: SampleSettings) -> Iterator[Sample]:  # noqa: ARG002
        """Answer the requests in order; see ``Sampler.draw``."""
        for request in requests:
            for index in range(request.first, request.first + request.n):
                text = self._answer(request, index)
                finished = not text.endswith("…")
                text = text.removesuffix("…")
                yield Sample(
                    problem_id=request.id,
                    task=request.task,
                    index=index,
                    text=text,
                    ids=self._ids(text, finished=finished),
                    finished=finished,
                    nll=self._nll.get(text, float("nan")),
                )

    def _answer(self, request: Request, index: int) -> str:
        if callable(self._script):
            return self._script(request, index)
        answers = self._script[request.id]
        return answers[index % len(answers)]

    def _ids(self, text: str, *, finished: bool) -> tuple[int, ...]:
        if self._tokenizer is None:
            return ()
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return (*ids, self._end) if finished and self._end is not None else tuple(ids)
