"""Score a data set: the way of a row through ``tokensieve score``, from the data to the folder of scores.

``score_data`` reads the data and makes tokens; ``score`` opens the backend; ``score_with`` goes through the shards;
``Scorer`` takes a shard's scores from the store, and sends the rest through the backend.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from tokensieve.config import DataSettings, LaunchSettings, ModelSettings, ScoreSettings, as_settings
from tokensieve.data.dataset import Rows, ShardRun, as_rows, in_memory, in_shards, open_rows
from tokensieve.data.hashing import refuse_another_tokenizer
from tokensieve.data.manifest import MANIFEST_NAME, Manifest, ModelIdentity
from tokensieve.data.shards import read_ahead
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.launch import Portion, device_of_launch, portion_of
from tokensieve.models import LoadedModel, ModelLike, context_length, load_model, settings_of
from tokensieve.pipeline import load, load_beside_others
from tokensieve.scoring.backend import Backend, Measures, ScoreRecord, ScoreRequest, check_row, request_for, unique
from tokensieve.scoring.sharding import Portions, RowAccount, draft_manifest
from tokensieve.scoring.store import ScoreStore
from tokensieve.scoring.vllm import open_vllm
from tokensieve.types import BASE_SCORER, Progress, Scored, Tokens

if TYPE_CHECKING:
    from tokensieve.data.formats.sources import Data

TokenRows: TypeAlias = Rows[Tokens | Scored]
"""Rows to score: tokens, or rows that hold other models' scores already."""

_TOKENS: Final = ".tokens"
"""Folder of the tokens in that of their scores: on disk, so that memory does not grow with the rows."""


def score_data(
    data: str,
    out: Path,
    model: ModelSettings,
    read: DataSettings | None = None,
    settings: ScoreSettings | None = None,
    launch: LaunchSettings | None = None,
    progress: Progress | None = None,
) -> Rows[Scored]:
    """Read a data set, make its tokens and score them; as ``tokensieve score``.

    Args:
        data: as in ``load``.
        out: folder of the result, which holds the tokens too; the same call goes on where a killed one stopped.
        model: settings of the model.
        read: settings of reading.
        settings: measures and batching.
        launch: backend, engine, and this process's share of the work.
        progress: called after every shard with rows done and rows in all.

    Raises:
        InputError: as in ``load`` and ``score``, or settings that exclude each other.
        EnvironmentProblem: as in ``score``.
    """
    from tokensieve.scoring import hf  # torch, which `tokensieve --help` does without

    read, settings, launch = read or DataSettings(), settings or ScoreSettings(), launch or LaunchSettings()
    portion = portion_of(launch, model)
    tokens = out / _TOKENS
    if launch.backend == "vllm":
        with closing(open_vllm(model, launch.url)) as backend:
            rows = load_beside_others(data, model, read, tokens, portion, longest=backend.max_length)
            return score_with(rows, backend, settings, out=out, portion=portion, progress=progress)
    limit = context_length(model)
    if launch.engine == "ray":
        return score(load(data, model, read, tokens, longest=limit), model, settings, out=out, launch=launch)
    with ThreadPoolExecutor(max_workers=1) as beside:
        loading = beside.submit(_load, model)
        if model.tp_plan != "none" and hf.follows(loading.result()):
            return hf.follow(hf.open_backend(loading.result(), settings), out)
        rows = load_beside_others(data, model, read, tokens, portion, longest=limit)  # while the weights are read
        loaded = loading.result()
    return score(rows, loaded, settings, out=out, launch=launch, progress=progress)


