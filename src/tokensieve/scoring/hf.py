"""The reference backend: a transformers model in this process."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from tokensieve.config import ScoreSettings
from tokensieve.data.manifest import ModelIdentity
from tokensieve.data.score_record import Record, Wanted
from tokensieve.models import LoadedModel
from tokensieve.scoring.backbone import open_network
from tokensieve.scoring.batch_size import find_token_budget, is_out_of_memory, keep_heap
from tokensieve.scoring.batching import Batch, batches
from tokensieve.scoring.lm_head import matmul_precision
from tokensieve.scoring.network import Network
from tokensieve.scoring.request import Request

T = TypeVar("T")

_SHORTEST_PIECE: Final = 32
"""Tokens; a model of which so few do not fit is itself too large."""


@dataclass(frozen=True, slots=True, eq=False)
class TransformersBackend:
    """Scores requests in padded batches of similar length.

    Attributes:
        network: the model, taken apart.
        identity: of the model, with the numbers of its head.
        facts: token budget, head path and notes.
        longest: most tokens in a row.
        vocabulary: number of ids.
        token_budget: tokens in one batch, padding included.
        before_answer: called with requests, what is wanted and the token budget, before they are scored.
    """

    network: Network
    identity: ModelIdentity
    facts: Mapping[str, object]
    longest: int | None
    vocabulary: int
    token_budget: int
    before_answer: Callable[[Sequence[Request], Wanted, int], object] | None = None
    tells_entropy: bool = True
    tells_rank: bool = True

    def pinned(self, facts: Mapping[str, object]) -> "TransformersBackend":
        """The same backend with the token budget of an earlier start."""
        budget = facts.get("token_budget")
        return replace(self, token_budget=budget) if isinstance(budget, int) else self

    def answer(self, requests: Sequence[Request], wanted: Wanted) -> list[Record | None]:
        """Score requests; the batches depend on them and on the token budget only."""
        if self.before_answer is not None:
            self.before_answer(requests, wanted, self.token_budget)
        found: dict[int, Record | None] = {}
        with matmul_precision("highest"):
            for batch in batches(requests, self.token_budget, self.network.layout):
                records = self._fitting(batch, wanted)
                found.update((id(request), record) for request, record in zip(batch.requests, records, strict=True))
        return [found[id(request)] for request in requests]

    def _fitting(self, batch: Batch, wanted: Wanted) -> Sequence[Record | None]:
        """Score a batch; where memory runs out, in halves, and a row that is alone in pieces."""
        records = _unless_out_of_memory(lambda: self.network.measure(batch, wanted))
        if records is not None:
            return records
        # The failed batch's tensors are gone by now: the traceback that kept them alive is.
        self.network.free()
        if len(batch.requests) == 1:
            return [self._in_pieces(batch.requests[0], wanted)]
        return [record for half in batch.halves() for record in self._fitting(half, wanted)]

    def _in_pieces(self, request: Request, wanted: Wanted) -> Record | None:
        """Score a row piece by piece, in ever shorter ones; None where it does not fit even so."""
        length = len(request.inputs_T) if self.network.layout.shares else 0
        while length > _SHORTEST_PIECE:
            length = max(_SHORTEST_PIECE, -(-length // 2))
            record = self._piecewise(request, length, wanted)
            if record is not None:
                return record
            self.network.free()
        return None

    def _piecewise(self, request: Request, length: int, wanted: Wanted) -> Record | None:
        return _unless_out_of_memory(lambda: self.network.measure_in_pieces(request, length, wanted))


def _unless_out_of_memory(work: Callable[[], T]) -> T | None:
    """What the work returns; None where memory ran out."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    return None


def open_backend(loaded: LoadedModel, settings: ScoreSettings) -> TransformersBackend:
    """The backend for a model; looks for a token budget where the settings give none."""
    if loaded.device.type == "cpu":
        keep_heap()
    network = open_network(loaded, settings)
    budget = settings.token_budget or find_token_budget(loaded.model, loaded.device)
    config = loaded.model.config.get_text_config()
    facts: dict[str, object] = {"token_budget": budget, "head_path": network.head_path, "packed": network.layout.packs}
    if network.notes:
        facts["notes"] = list(network.notes)
    return TransformersBackend(
        network=network,
        identity=loaded.identity.model_copy(update={"head_dtype": network.head_dtype}),
        facts=facts,
        longest=getattr(config, "max_position_embeddings", None),
        vocabulary=int(loaded.model.get_input_embeddings().weight.shape[0]),
        token_budget=budget,
    )
