"""The reference backend: a transformers model in this process."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tokensieve.config import ScoreSettings
from tokensieve.data.manifest import ModelIdentity
from tokensieve.data.store import Record
from tokensieve.errors import EnvironmentProblem
from tokensieve.models import LoadedModel
from tokensieve.scoring._budget import find_token_budget, is_out_of_memory
from tokensieve.scoring._head import matmul_precision
from tokensieve.scoring._network import Network, open_network
from tokensieve.scoring._plan import Batch, batches
from tokensieve.scoring._request import Request


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
    """

    network: Network
    identity: ModelIdentity
    facts: Mapping[str, object]
    longest: int | None
    vocabulary: int
    token_budget: int
    tells_entropy: bool = True
    tells_rank: bool = True

    def pinned(self, facts: Mapping[str, object]) -> "TransformersBackend":
        """The same backend with the token budget of an earlier start."""
        budget = facts.get("token_budget")
        return replace(self, token_budget=budget) if isinstance(budget, int) else self

    def answer(self, requests: Sequence[Request], *, entropy: bool, rank: bool) -> list[Record]:
        """Score requests; the batches depend on them and on the token budget only.

        Raises:
            EnvironmentProblem: a single row does not fit into memory.
        """
        found: dict[int, Record] = {}
        planned = batches(requests, self.token_budget, share=self.network.shares, pack=self.network.packs)
        with matmul_precision(tf32=False):
            for batch in planned:
                records = self._fitting(batch, entropy=entropy, rank=rank)
                found.update((id(request), record) for request, record in zip(batch.requests, records, strict=True))
        return [found[id(request)] for request in requests]

    def _fitting(self, batch: Batch, *, entropy: bool, rank: bool) -> list[Record]:
        """Score a batch, in halves where memory runs out."""
        try:
            return self.network.measure(batch, entropy=entropy, rank=rank)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(batch.requests) == 1:
                raise EnvironmentProblem(
                    f"a row of {len(batch.requests[0].ids_T):,} tokens does not fit into memory",
                    where=self.identity.name,
                    fix="a smaller --dtype, --quantisation nf4, or --max-length for the tokens",
                ) from error
        # Outside the except block, whose traceback would keep the failed batch's tensors alive.
        self.network.free()
        return [r for half in batch.halves() for r in self._fitting(half, entropy=entropy, rank=rank)]


def open_backend(loaded: LoadedModel, settings: ScoreSettings) -> TransformersBackend:
    """The backend for a model; looks for a token budget where the settings give none."""
    network = open_network(loaded, settings)
    budget = settings.token_budget or find_token_budget(loaded.model, loaded.device)
    config = loaded.model.config.get_text_config()
    facts: dict[str, object] = {"token_budget": budget, "head_path": network.head_path, "packed": network.packs}
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
