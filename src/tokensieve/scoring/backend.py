"""Requests, records and the protocol of a scoring backend; the only place that shifts positions by one."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from tokensieve.config import ScoreSettings
from tokensieve.data.manifest import ModelIdentity
from tokensieve.errors import InputError
from tokensieve.types import JSON, FloatArray, IntArray, Scores, Tokens


@dataclass(frozen=True, slots=True)
class Measures:
    """Measures of every scored token beside its NLL.

    Attributes:
        entropy: entropy of the next-token distribution.
        rank: number of more likely vocabulary entries.
        top_k: entropy of the K most likely entries, renormalised; None leaves it out.
    """

    entropy: bool = False
    rank: bool = False
    top_k: int | None = None

    @staticmethod
    def of(settings: ScoreSettings, backend: "Backend") -> "Measures":
        """Those that the settings request and the backend can take."""
        return Measures(
            entropy=settings.entropy and backend.has_entropy,
            rank=settings.rank and backend.has_rank,
            top_k=settings.entropy_top_k if backend.has_entropy else None,
        )


@dataclass(frozen=True, slots=True, eq=False)
class ScoreRecord:
    """Scores of one request, N scored positions; None where a measure was not taken.

    Attributes:
        nll_N: NLL in nats, float32.
        entropy_N: entropy in nats.
        rank_N: whole number in float32, 0 is top-1.
        top_entropy_N: entropy in nats of the K most likely entries.
    """

    nll_N: FloatArray
    entropy_N: FloatArray | None = None
    rank_N: FloatArray | None = None
    top_entropy_N: FloatArray | None = None

    @staticmethod
    def empty(measures: Measures) -> "ScoreRecord":
        """The record of a row without a scored position."""
        none = np.zeros(0, dtype=np.float32)
        return ScoreRecord(
            none,
            none if measures.entropy else None,
            none if measures.rank else None,
            none if measures.top_k is not None else None,
        )

    def holds(self, measures: Measures) -> bool:
        """True where the requested entropy and ranks are there; the store keeps top-k entropies apart."""
        return (self.entropy_N is not None or not measures.entropy) and (self.rank_N is not None or not measures.rank)

    def only(self, measures: Measures) -> "ScoreRecord":
        """Leave out measures that were not requested, so that a result does not show what a store happened to hold."""
        return replace(
            self,
            entropy_N=self.entropy_N if measures.entropy else None,
            rank_N=self.rank_N if measures.rank else None,
        )

    def completed(self, earlier: "ScoreRecord | None") -> "ScoreRecord":
        """Add the measures that only an earlier record holds."""
        if earlier is None:
            return self
        return replace(
            self,
            entropy_N=earlier.entropy_N if self.entropy_N is None else self.entropy_N,
            rank_N=earlier.rank_N if self.rank_N is None else self.rank_N,
        )

    def not_finite(self) -> tuple[str, int, float] | None:
        """Name, index and value of the first value that is NaN or infinite; None where all are finite.

        Ranks are left out: a backend may know the NLL of a token without its rank.
        """
        measures = {"nll": self.nll_N, "entropy": self.entropy_N, "top-k entropy": self.top_entropy_N}
        for name, values_N in measures.items():
            if values_N is not None and len(bad := np.flatnonzero(~np.isfinite(values_N))):
                return name, int(bad[0]), float(values_N[bad[0]])
        return None

    def check_finite(self, request: "ScoreRequest", where: str) -> None:
        """Check that the scores of a request are finite.

        Raises:
            InputError: names the first that is not.
        """
        if (found := self.not_finite()) is None:
            return
        measure, number, value = found
        position = int(request.positions_N[number])
        raise InputError(
            f"the {measure} of token {position} (id {int(request.ids_T[position])}) is {value}, expected a finite one",
            where=where,
            fix="check the model's weights for NaN; float16 can overflow: --dtype bfloat16 or float32",
        )

    def to_bytes(self) -> bytes:
        """One byte of flags for the arrays present, then the arrays, little-endian; without top-k entropies."""
        flags = (self.entropy_N is not None) + 2 * (self.rank_N is not None)
        arrays = [a for a in (self.nll_N, self.entropy_N, self.rank_N) if a is not None]
        return bytes([flags]) + b"".join(array.astype("<f4").tobytes() for array in arrays)

    @staticmethod
    def from_bytes(content: bytes) -> "ScoreRecord | None":
        """The record of ``to_bytes``; None where the length is wrong."""
        flags = content[0] if content else 0
        count = 1 + (flags & 1) + (flags >> 1 & 1)
        if (len(content) - 1) % (4 * count):
            return None
        arrays = list(np.frombuffer(content, dtype="<f4", offset=1).astype(np.float32).reshape(count, -1))
        nll_N = arrays.pop(0)
        entropy_N = arrays.pop(0) if flags & 1 else None
        return ScoreRecord(nll_N, entropy_N, arrays.pop(0) if flags & 2 else None)

    def over_row(self, positions_N: IntArray, length: int) -> Scores:
        """Scores [T] of a row of ``length`` tokens: the record's at ``positions_N``, NaN elsewhere."""

        def spread(values_N: FloatArray) -> FloatArray:
            row_T = np.full(length, np.nan, dtype=np.float32)
            row_T[positions_N] = values_N
            return row_T

        optional = (self.entropy_N, self.rank_N, self.top_entropy_N)
        return Scores(spread(self.nll_N), *(None if values_N is None else spread(values_N) for values_N in optional))