def score(
    rows: "TokenRows | Data",
    model: ModelLike,
    settings: ScoreSettings | Mapping[str, object] | None = None,
    *,
    out: str | Path | None = None,
    launch: LaunchSettings | Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> Rows[Scored]:
    """Score the response tokens of a data set: NLL in nats, entropy in nats and rank, each given all tokens before it.

    Scores do not depend on batch size, padding, order or where the work runs, but for float rounding (1e-5 nats in
    float32). Rows that the store holds are not scored again.

    Args:
        rows: tokens, or rows that hold other models' scores, which are kept; or a data set, which ``load`` makes tokens
            of under its defaults.
        model: a name, folder or settings; a loaded model, ours or transformers'.
        settings: measures and batching; a dict counts as the settings it spells, and so for ``launch``.
        out: folder of the result; the same call goes on where a killed one stopped. None keeps all in memory.
        launch: backend (transformers, vLLM in this process, a vLLM server), engine (this process, Ray's workers), and
            the share of the shards that this process scores where several work on one ``out``.
        progress: called after every shard with rows done and rows in all.

    Returns:
        The rows with scores under ``settings.scorer``. Prompt tokens, and the first token of a row, are NaN; so is
        every token of a row without a response. A row that does not fit into memory, alone and in chunks, is left
        out and counted. With a share of the shards: those rows, or all rows where it was the last to finish.

    Raises:
        InputError: tokens of another tokenizer, over-long rows, scores of that name that are there already, a score
            that is not finite, a folder that belongs to another run, settings that exclude each other; or as in
            ``load_model``.
        EnvironmentProblem: no disk space, vLLM or Ray not installed, a server that cannot be reached; or as in
            ``load_model``.
    """
    from tokensieve.scoring import hf

    settings, launch = as_settings(ScoreSettings, settings, "settings"), as_settings(LaunchSettings, launch, "launch")
    out = None if out is None else Path(out)
    if not isinstance(model, ModelSettings | str | Path):
        model = load_model(model)
    rows = _token_rows(rows, model)
    chosen = model.settings if isinstance(model, LoadedModel) else settings_of(model)
    portion = portion_of(launch, chosen)
    if isinstance(model, LoadedModel) and (launch.engine, launch.backend) != ("local", "transformers"):
        raise InputError("Ray's workers and vLLM load the model themselves", fix="give its name or settings")
    if launch.engine == "ray":
        from tokensieve.scoring.ray import score_on_ray

        return score_on_ray(rows, chosen, settings, out=out, workers=launch.workers)
    if launch.backend == "vllm":
        with closing(open_vllm(chosen, launch.url)) as backend:
            _check_tokenizer(rows, backend.identity, settings)
            return score_with(rows, backend, settings, out=out, portion=portion, progress=progress)
    loaded = model if isinstance(model, LoadedModel) else _load(chosen)
    _check_tokenizer(rows, loaded.identity, settings)
    with hf.leading(loaded, hf.open_backend(loaded, settings)) as local:
        return score_with(rows, local, settings, out=out, portion=portion, progress=progress)


def _token_rows(given: "TokenRows | Data", model: LoadedModel | ModelSettings | str | Path) -> TokenRows:
    """Tokens, or rows with scores, as they are or out of their folder; a data set's tokens."""
    if isinstance(given, str | Path) and (Path(given) / MANIFEST_NAME).is_file():
        given = open_rows(given)
    if isinstance(given, Rows) and given.manifest.stage == "tokens":
        return as_rows(Tokens, given)
    if isinstance(given, Rows) and given.manifest.stage == "scored":
        return as_rows(Scored, given)
    return load(given, model, longest=None if isinstance(model, LoadedModel) else context_length(settings_of(model)))


def score_with(
    rows: TokenRows,
    backend: Backend,
    settings: ScoreSettings,
    *,
    out: Path | None = None,
    portion: Portion | None = None,
    progress: Progress | None = None,
) -> Rows[Scored]:
    """As ``score``, by a backend of one's own.

    Raises:
        InputError: a portion without a folder to put it into; or as in ``score``.
    """
    portion = portion or Portion()
    draft, target, portions = draft_manifest(rows, backend, settings), out, None
    if not portion.whole:
        portions = Portions.of(out, portion)
        if (whole := portions.result(draft, rows.manifest)) is not None:
            return whole
        draft, target = portions.pin(draft), portions.folder(portion.index)
    account = RowAccount(rows.manifest, others=portions is not None)
    with open_store(settings, backend.identity) as store, ShardRun[Scored](target, draft) as run:
        scored = run.finished
        if scored is None:
            # An earlier start's batches are made again as they were, whatever memory is free now.
            scorer = Scorer(backend.resumed(run.draft.facts), settings, store)
            run.make(
                # The next shard is read while one is scored.
                read_ahead(in_shards(rows, settings.shard_rows)),
                lambda shard: account.kept(shard, scorer.score(shard)),
                recall=account.recall,
                passed=lambda shard: account.passed(shard, len(rows), progress),
                has=portion.has,
            )
            scored = run.finish(account.counts)
    return portions.join(rows.manifest) if portions is not None and portions.finished else scored


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """A backend with its store.

    Attributes:
        backend: computes scores that the store does not hold.
        settings: measures and the scorer's name.
        store: keeps scores; None keeps none.
    """

    backend: Backend
    settings: ScoreSettings
    store: ScoreStore | None

    def score(self, rows: Sequence[Tokens | Scored]) -> list[Scored | None]:
        """Score rows, each once however often it occurs, and keep the scores before they are handed out.

        Returns:
            The rows in their order; None in the place of one that does not fit into memory.

        Raises:
            InputError: a row is too long for the model, holds an id that it does not have, or has scores of that
                name already; or a score is not finite.
        """
        tokens = [row.tokens if isinstance(row, Scored) else row for row in rows]
        requests = [request_for(one, prompts=self.settings.prompts) for one in tokens]
        self._check(rows, tokens)
        measures = Measures.of(self.settings, self.backend)
        names = {request.key: one.id for request, one in zip(requests, tokens, strict=True)}
        records = self._records(unique(request for request in requests if len(request.positions_N)), names)
        scored: list[Scored | None] = []
        for row, one, request in zip(rows, tokens, requests, strict=True):
            record = records[request.key] if len(request.positions_N) else ScoreRecord.empty(measures)
            if record is None:
                scored.append(None)
                continue
            before = row.scores if isinstance(row, Scored) else {}
            scores = record.over_row(request.positions_N, len(one))
            scored.append(Scored(one, {**before, self.settings.scorer: scores}))
        return scored

    def _records(
        self, requests: Mapping[bytes, ScoreRequest], names: Mapping[bytes, str]
    ) -> dict[bytes, ScoreRecord | None]:
        measures = Measures.of(self.settings, self.backend)
        known = {} if self.store is None else self.store.get(list(requests), measures)
        known = {key: one for key, one in known.items() if one.not_finite() is None}
        missing = {key: request for key, request in requests.items() if key not in known}
        if not missing:
            return {**known}
        answers = self.backend.score(list(missing.values()), measures)
        fresh = dict(zip(missing, answers, strict=True))
        for key, one in fresh.items():
            if one is not None:
                one.check_finite(requests[key], f"row {names[key]}, model {self.backend.identity.name}")
        if self.store is not None:
            self.store.put({key: one for key, one in fresh.items() if one is not None}, measures.top_k)
        return {**known, **fresh}

    def _check(self, rows: Sequence[Tokens | Scored], tokens: Sequence[Tokens]) -> None:
        for row, one in zip(rows, tokens, strict=True):
            check_row(one, self.backend)
            if isinstance(row, Scored) and self.settings.scorer in row.scores:
                raise InputError(
                    f"there are scores by {self.settings.scorer!r} already",
                    where=f"row {one.id}",
                    fix="give the new ones another name with --scorer",
                )


def open_store(settings: ScoreSettings, identity: ModelIdentity) -> AbstractContextManager[ScoreStore | None]:
    """Open the settings' score store; None where they use none."""
    return ScoreStore(settings.store, identity) if settings.use_store else nullcontext()


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


def _check_tokenizer(rows: TokenRows, model: ModelIdentity, settings: ScoreSettings) -> None:
    """Check that the model about to be trained made the tokens; of another scorer, ids are checked row by row."""
    if settings.scorer == BASE_SCORER:
        refuse_another_tokenizer(rows.manifest.model, model, fix="make the tokens again with this model")


def _load(model: ModelSettings) -> LoadedModel:
    """Load a model on the device that a launcher gave this process."""
    if model.device == "auto" and model.tp_plan == "none":
        model = model.model_copy(update={"device": device_of_launch()})
    return load_model(model)
