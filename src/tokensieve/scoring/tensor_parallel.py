"""One model over several processes (tensor parallelism): all of them compute the same batches, the first one leads.

Only the first process reads rows, looks into the store and writes; before each call of its backend it tells the others
what to compute with it. They hold no rows, so nothing can be in two minds about what was scored already.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from tokensieve.data.dataset import Rows, open_rows_of
from tokensieve.data.manifest import MANIFEST_NAME
from tokensieve.data.score_record import Wanted
from tokensieve.errors import EnvironmentProblem
from tokensieve.models import LoadedModel
from tokensieve.scoring.hf import TransformersBackend
from tokensieve.scoring.request import Request
from tokensieve.types import Scored

_Word: TypeAlias = tuple[Sequence[Request], Wanted, int] | None
"""What is to be computed, and with which token budget; None is the end."""


def leads_others(loaded: LoadedModel) -> bool:
    """Whether other processes compute along with this one."""
    return _rank_and_size(loaded)[1] > 1 and not follows(loaded)


def follows(loaded: LoadedModel) -> bool:
    """Whether this process computes along with another one."""
    return _rank_and_size(loaded)[0] > 0


@contextmanager
def leading(backend: TransformersBackend) -> Iterator[TransformersBackend]:
    """The backend of the first process; at the end the others are let go, whatever happened."""
    try:
        yield replace(backend, before_answer=lambda requests, wanted, budget: _tell((requests, wanted, budget)))
    finally:
        _tell(None)


def follow(backend: TransformersBackend, out: Path) -> Rows[Scored]:
    """Compute along until the first process is done.

    Returns:
        The rows that it wrote.

    Raises:
        EnvironmentProblem: it ended without writing them.
    """
    while (word := _tell(None)) is not None:
        requests, wanted, budget = word
        replace(backend, token_budget=budget).answer(requests, wanted)
    if not (out / MANIFEST_NAME).is_file():
        raise EnvironmentProblem(
            "the first process ended before its work was done",
            where=str(out),
            fix="see what it says; the same command goes on where it stopped",
        )
    return open_rows_of(Scored, out)


def _tell(word: _Word) -> _Word:
    """Hand the first process's word to all."""
    import torch.distributed

    words = [word]
    torch.distributed.broadcast_object_list(words, src=0)
    return words[0]


def _rank_and_size(loaded: LoadedModel) -> tuple[int, int]:
    import torch.distributed

    if loaded.settings.tp_plan == "none" or not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()
