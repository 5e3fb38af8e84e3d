"""Draw answers through transformers: with a model in this process, or with one in each of Ray's workers."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Final

from tokensieve.config import ModelSettings, SampleSettings
from tokensieve.data.manifest import ModelIdentity
from tokensieve.errors import EnvironmentProblem
from tokensieve.models import LoadedModel, load_model
from tokensieve.sampling.request import Request
from tokensieve.types import IntArray, Sample

if TYPE_CHECKING:
    from tokensieve.sampling.draw import Drawn, Job


_PORTIONS_A_WORKER: Final = 2
"""So that a worker whose answers are short, or one that takes over from a lost one, does not wait for the others."""

_TRIES_AFTER_A_LOSS: Final = 3


class LocalSampler:
    """Answers with a loaded model: batched, a prompt run once for all of its samples, finished rows replaced.

    Args:
        loaded: the model.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded

    @cached_property
    def _stops(self) -> frozenset[int]:
        """Token ids that end an answer; likelihoods need none, so a base model without a chat template has them too."""
        return self._loaded.stop_ids

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
        from tokensieve.sampling.draw import Job

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
        from tokensieve.sampling.draw import attends_only, draw_in_step

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
                continue
            except torch.OutOfMemoryError as error:
                if slots == 1:
                    raise EnvironmentProblem(
                        "one answer alone does not fit into the device's memory",
                        where="sampling.max_new_tokens",
                        fix="a smaller max_new_tokens, or --quantisation nf4",
                    ) from error
                slots = max(1, slots // 2)
            del drawing  # with its keys and values; the error's traceback, which held them too, is gone by now
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


class RaySampler:
    """Answers by the workers of a Ray cluster: the one that is running, else one that is started on this machine.

    Where an answer is drawn changes nothing in it, so that the model's identity is that of a sampler in this process.
    A worker that is lost is started again, and its portion drawn again. Ray comes with the extra ``ray``.

    Args:
        settings: the model that each worker loads, from a place that all of them can read.
        workers: number of models.
        gpus_a_worker: GPUs that each of them reserves; None is one where the cluster has any.

    Raises:
        EnvironmentProblem: Ray is not installed.
    """

    def __init__(self, settings: ModelSettings, *, workers: int = 2, gpus_a_worker: float | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise EnvironmentProblem(
                "Ray is not installed", where="answerer.backend", fix='pip install "tokensieve[ray]"'
            ) from error
        if not ray.is_initialized():
            ray.init(log_to_driver=False)
        if gpus_a_worker is None:
            gpus_a_worker = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0
        worker = ray.remote(_Worker).options(
            num_gpus=gpus_a_worker, max_restarts=-1, max_task_retries=_TRIES_AFTER_A_LOSS
        )
        self._workers = [worker.remote(settings) for _ in range(workers)]
        self._identity: ModelIdentity = ray.get(self._workers[0].identity.remote())

    @property
    def identity(self) -> ModelIdentity:
        """The model that a worker has loaded."""
        return self._identity

    def draw(self, requests: Iterable[Request], settings: SampleSettings) -> Iterator[Sample]:
        """Answer the requests; see ``Sampler.draw``.

        Raises:
            EnvironmentProblem: as in the worker, or workers are lost again and again.
        """
        import ray
        from ray.util import ActorPool

        listed = list(requests)
        size = max(1, -(-len(listed) // (len(self._workers) * _PORTIONS_A_WORKER)))
        portions = [listed[first : first + size] for first in range(0, len(listed), size)]
        pool = ActorPool(self._workers)
        try:
            for drawn in pool.map_unordered(lambda worker, portion: worker.draw.remote(portion, settings), portions):
                yield from drawn
        except ray.exceptions.RayActorError as error:
            raise EnvironmentProblem(
                f"Ray's workers are lost again and again: {error}",
                where="answerer.backend",
                fix="look into Ray's logs; a smaller --sampling.batch-size takes less memory",
            ) from error


class _Worker:
    """Lives in a process of Ray's and holds a model."""

    def __init__(self, settings: ModelSettings) -> None:
        self._sampler = LocalSampler(load_model(settings))

    def identity(self) -> ModelIdentity:
        return self._sampler.identity

    def draw(self, requests: Sequence[Request], settings: SampleSettings) -> list[Sample]:
        return list(self._sampler.draw(requests, settings))
