"""One model over several processes (tensor parallelism): all of them compute the same batches, the first one leads.

Only the first process reads rows, looks into the store and writes; before each call of its backend it broadcasts
the requests. The others hold no rows, so processes cannot disagree about what was scored already.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from tokensieve.data.dataset import Rows, open_rows_of
from tokensieve.data.manifest import MANIFEST_NAME
from tokensieve.errors import EnvironmentProblem
from tokensieve.models import LoadedModel
from tokensieve.scoring.backend import Measures, ScoreRequest
from tokensieve.scoring.hf import TransformersBackend
from tokensieve.types import Scored

_Message: TypeAlias = tuple[Sequence[ScoreRequest], Measures, int] | None
"""Requests, measures and token budget to compute with; None is the end."""


def leads_others(loaded: LoadedModel) -> bool:
    """True on the first of several processes that share one model."""
    return _rank_and_size(loaded)[1] > 1 and not follows(loaded)


def follows(loaded: LoadedModel) -> bool:
    """True on the other processes that share one model."""
    return _rank_and_size(loaded)[0] > 0


@contextmanager
def leading(backend: TransformersBackend) -> Iterator[TransformersBackend]:
    """The backend of the first process; at the end the others are let go, whatever happened."""
    try:
        yield replace(backend, before_score=lambda requests, measures, budget: _broadcast((requests, measures, budget)))
    finally:
        _broadcast(None)


def follow(backend: TransformersBackend, out: Path) -> Rows[Scored]:
    """Compute along until the first process is done.

    Returns:
        The rows that it wrote.

    Raises:
        EnvironmentProblem: it ended without writing them.
    """
    while (message := _broadcast(None)) is not None:
        requests, measures, budget = message
        replace(backend, token_budget=budget).score(requests, measures)
    if not (out / MANIFEST_NAME).is_file():
        raise EnvironmentProblem(
            "the first process ended before its work was done",
            where=str(out),
            fix="see what it says; the same command goes on where it stopped",
        )
    return open_rows_of(Scored, out)


def _broadcast(message: _Message) -> _Message:
    """Broadcast the first process's message to all."""
    import torch.distributed

    messages = [message]
    torch.distributed.broadcast_object_list(messages, src=0)
    return messages[0]


def _rank_and_size(loaded: LoadedModel) -> tuple[int, int]:
    import torch.distributed

    if loaded.settings.tp_plan == "none" or not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()
