"""Reference backend: a transformers model in this process."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias, TypeVar

import numpy as np
import torch

from tokensieve.config import ScoreSettings
from tokensieve.data.manifest import ModelIdentity
from tokensieve.models import LoadedModel
from tokensieve.scoring.backbone import Backbone, open_backbone
from tokensieve.scoring.backend import Measures, ScoreRecord, ScoreRequest
from tokensieve.scoring.batching import Batch, batches, find_token_budget
from tokensieve.scoring.lm_head import TokenMeasures, matmul_precision

T = TypeVar("T")
Measured: TypeAlias = tuple[Sequence[ScoreRequest], TokenMeasures]
"""Requests of a batch and the measures of all their positions, request after request, on the model's device."""

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
    facts: Mapping[str, object]
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
        self.backbone.free()
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
            self.backbone.free()
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
    facts: dict[str, object] = {
        "token_budget": budget,
        "head_path": backbone.head_path,
        "packed": backbone.layout.packs,
        "compiled": backbone.compiled is not None and backbone.compiled.problem is None,
    }
    if backbone.notes:
        facts["notes"] = list(backbone.notes)
    return TransformersBackend(
        backbone=backbone,
        identity=loaded.identity.model_copy(update={"head_dtype": backbone.head_dtype}),
        facts=facts,
        max_length=getattr(config, "max_position_embeddings", None),
        vocab_size=int(loaded.model.get_input_embeddings().weight.shape[0]),
        token_budget=budget,
    )
