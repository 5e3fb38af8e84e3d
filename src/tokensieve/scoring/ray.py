"""Scoring by Ray's workers: an actor a model, a portion of the shards a task.

A portion that a lost worker left unfinished is dealt out again and goes on where it stopped; only the indices of
portions travel through Ray, never rows.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokensieve.config import LaunchSettings, ModelSettings, ScoreSettings
from tokensieve.data.dataset import Rows, open_rows_of
from tokensieve.errors import EnvironmentProblem, InputError, TokensieveError, first_line
from tokensieve.launch import Portion
from tokensieve.models import LoadedModel, load_model
from tokensieve.scoring.run import TokenRows, score
from tokensieve.types import Scored

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PORTIONS_A_WORKER: Final = 4
"""So that a worker that is fast, or one that takes over from a lost one, does not wait for the others."""


@dataclass(frozen=True, slots=True)
class RayJob:
    """Job description that is sent to every worker.

    Attributes:
        tokens: folder of the rows, on a disk that all workers see.
        out: folder of the result, on such a disk too.
        model: what each worker loads.
        settings: measures and batching.
        portions: into how many portions the shards are dealt.
    """

    tokens: Path
    out: Path
    model: ModelSettings
    settings: ScoreSettings
    portions: int


class RayScorer:
    """Ray Data's actor: loads the model once, then scores the portions it is given.

    What a user can mend comes back as words: Ray would wrap an error, try it again and print its trace.
    """

    def __init__(self, job: RayJob) -> None:
        self.job = job
        self.loaded: LoadedModel | TokensieveError
        try:
            self.loaded = load_model(job.model)
        except TokensieveError as error:
            self.loaded = error

    def __call__(self, batch: "Mapping[str, NDArray[np.int64]]") -> "Mapping[str, object]":
        """Score the portions with the indices ``batch["portion"]``; each one's error as JSON, else an empty text."""
        return {**batch, "problem": [self._score(Portion(int(n), self.job.portions)) for n in batch["portion"]]}

    def _score(self, portion: Portion) -> str:
        try:
            if isinstance(self.loaded, TokensieveError):
                raise self.loaded
            score(
                self.job.tokens,
                self.loaded,
                self.job.settings,
                out=self.job.out,
                launch=LaunchSettings(shard=f"{portion.index}/{portion.count}"),
            )
        except TokensieveError as error:
            return json.dumps([error.exit_code, error.problem, error.where, error.fix])
        return ""


def score_on_ray(
    rows: TokenRows,
    model: ModelSettings | str,
    settings: ScoreSettings | None = None,
    *,
    out: Path | None,
    workers: int = 2,
    gpus_a_worker: float | None = None,
) -> Rows[Scored]:
    """As ``score``, by workers of a Ray cluster: the one that is running, else one that is started on this machine.

    Args:
        rows: tokens in a folder that all workers can read.
        model: what each worker loads.
        settings: measures and batching. The score store must lie on a disk of its own machine; see ``scoring.store``.
        out: folder of the result, on a disk that all workers can write.
        workers: number of actors.
        gpus_a_worker: GPUs that each of them reserves; None is one where the cluster has any.

    Raises:
        InputError: the rows are in memory, or there is no folder for the result; or as in ``score``.
        EnvironmentProblem: Ray is not installed, its workers are lost again and again; or as in ``score``.
    """
    try:
        import ray
    except ImportError as error:
        raise EnvironmentProblem(
            "Ray is not installed", where="--engine ray", fix="pip install 'tokensieve[ray]'"
        ) from error
    if out is None:
        raise InputError("Ray's workers write the scores into a folder", fix="give out=FOLDER")
    if rows.folder is None:
        raise InputError("Ray's workers read the tokens from a folder", fix="rows.save(FOLDER) first")
    count = max(2, workers * _PORTIONS_A_WORKER)
    model = ModelSettings(model=model) if isinstance(model, str) else model
    job = RayJob(rows.folder.resolve(), out.resolve(), model, settings or ScoreSettings(), count)
    if not ray.is_initialized():
        ray.init(log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    if gpus_a_worker is None:
        gpus_a_worker = 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0
    portions = ray.data.from_items([{"portion": number} for number in range(count)], override_num_blocks=count)
    done = portions.map_batches(
        RayScorer,
        fn_constructor_kwargs={"job": job},
        batch_size=1,
        num_gpus=gpus_a_worker,
        compute=ray.data.ActorPoolStrategy(size=workers),
    )
    try:
        problems = {row["problem"] for row in done.take_all()} - {""}
    except ray.exceptions.RayError as error:
        raise EnvironmentProblem(
            f"Ray's workers failed: {first_line(error)}",
            where="--engine ray",
            fix="look into Ray's logs; the same command goes on where it stopped",
        ) from error
    for problem in sorted(problems):
        code, said, where, fix = json.loads(problem)
        raise (InputError if code == InputError.exit_code else EnvironmentProblem)(said, where=where, fix=fix)
    return open_rows_of(Scored, out)
