"""Which tokens are scored, and from where: the only place that shifts by one."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tokensieve.data.score_record import Record
from tokensieve.types import FloatArray, IntArray, Scores, Tokens


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """What a row asks of a model: the nll of some of its tokens, given all before them.

    Attributes:
        ids_T: the row's token ids, cut behind the last token that is scored.
        places_N: indices of the tokens to be scored, ascending. Never 0: nothing comes before the first token.
    """

    ids_T: IntArray
    places_N: IntArray

    @property
    def inputs_T(self) -> IntArray:
        """What the model has to read: all but the last token, whose output nobody asks for."""
        return self.ids_T[:-1]

    @property
    def sources_N(self) -> IntArray:
        """Where a model says what it expects at each place: its output one token earlier. The only shift by one."""
        return self.places_N - 1

    @property
    def targets_N(self) -> IntArray:
        """The token ids that are scored."""
        return self.ids_T[self.places_N]

    @property
    def key(self) -> bytes:
        """SHA-256 of ids and places, 32 bytes; equal requests get equal scores from the same model."""
        digest = hashlib.sha256(len(self.ids_T).to_bytes(8, "little"))
        digest.update(self.ids_T.astype("<i4").tobytes())
        digest.update(self.places_N.astype("<i4").tobytes())
        return digest.digest()


def request_for(tokens: Tokens, *, prompts: bool) -> Request:
    """What has to be asked for one row: its response tokens, or all of them with ``prompts``.

    Returns:
        The request; it has no places where the row has no response, or one that starts at token 0 and ends there.
    """
    wanted_T = np.ones(len(tokens), dtype=np.bool_) if prompts else tokens.in_response_T.copy()
    wanted_T[:1] = False
    places_N = np.flatnonzero(wanted_T).astype(np.int32)
    # What follows the last place cannot change its score in a causal model, so it is not computed.
    end = int(places_N[-1]) + 1 if len(places_N) else 0
    return Request(tokens.ids_T[:end], places_N)


def unique(requests: Iterable[Request]) -> dict[bytes, Request]:
    """Requests by key, each once, in the order in which they first appear."""
    return {request.key: request for request in requests}


def in_row(record: Record, places_N: IntArray, length: int) -> Scores:
    """A request's scores in their places in a row of ``length`` tokens, NaN elsewhere."""
    optional = (record.entropy_N, record.rank_N, record.top_entropy_N)
    return Scores(
        _in_places(record.nll_N, places_N, length),
        *(None if values_N is None else _in_places(values_N, places_N, length) for values_N in optional),
    )


def _in_places(values_N: FloatArray, places_N: IntArray, length: int) -> FloatArray:
    row_T = np.full(length, np.nan, dtype=np.float32)
    row_T[places_N] = values_N
    return row_T
