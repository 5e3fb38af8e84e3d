"""Draw answers with a model in this process, through transformers."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from tokensieve.config import SampleSettings
from tokensieve.data.manifest import ModelIdentity
from tokensieve.errors import EnvironmentProblem
from tokensieve.models import LoadedModel
from tokensieve.sampling.request import Request
from tokensieve.types import IntArray, Sample

if TYPE_CHECKING:
    from tokensieve.sampling.decode import Drawn, Job


class LocalSampler:
    """Answers with a loaded model: batched, a prompt run once for all of its samples, finished rows replaced.

    Args:
        loaded: the model.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        self._stops = loaded.stop_ids

    @property
    def loaded(self) -> LoadedModel:
        """The model that answers."""
        return self._loaded

    @property
    def identity(self) -> ModelIdentity:
        """The loaded model's."""
        return self._loaded.identity

    def prompt_T(self, request: Request) -> IntArray:
        """Token ids that the model continues."""
        if request.prompt_T is not None:
            return request.prompt_T
        return self._loaded.chat.prompt_ids(request.messages)

    def draw(self, requests: Iterable[Request], settings: SampleSettings) -> Iterator[Sample]:
        """Answer the requests; see ``Sampler.draw``.

        A prompt that leaves no room in the model's context yields empty, unfinished samples. When the device runs out
        of memory, the answers under way are drawn again in smaller batches, with the same result.

        Raises:
            EnvironmentProblem: not even one answer fits into the device's memory.
        """
        from tokensieve.sampling.decode import Job

        room = getattr(self._loaded.model.config.get_text_config(), "max_position_embeddings", None)
        by_key: dict[str, Request] = {}
        jobs: list[Job] = []
        for request in requests:
            by_key[request.id] = request
            prompt_T = self.prompt_T(request)
            limit = request.max_new_tokens if room is None else min(request.max_new_tokens, room - len(prompt_T))
            for index in range(request.first, request.first + request.n):
                if limit > 0:
                    jobs.append(Job(request.id, index, prompt_T, limit))
                else:
                    yield Sample(request.id, request.task, index, "", finished=False)
        for drawn in self._draw(jobs, settings):
            yield self._sample(drawn, by_key[drawn.job.key])

    def _draw(self, jobs: "list[Job]", settings: SampleSettings) -> "Iterator[Drawn]":
        import torch

        from tokensieve.sampling.decode import Decoder
        from tokensieve.sampling.static_batch import attends_only, draw_in_step

        model = self._loaded.model
        left = {(job.key, job.index): job for job in jobs}
        slots = settings.batch_size
        while left:
            pending = list(left.values())
            if attends_only(model):
                drawing = Decoder(model, self._stops, settings, pad_id=min(self._stops)).draw(pending, slots)
            else:
                drawing = draw_in_step(model, pending, self._stops, settings, slots)
            try:
                for drawn in drawing:
                    del left[drawn.job.key, drawn.job.index]
                    yield drawn
            except torch.OutOfMemoryError as error:
                if slots == 1:
                    raise EnvironmentProblem(
                        "one answer alone does not fit into the device's memory",
                        where="sampling.max_new_tokens",
                        fix="a smaller max_new_tokens, or --quantisation nf4",
                    ) from error
                slots = max(1, slots // 2)
                torch.cuda.empty_cache()

    def _sample(self, drawn: "Drawn", request: Request) -> Sample:
        ids = drawn.ids[:-1] if drawn.finished else drawn.ids
        return Sample(
            problem_id=request.id,
            task=request.task,
            index=drawn.job.index,
            text=self._loaded.tokenizer.decode(list(ids), skip_special_tokens=True),
            ids=drawn.ids,
            finished=drawn.finished,
            nll=drawn.nll,
        )
