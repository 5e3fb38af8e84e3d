"""Agreement of two backends, or two dtypes, on the same rows, and the selections that their differences change."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np

from tokensieve.config import ModelSettings, ScoreSettings
from tokensieve.data.dataset import in_shards
from tokensieve.data.manifest import ModelIdentity
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel, load_model
from tokensieve.scoring.backend import Backend
from tokensieve.scoring.run import Scorer, TokenRows, open_store
from tokensieve.scoring.vllm import VllmOffline
from tokensieve.types import BASE_SCORER, Scored

Compared: TypeAlias = Backend | LoadedModel | ModelSettings | str | Callable[[], Backend]
"""A backend, a model for the transformers backend, or a function that opens a backend."""

QUANTILES: Final = (0.5, 0.9, 0.99, 0.999, 1.0)
"""Of the differences that are reported; the last is the largest."""


@dataclass(frozen=True, slots=True)
class BackendComparison:
    """Two backends' nll of the same tokens.

    Attributes:
        first: model and backend of the reference.
        second: model and backend that are compared with it.
        tokens: number of tokens that both scored.
        quantiles: ``|difference|`` in nats by quantile; NaN where there are no tokens.
        mean: mean difference, second minus first, in nats; NaN where there are no tokens.
        threshold: perplexity at which a selection was made.
        kept_by_first: tokens at or under the threshold by the first.
        flips: tokens that only one of the two would train.
        near: tokens whose first nll lies within the 99.9 % quantile of the differences from the threshold: those
            whose selection the backends' own error may decide.
    """

    first: ModelIdentity
    second: ModelIdentity
    tokens: int
    quantiles: dict[float, float]
    mean: float
    threshold: float
    kept_by_first: int
    flips: int
    near: int


def compare_backends(
    rows: TokenRows,
    first: Compared,
    second: Compared,
    settings: ScoreSettings | None = None,
    *,
    threshold: float = 2.5,
) -> BackendComparison:
    """Score the same rows twice and say how far the two are apart.

    Args:
        rows: tokens; other scores that they hold are left alone.
        first: the reference: a backend, or a model for the transformers backend.
        second: what is compared with it: another backend, or the same model in another dtype. What is given by name,
            settings or as a function is opened here, the second after the first is gone, so that each has the memory
            to itself.
        settings: what is scored, by both.
        threshold: perplexity of the selection whose flips are counted.

    Returns:
        The differences; memory is eight bytes a token.

    Raises:
        InputError: the threshold is below 1, where no perplexity lies; or as in ``score``.
    """
    if threshold < 1:
        raise InputError(f"expected a perplexity of at least 1, got {threshold}", where="--threshold")
    settings = (settings or ScoreSettings()).model_copy(update={"entropy": False, "rank": False, "scorer": BASE_SCORER})
    one, first_N = _nll(rows, first, settings)
    other, second_N = _nll(rows, second, settings)
    both_N = ~(np.isnan(first_N) | np.isnan(second_N))
    first_N, second_N = first_N[both_N], second_N[both_N]
    gap_N = np.abs(second_N - first_N)
    limit = np.log(threshold)
    quantiles = {q: float(np.quantile(gap_N, q)) if len(gap_N) else float("nan") for q in QUANTILES}
    return BackendComparison(
        first=one,
        second=other,
        tokens=len(gap_N),
        quantiles=quantiles,
        mean=float(np.mean(second_N - first_N, dtype=np.float64)) if len(gap_N) else float("nan"),
        threshold=threshold,
        kept_by_first=int((first_N <= limit).sum()),
        flips=int(((first_N <= limit) != (second_N <= limit)).sum()),
        near=int((np.abs(first_N - limit) <= quantiles[0.999]).sum()) if len(gap_N) else 0,
    )


@contextmanager
def _opened(which: Compared, settings: ScoreSettings) -> Iterator[Backend]:
    from tokensieve.scoring.hf import open_backend  # torch, which `tokensieve --help` does without

    if isinstance(which, ModelSettings | str):
        which = load_model(which)
    if isinstance(which, LoadedModel):
        yield open_backend(which, settings)
    elif callable(which):
        backend = which()
        with closing(backend) if isinstance(backend, VllmOffline) else nullcontext():
            yield backend
    else:
        yield which


def _nll(
    rows: TokenRows, which: Compared, settings: ScoreSettings
) -> tuple[ModelIdentity, "np.ndarray[tuple[int], np.dtype[np.float32]]"]:
    """Identity of the backend, and the NLL of all tokens of all rows concatenated; NaN where not scored."""
    parts = [np.zeros(0, dtype=np.float32)]
    with _opened(which, settings) as backend, open_store(settings, backend.identity) as store:
        scorer = Scorer(backend, settings, store)
        for shard in in_shards(rows, settings.shard_rows):
            bare = [row.tokens if isinstance(row, Scored) else row for row in shard]
            for row, scored in zip(bare, scorer.score(bare), strict=True):
                parts.append(np.full(len(row), np.nan, np.float32) if scored is None else scored.nll_T())
    return backend.identity, np.concatenate(parts)
