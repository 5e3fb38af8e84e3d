"""Where and by whom rows are scored: this process, one of several, Ray's workers; transformers, vLLM, a vLLM server."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokensieve.config import DataSettings, ModelSettings, ScoreSettings
from tokensieve.data.dataset import Rows
from tokensieve.errors import InputError
from tokensieve.launch import Portion, device_of_launch, parse_portion, portion_of_launch
from tokensieve.models import LoadedModel, context_length, load_model
from tokensieve.pipeline import load, load_beside_others
from tokensieve.scoring import (
    Backend,
    Comparison,
    Progress,
    compare_backends,
    compute_along,
    open_vllm,
    open_vllm_server,
    score_on_ray,
    score_with,
)
from tokensieve.scoring import score as score_rows
from tokensieve.types import Scored

_TOKENS: Final = ".tokens"
"""Folder of the tokens in that of their scores: on disk, so that memory does not grow with the rows."""


@dataclass(frozen=True, slots=True)
class Where:
    """The options that say where the work is done and by whom; see ``tokensieve score --help``."""

    backend: str
    url: str | None
    shard: str | None
    engine: str
    workers: int

    def portion(self, model: ModelSettings) -> Portion:
        """The shards that this process does; all where a launcher's processes hold one model together.

        Raises:
            InputError: options that exclude each other.
        """
        together = model.tp_plan != "none"
        portion = parse_portion(self.shard) if self.shard else Portion() if together else portion_of_launch()
        if self.url is not None and self.backend != "vllm":
            raise InputError("a server is asked with --backend vllm only", where="--url")
        if self.engine == "ray" and (self.backend != "transformers" or not portion.whole):
            raise InputError("Ray deals the work out itself, to the transformers backend", where="--engine ray")
        return portion


def score(
    data: str,
    out: Path,
    model: ModelSettings,
    read: DataSettings,
    settings: ScoreSettings,
    where: Where,
    progress: Progress,
) -> Rows[Scored]:
    """Make the tokens and score them.

    Raises:
        InputError: as in ``scoring.score``, or options that exclude each other.
        EnvironmentProblem: as in ``scoring.score``.
    """
    portion = where.portion(model)
    tokens = out / _TOKENS
    if where.backend == "vllm":
        backend = _vllm(model, where.url)
        rows = load_beside_others(data, model, read, tokens, portion, longest=backend.longest)
        return score_with(rows, backend, settings, out=out, portion=portion, progress=progress)
    longest = context_length(model)
    if where.engine == "ray":
        rows = load(data, model, read, tokens, longest=longest)
        return score_on_ray(rows, model, settings, out=out, workers=where.workers)
    with ThreadPoolExecutor(max_workers=1) as beside:
        loading = beside.submit(_loaded, model)
        if model.tp_plan != "none" and (along := compute_along(loading.result(), settings, out)) is not None:
            return along
        rows = load_beside_others(data, model, read, tokens, portion, longest=longest)  # while the weights are read
        loaded = loading.result()
    return score_rows(rows, loaded, settings, out=out, portion=portion, progress=progress)


def compare(
    data: str,
    model: ModelSettings,
    other: ModelSettings,
    read: DataSettings,
    settings: ScoreSettings,
    threshold: float,
    other_backend: str,
    other_url: str | None,
) -> Comparison:
    """Score the same rows twice, one model after the other.

    Raises:
        InputError: as in ``scoring.compare_backends``.
        EnvironmentProblem: as in ``scoring.compare_backends``.
    """
    if other_url is not None and other_backend != "vllm":
        raise InputError("a server is asked with --other-backend vllm only", where="--other-url")
    rows = load(data, model, read, longest=context_length(model))
    second: ModelSettings | Callable[[], Backend] = other
    if other_backend == "vllm":
        second = lambda: _vllm(other, other_url)  # noqa: E731 - opened once the first model is gone
    return compare_backends(rows, model, second, settings, threshold=threshold)


def _loaded(model: ModelSettings) -> LoadedModel:
    if model.device == "auto" and model.tp_plan == "none":
        model = model.model_copy(update={"device": device_of_launch()})
    return load_model(model)


def _vllm(model: ModelSettings, url: str | None) -> Backend:
    if url is None:
        return open_vllm(model)
    return open_vllm_server(url, model.model, model.tokenizer or model.model, model.template_kwargs)
