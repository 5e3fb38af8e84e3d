"""Scoring by Ray's workers: an actor a model, a portion of the shards a task.

A portion that a lost worker left unfinished is dealt out again and goes on where it stopped; only numbers of
portions travel through Ray, never rows.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from tokensieve.config import ModelSettings, ScoreSettings
from tokensieve.data.folder import Rows, open_rows
from tokensieve.engine import Portion
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.models import load_model
from tokensieve.scoring._run import score
from tokensieve.scoring._scorer import TokenRows
from tokensieve.types import Scored

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PORTIONS_A_WORKER: Final = 4
"""So that a worker that is fast, or one that takes over from a lost one, does not wait for the others."""


@dataclass(frozen=True, slots=True)
class RayJob:
    """What every worker has to know; small enough to be sent to each.

    Attributes:
        tokens: folder of the rows, on a disk that all workers see.
        out: folder of the result, on such a disk too.
        model: what each worker loads.
        settings: what is measured.
        portions: into how many portions the shards are dealt.
    """

    tokens: Path
    out: Path
    model: ModelSettings
    settings: ScoreSettings
    portions: int


class RayScorer:
    """Ray Data's actor: loads the model once, then scores the portions it is given."""

    def __init__(self, job: RayJob) -> None:
        self.job = job
        self.loaded = load_model(job.model)

    def __call__(self, batch: "Mapping[str, NDArray[np.int64]]") -> "Mapping[str, NDArray[np.int64]]":
        """Score the portions whose numbers are in ``batch["portion"]``; the same numbers come back."""
        rows = cast("TokenRows", open_rows(self.job.tokens))
        for number in batch["portion"]:
            portion = Portion(int(number), self.job.portions)
            score(rows, self.loaded, self.job.settings, out=self.job.out, portion=portion)
        return batch


def score_on_ray(
    rows: TokenRows,
    model: ModelSettings | str,
    settings: ScoreSettings | None = None,
    *,
    out: Path,
    workers: int = 2,
    gpus_a_worker: float = 0.0,
) -> Rows[Scored]:
    """As ``score``, by workers of a Ray cluster: the one that is running, else one that is started on this machine.

    Args:
        rows: tokens in a folder that all workers can read.
        model: what each worker loads.
        settings: what is measured. The score store must lie on a disk of its own machine; see ``data.store``.
        out: folder of the result, on a disk that all workers can write.
        workers: number of actors.
        gpus_a_worker: GPUs that each of them reserves.

    Raises:
        InputError: the rows are in memory; or as in ``score``.
        EnvironmentProblem: Ray is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise EnvironmentProblem(
            "Ray is not installed", where="--engine ray", fix="pip install 'tokensieve[ray]'"
        ) from error
    if rows.folder is None:
        raise InputError("Ray's workers read the tokens from a folder", fix="rows.save(FOLDER) first")
    count = max(2, workers * _PORTIONS_A_WORKER)
    model = ModelSettings(model=model) if isinstance(model, str) else model
    job = RayJob(rows.folder.resolve(), out.resolve(), model, settings or ScoreSettings(), count)
    portions = ray.data.from_items([{"portion": number} for number in range(count)], override_num_blocks=count)
    portions.map_batches(
        RayScorer,
        fn_constructor_kwargs={"job": job},
        batch_size=1,
        num_gpus=gpus_a_worker,
        compute=ray.data.ActorPoolStrategy(size=workers),
    ).materialize()
    return cast("Rows[Scored]", open_rows(out))
