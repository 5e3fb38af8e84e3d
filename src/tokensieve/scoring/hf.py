"""Reference backend: a transformers model in this process, or one model over several processes (tensor parallelism).

In the latter all processes compute the same batches, and the first one leads: only it reads rows, looks into the store
and writes, and before each call of its backend it broadcasts the requests. The others hold no rows, so processes cannot
disagree about what was scored already.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import numpy as np
import torch

from tokensieve.config import ScoreSettings
from tokensieve.data.dataset import Rows, open_rows_of
from tokensieve.data.manifest import MANIFEST_NAME, ModelIdentity
from tokensieve.errors import EnvironmentProblem
from tokensieve.models import LoadedModel
from tokensieve.scoring.backbone import Backbone, open_backbone
from tokensieve.scoring.backend import Measures, ScoreRecord, ScoreRequest
from tokensieve.scoring.batching import Batch, batches, find_token_budget
from tokensieve.scoring.lm_head import TokenMeasures, matmul_precision
from tokensieve.types import JSON, Scored

T = TypeVar("T")
Measured: TypeAlias = tuple[Sequence[ScoreRequest], TokenMeasures]
"""Requests of a batch and the measures of all their positions, request after request, on the model's device."""

_Message: TypeAlias = tuple[Sequence[ScoreRequest], Measures, int] | None
"""Requests, measures and token budget to compute with; None is the end."""

_SHORTEST_CHUNK: Final = 32
"""Tokens; where so few do not fit, the model itself is too large."""


@dataclass(frozen=True, slots=True, eq=False)
class TransformersBackend:
    """Scores requests in padded batches of similar length.

    Attributes:
        backbone: the model, split into backbone and LM head.
        identity: of the model, with the dtype of its LM-head matmul.
        facts: token budget, head path and notes.
        max_length: most tokens in a row.
        vocab_size: number of token ids.
        token_budget: tokens in one batch, padding included.
        before_score: called with requests, measures and token budget before they are scored.
    """

    backbone: Backbone
    identity: ModelIdentity
    facts: Mapping[str, JSON]
    max_length: int | None
    vocab_size: int
    token_budget: int
    before_score: Callable[[Sequence[ScoreRequest], Measures, int], object] | None = None
    has_entropy: bool = True
    has_rank: bool = True

    def resumed(self, facts: Mapping[str, object]) -> "TransformersBackend":
        """The same backend with the token budget of an earlier start."""
        budget = facts.get("token_budget")
        return replace(self, token_budget=budget) if isinstance(budget, int) else self

    def score(self, requests: Sequence[ScoreRequest], measures: Measures) -> list[ScoreRecord | None]:
        """Score requests; the batches depend on them and on the token budget only."""
        if self.before_score is not None:
            self.before_score(requests, measures, self.token_budget)
        measured: list[Measured] = []
        with matmul_precision("highest"):
            for batch in batches(requests, self.token_budget, self.backbone.layout):
                measured += self._measure(batch, measures)
        found = records_of(measured)
        return [found.get(id(request)) for request in requests]

    def _measure(self, batch: Batch, measures: Measures) -> list[Measured]:
        """Measure a batch; where memory runs out in halves, a single row in chunks, and one that does not fit not."""
        found = _unless_out_of_memory(lambda: self.backbone.measure(batch, measures))
        if found is not None:
            return [(batch.requests, found)]
        # The failed batch's tensors are gone by now: the traceback that kept them alive is.
        _free_memory()
        if len(batch.requests) > 1:
            return [part for half in batch.halves() for part in self._measure(half, measures)]
        found = self._measure_in_chunks(batch.requests[0], measures)
        return [] if found is None else [(batch.requests, found)]

    def _measure_in_chunks(self, request: ScoreRequest, measures: Measures) -> TokenMeasures | None:
        """Measure a row in ever shorter chunks; None where it does not fit even so."""
        length = len(request.inputs_T) if self.backbone.layout.shares else 0
        while length > _SHORTEST_CHUNK:
            length = max(_SHORTEST_CHUNK, -(-length // 2))
            found = self._chunked(request, length, measures)
            if found is not None:
                return found
            _free_memory()
        return None

    def _chunked(self, request: ScoreRequest, length: int, measures: Measures) -> TokenMeasures | None:
        return _unless_out_of_memory(lambda: self.backbone.measure_in_chunks(request, length, measures))


def records_of(measured: Sequence[Measured]) -> dict[int, ScoreRecord]:
    """Records by the identity of their requests: the measures of all batches come from the device in one go."""
    if not measured:
        return {}
    requests = [request for some, _ in measured for request in some]
    bounds = np.cumsum([len(request.positions_N) for request in requests])[:-1]
    joined = TokenMeasures.joined([found for _, found in measured])
    arrays = [
        [None] * len(requests)
        if values_N is None
        else np.split(values_N.cpu().numpy().astype(np.float32, copy=False), bounds)
        for values_N in (joined.nll_N, joined.entropy_N, joined.rank_N, joined.top_entropy_N)
    ]
    records = (ScoreRecord(*parts) for parts in zip(*arrays, strict=True))
    return {id(request): record for request, record in zip(requests, records, strict=True)}


def _unless_out_of_memory(work: Callable[[], T]) -> T | None:
    """The result of ``work``; None where memory ran out."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    return None


def _free_memory() -> None:
    """Give back what torch keeps of a GPU's memory, after a batch that did not fit."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """True for an out-of-memory error; the CPU allocator's has no class of its own."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def keep_heap() -> None:
    """Make the C library keep freed blocks of up to 32 MiB for the next layer instead of returning them to the system.

    glibc raises its thresholds for that to the size of the largest block that it has mapped and freed. Without this
    every activation is made of fresh pages, which took a tenth of the time of a small model. Harmless elsewhere.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8).fill_(0)


def open_backend(loaded: LoadedModel, settings: ScoreSettings) -> TransformersBackend:
    """Open the transformers backend; finds a token budget where the settings give none."""
    if loaded.device.type == "cpu":
        keep_heap()
    backbone = open_backbone(loaded, settings)
    budget = settings.token_budget or find_token_budget(loaded.model, loaded.device)
    config = loaded.model.config.get_text_config()
    facts: dict[str, JSON] = {
        "token_budget": budget,
        "head_path": backbone.head_path,
        "packed": backbone.layout.packs,
        "compiled": backbone.compiled is not None and backbone.compiled.problem is None,
    }
    if backbone.notes:
        facts["notes"] = [*backbone.notes]
    return TransformersBackend(
        backbone=backbone,
        identity=loaded.identity.model_copy(update={"head_dtype": backbone.head_dtype}),
        facts=facts,
        max_length=getattr(config, "max_position_embeddings", None),
        vocab_size=int(loaded.model.get_input_embeddings().weight.shape[0]),
        token_budget=budget,
    )


def follows(loaded: LoadedModel) -> bool:
    """True on the other processes that share one model."""
    return _rank_and_size(loaded)[0] > 0


@contextmanager
def leading(loaded: LoadedModel, backend: TransformersBackend) -> Iterator[TransformersBackend]:
    """The backend as it is, or where processes share the model that of the first one, which leads the others.

    At the end the others are let go, whatever happened.
    """
    if _rank_and_size(loaded) == (0, 1) or follows(loaded):
        yield backend
        return
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
