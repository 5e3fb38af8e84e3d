"""Score a data set: in memory, or shard by shard into a folder that a kill cannot spoil."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias, cast

from tokensieve.config import ModelSettings, ScoreSettings
from tokensieve.data.dataset import Rows, ShardRun, in_memory, in_shards, read_ahead
from tokensieve.data.hashing import refuse_another_tokenizer
from tokensieve.data.manifest import Manifest, ModelIdentity, package_versions
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.launch import Portion
from tokensieve.models import LoadedModel, load_model
from tokensieve.scoring.account import Account
from tokensieve.scoring.scorer import Backend, Scorer, TokenRows, open_store
from tokensieve.scoring.sharding import score_portion
from tokensieve.types import BASE_SCORER, JSON, Scored, Tokens

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of rows done and of all rows, from the thread that scores."""

NO_PART_OF_THE_RESULT = {"store", "use_store", "token_budget", "packing"}
"""Settings that change how the work is done; the folder of a run may be taken up with others."""


def score(
    rows: TokenRows,
    model: LoadedModel | ModelSettings | str,
    settings: ScoreSettings | None = None,
    *,
    out: Path | None = None,
    portion: Portion | None = None,
    progress: Progress | None = None,
) -> Rows[Scored]:
    """Score the response tokens of a data set: nll in nats, entropy in nats, rank, each given all tokens before it.

    Scores do not depend on batch size, padding, order or where the work runs, but for float rounding (1e-5 nats in
    float32). Rows that the store holds are not scored again.

    Args:
        rows: tokens, or rows that hold other models' scores, which are kept.
        model: a loaded model, its settings, or its name.
        settings: what is measured, and in what portions.
        out: folder of the result; the same call goes on where a killed one stopped. None keeps all in memory.
        portion: the shards that this process does, where several work on one ``out``; None is all of them.
        progress: called after every shard.

    Returns:
        The rows with scores under ``settings.scorer``. Prompt tokens, and the first token of a row, are NaN; so is
        every token of a row without a response. A row that does not fit into memory, alone and in pieces, is left
        out and counted. With a ``portion``: those of this portion, or all rows where it was the last one to finish.

    Raises:
        InputError: tokens of another tokenizer, over-long rows, scores of that name that are there already, a
            folder that belongs to another run; or as in ``load_model``.
        EnvironmentProblem: no disk space, or as in ``load_model``.
    """
    from tokensieve.scoring import tensor_parallel
    from tokensieve.scoring.hf import open_backend

    settings = settings or ScoreSettings()
    loaded = model if isinstance(model, LoadedModel) else load_model(model)
    check_same_tokenizer(rows.manifest.model, loaded.identity, settings.scorer)
    backend = open_backend(loaded, settings)
    if tensor_parallel.leads_others(loaded):
        with tensor_parallel.leading(backend) as leader:
            return score_with(rows, leader, settings, out=out, portion=portion, progress=progress)
    return score_with(rows, backend, settings, out=out, portion=portion, progress=progress)


def compute_along(loaded: LoadedModel, settings: ScoreSettings, out: Path) -> Rows[Scored] | None:
    """Where one model lies over several processes, the work of all but the first, which alone calls ``score``.

    Args:
        loaded: the model, by ``tp_plan="auto"``.
        settings: as the first process has them.
        out: folder of the result.

    Returns:
        The rows, once the first process has written them; None where this is the first process, or the only one.

    Raises:
        EnvironmentProblem: the first process ended without writing them.
    """
    from tokensieve.scoring import tensor_parallel
    from tokensieve.scoring.hf import open_backend

    return tensor_parallel.follow(open_backend(loaded, settings), out) if tensor_parallel.follows(loaded) else None


def score_with(
    rows: TokenRows,
    backend: Backend,
    settings: ScoreSettings,
    *,
    out: Path | None = None,
    portion: Portion | None = None,
    progress: Progress | None = None,
) -> Rows[Scored]:
    """As ``score``, by any backend.

    Raises:
        InputError: a portion without a folder to put it into; or as in ``score``.
    """
    if portion is not None and not portion.whole and out is None:
        raise InputError("several processes need a folder to put their shards together in", fix="give --out")
    draft = draft_manifest(rows, backend, settings)
    with open_store(settings, backend.identity) as store:
        scorer = Scorer(backend, settings, store)
        if out is not None and portion is not None and not portion.whole:
            passed = (lambda _: None) if progress is None else (lambda done: progress(done, len(rows)))
            return score_portion(rows, scorer, draft, out, portion, passed)
        account = Account(rows.manifest)
        with ShardRun[Scored](out, draft) as run:
            if run.finished is not None:
                return run.finished
            # An earlier start's batches are made again as they were, whatever memory is free now.
            scorer = replace(scorer, backend=backend.pinned(run.draft.facts))
            run.make(
                # The next shard is read while one is scored.
                read_ahead(in_shards(cast(Iterable[Tokens | Scored], rows), settings.shard_rows)),
                lambda shard: account.kept(shard, scorer.score(shard)),
                recall=account.recall,
                passed=lambda _: None if progress is None else progress(account.rows_in, len(rows)),
            )
            return run.finish(account.counts)


def score_all(rows: Sequence[Tokens], model: LoadedModel, settings: ScoreSettings) -> list[Scored]:
    """As ``score``, in memory, for a caller that needs every row.

    Raises:
        InputError: as in ``score``.
        EnvironmentProblem: a row does not fit into memory.
    """
    scored = list(score(in_memory(rows, Manifest(stage="tokens", model=model.identity)), model, settings))
    if len(scored) < len(rows):
        raise EnvironmentProblem(
            f"{len(rows) - len(scored)} of {len(rows)} rows do not fit into memory",
            where=model.identity.name,
            fix="a smaller --dtype, --quantisation nf4, or shorter rows",
        )
    return scored


def draft_manifest(rows: TokenRows, backend: Backend, settings: ScoreSettings) -> Manifest:
    """The manifest as far as it is known before the first row is scored."""
    scorers = dict(cast("dict[str, JSON]", rows.manifest.facts.get("scorers", {})))
    scorers[settings.scorer] = backend.identity.model_dump(mode="json")
    facts = cast("dict[str, JSON]", {**rows.manifest.facts, **backend.facts, "scorers": scorers})
    if settings.entropy_top_k is not None:
        counts = cast("dict[str, JSON]", facts.get("entropy_top_k", {}))
        facts["entropy_top_k"] = {**counts, settings.scorer: settings.entropy_top_k}
    return Manifest(
        stage="scored",
        settings=settings.model_dump(mode="json", exclude=NO_PART_OF_THE_RESULT),
        inputs={"tokens": rows.manifest.digest},
        model=backend.identity,
        versions=dict(package_versions()),
        facts=facts,
    )


def check_same_tokenizer(made_with: ModelIdentity | None, model: ModelIdentity, scorer: str) -> None:
    """Check that the tokens were made by tokenizer and chat template of the model that is about to be trained.

    Another scorer may come with a tokenizer file of its own, as sizes of one family do; its ids are checked instead.

    Raises:
        InputError: they were made by another one.
    """
    if scorer == BASE_SCORER:
        refuse_another_tokenizer(made_with, model, fix="make the tokens again with this model")
