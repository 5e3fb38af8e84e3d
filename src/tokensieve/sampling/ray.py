"""Draw answers on many GPUs: Ray's workers, each with a model of its own (extra ``ray``)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from tokensieve.config import ModelSettings, SampleSettings
from tokensieve.data.manifest import ModelIdentity
from tokensieve.errors import EnvironmentProblem
from tokensieve.models import load_model
from tokensieve.sampling.local import LocalSampler
from tokensieve.sampling.request import Request
from tokensieve.types import Sample

_PORTIONS_A_WORKER: Final = 2
"""So that a worker whose answers are short, or one that takes over from a lost one, does not wait for the others."""

_TRIES_AFTER_A_LOSS: Final = 3


class RaySampler:
    """Answers by the workers of a Ray cluster: the one that is running, else one that is started on this machine.

    Where an answer is drawn changes nothing in it, so that the model's identity is that of a sampler in this process.
    A worker that is lost is started again, and its portion drawn again.

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
