"""A sampler that says what it is told to: for tests and for trying a pipeline without a model."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from tokensieve.config import SampleSettings
from tokensieve.data.manifest import ModelIdentity
from tokensieve.sampling.request import Request
from tokensieve.types import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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
