"""One shard after the other: what is in the store is taken from there, the rest goes through the model."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from numpy import float32, zeros

from tokensieve.config import ScoreSettings
from tokensieve.data.dataset import Rows
from tokensieve.data.manifest import ModelIdentity
from tokensieve.data.score_record import Record, Wanted, not_finite
from tokensieve.data.store import ScoreStore
from tokensieve.errors import InputError
from tokensieve.scoring.request import Request, in_row, request_for, unique
from tokensieve.types import Scored, Tokens

TokenRows: TypeAlias = Rows[Tokens] | Rows[Scored]
"""What is scored: tokens, or rows that hold other models' scores already."""


class Backend(Protocol):
    """Who computes: answers requests, in any order of its own, with one record each."""

    @property
    def identity(self) -> ModelIdentity:
        """Whose scores these are; complete, so that the store can tell them from others'."""

    @property
    def facts(self) -> Mapping[str, object]:
        """What the manifest should say of how the scores were made."""

    @property
    def longest(self) -> int | None:
        """Most tokens that a row may have; None where there is no limit."""

    @property
    def vocabulary(self) -> int | None:
        """Number of token ids that it knows; None where it cannot tell."""

    @property
    def tells_entropy(self) -> bool:
        """Whether it can measure entropies; where it cannot, rows have none."""

    @property
    def tells_rank(self) -> bool:
        """Whether it can measure ranks; where it cannot, rows have none."""

    def pinned(self, facts: Mapping[str, object]) -> "Backend":
        """The same backend, working in the portions that an earlier start of the run found and noted in its facts."""

    def answer(self, requests: Sequence[Request], wanted: Wanted) -> Sequence[Record | None]:
        """The records, in the order of the requests, each of which has at least one place.

        None for a request that does not fit into memory, whatever is tried.
        """


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """A backend with its store.

    Attributes:
        backend: who computes.
        settings: what is measured.
        store: where scores are kept; None keeps none.
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
        names = {request.key: one.id for request, one in zip(requests, tokens, strict=True)}
        records = self._records(unique(request for request in requests if len(request.places_N)), names)
        scored: list[Scored | None] = []
        for row, one, request in zip(rows, tokens, requests, strict=True):
            record = records[request.key] if len(request.places_N) else self._nothing()
            if record is None:
                scored.append(None)
                continue
            before = row.scores if isinstance(row, Scored) else {}
            scores = in_row(record, request.places_N, len(one))
            scored.append(Scored(one, {**before, self.settings.scorer: scores}))
        return scored

    def _records(self, requests: Mapping[bytes, Request], names: Mapping[bytes, str]) -> dict[bytes, Record | None]:
        wanted = self._wanted
        known = {} if self.store is None else self.store.get(list(requests), wanted)
        known = {key: one for key, one in known.items() if not_finite(one) is None}
        missing = {key: request for key, request in requests.items() if key not in known}
        if not missing:
            return {**known}
        answers = self.backend.answer(list(missing.values()), wanted)
        fresh = dict(zip(missing, answers, strict=True))
        for key, one in fresh.items():
            if one is not None and (found := not_finite(one)) is not None:
                self._refuse(*found, requests[key], names[key])
        if self.store is not None:
            self.store.put({key: one for key, one in fresh.items() if one is not None}, wanted.top_k)
        return {**known, **fresh}

    def _refuse(self, measure: str, number: int, value: float, request: Request, row: str) -> None:
        place = int(request.places_N[number])
        raise InputError(
            f"the {measure} of token {place} (id {int(request.ids_T[place])}) is {value}, expected a finite number",
            where=f"row {row}, model {self.backend.identity.name}",
            fix="check the model's weights for NaN; float16 can overflow: --dtype bfloat16 or float32",
        )

    @property
    def _wanted(self) -> Wanted:
        """What the settings ask for and the backend can tell."""
        entropy = self.backend.tells_entropy
        return Wanted(
            entropy=self.settings.entropy and entropy,
            rank=self.settings.rank and self.backend.tells_rank,
            top_k=self.settings.entropy_top_k if entropy else None,
        )

    def _nothing(self) -> Record:
        """The record of a row in which nothing is scored."""
        wanted, none = self._wanted, zeros(0, dtype=float32)
        return Record(
            none,
            none if wanted.entropy else None,
            none if wanted.rank else None,
            none if wanted.top_k is not None else None,
        )

    def _check(self, rows: Sequence[Tokens | Scored], tokens: Sequence[Tokens]) -> None:
        longest, vocabulary = self.backend.longest, self.backend.vocabulary
        for row, one in zip(rows, tokens, strict=True):
            if longest is not None and len(one) > longest:
                raise InputError(
                    f"{len(one):,} tokens, the model takes {longest:,}",
                    where=f"row {one.id}",
                    fix=f"make the tokens again with --max-length {longest}, which drops or cuts such rows",
                )
            if vocabulary is not None and len(one) and int(one.ids_T.max()) >= vocabulary:
                raise InputError(
                    f"token id {int(one.ids_T.max())}, the model has {vocabulary:,}",
                    where=f"row {one.id}",
                    fix="make the tokens again with this model's tokenizer",
                )
            if isinstance(row, Scored) and self.settings.scorer in row.scores:
                raise InputError(
                    f"there are scores by {self.settings.scorer!r} already",
                    where=f"row {one.id}",
                    fix="give the new ones another name with --scorer",
                )


def open_store(settings: ScoreSettings, identity: ModelIdentity) -> AbstractContextManager[ScoreStore | None]:
    """The store that the settings name, open; nothing where they want none."""
    return ScoreStore(settings.store, identity) if settings.use_store else nullcontext()