@dataclass(frozen=True, slots=True, eq=False)
class ScoreRequest:
    """One row's request to a model: the NLL of some of its tokens, given all tokens before them.

    Attributes:
        ids_T: token ids, cut after the last scored position.
        positions_N: positions to score, ascending. Never 0: nothing comes before the first token.
    """

    ids_T: IntArray
    positions_N: IntArray

    @property
    def inputs_T(self) -> IntArray:
        """Input ids of the forward pass: all but the last token, whose logits are not needed."""
        return self.ids_T[:-1]

    @property
    def sources_N(self) -> IntArray:
        """Positions whose logits predict ``positions_N``: one token earlier. The only shift by one."""
        return self.positions_N - 1

    @property
    def targets_N(self) -> IntArray:
        """Token ids that are scored."""
        return self.ids_T[self.positions_N]

    @property
    def key(self) -> bytes:
        """SHA-256 of ids and positions, 32 bytes; equal requests get equal scores from the same model."""
        digest = hashlib.sha256(len(self.ids_T).to_bytes(8, "little"))
        digest.update(self.ids_T.astype("<i4").tobytes())
        digest.update(self.positions_N.astype("<i4").tobytes())
        return digest.digest()


def request_for(tokens: Tokens, *, prompts: bool) -> ScoreRequest:
    """Request for one row: its response tokens, or all of its tokens with ``prompts``.

    Returns:
        The request; without positions where the row has no response, or one that is token 0 alone.
    """
    scored_T = np.ones(len(tokens), dtype=np.bool_) if prompts else tokens.in_response_T.copy()
    scored_T[:1] = False
    positions_N = np.flatnonzero(scored_T).astype(np.int32)
    # What follows the last position cannot change its score in a causal model, so it is not computed.
    end = int(positions_N[-1]) + 1 if len(positions_N) else 0
    return ScoreRequest(tokens.ids_T[:end], positions_N)


def unique(requests: Iterable[ScoreRequest]) -> dict[bytes, ScoreRequest]:
    """Requests by key, each once, in the order in which they first appear."""
    return {request.key: request for request in requests}


class Backend(Protocol):
    """A model that scores requests, in batches of its own choice, with one record each."""

    @property
    def identity(self) -> ModelIdentity:
        """Identity of model and backend; complete, so that the store can tell its scores from others'."""

    @property
    def facts(self) -> Mapping[str, JSON]:
        """Facts for the manifest on how the scores were made."""

    @property
    def max_length(self) -> int | None:
        """Most tokens in a row; None where there is no limit."""

    @property
    def vocab_size(self) -> int | None:
        """Number of token ids; None where it is not known."""

    @property
    def has_entropy(self) -> bool:
        """True where it can measure entropies; else rows have none."""

    @property
    def has_rank(self) -> bool:
        """True where it can measure ranks; else rows have none."""

    def resumed(self, facts: Mapping[str, object]) -> "Backend":
        """The same backend with the batching that an earlier start of the run noted in its facts."""

    def score(self, requests: Sequence[ScoreRequest], measures: Measures) -> Sequence[ScoreRecord | None]:
        """Score requests with at least one position each; records in the order of the requests.

        None for a request that does not fit into memory, whatever is tried.
        """


def check_row(tokens: Tokens, backend: Backend) -> None:
    """Check that a backend's model takes a row.

    Raises:
        InputError: it is too long, or holds an id that the model does not have.
    """
    if backend.max_length is not None and len(tokens) > backend.max_length:
        raise InputError(
            f"{len(tokens):,} tokens, the model takes {backend.max_length:,}",
            where=f"row {tokens.id}",
            fix=f"make the tokens again with --max-length {backend.max_length}, which drops or cuts such rows",
        )
    if backend.vocab_size is not None and len(tokens) and int(tokens.ids_T.max()) >= backend.vocab_size:
        raise InputError(
            f"token id {int(tokens.ids_T.max())}, the model has {backend.vocab_size:,}",
            where=f"row {tokens.id}",
            fix="make the tokens again with this model's tokenizer",
        )
