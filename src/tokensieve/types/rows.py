"""Training rows, from a conversation to its selected tokens, one frozen dataclass a stage that checks its alignment.

Arrays carry their dimensions in their names: ``_T`` is one value a token, and index ``t`` means token ``t``, never
shifted.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NotRequired, TypeAlias, TypedDict

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from tokensieve.errors import InputError

JSON: TypeAlias = JsonValue
IntArray: TypeAlias = NDArray[np.int32]
FloatArray: TypeAlias = NDArray[np.float32]
BoolArray: TypeAlias = NDArray[np.bool_]

Progress: TypeAlias = Callable[[int, int], None]
"""Callback for progress: called with the units of work done and in all; 0 in all where that is not known."""

IGNORE_INDEX = -100
"""Label of a token that does not contribute to the loss, in every trainer built on transformers."""

BASE_SCORER = "base"
"""Name under which the scores of the model that is about to be trained are kept."""


class Message(TypedDict):
    """One turn of a conversation, in the form that chat templates take, with its loss weight.

    ``weight`` is the factor of an assistant turn's loss, in [0, 1]: 0 is context only, no weight is 1. Chat templates
    never see it.
    """

    role: str
    content: str | None
    tool_calls: NotRequired[list[JSON]]
    tool_call_id: NotRequired[str]
    name: NotRequired[str]
    reasoning_content: NotRequired[str]
    weight: NotRequired[float]


def is_trained(message: Message) -> bool:
    """True where a turn's tokens are response: an assistant turn whose loss weight is not 0."""
    return message["role"] == "assistant" and message.get("weight", 1.0) > 0


class Origin(StrEnum):
    """Origin of an example's response."""

    GROUND_TRUTH = "ground_truth"
    SELF_OUTPUT = "self_output"
    REPHRASE = "rephrase"
    SELF_DIALOGUE = "self_dialogue"
    LARGER_MODEL = "larger_model"


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation to train on; the assistant's turns are what is learnt.

    Attributes:
        id: unique in its data set.
        messages: all turns, at least one of them the assistant's.
        task: the task it belongs to; empty where there is none.
        origin: who wrote the response.
        sampled_ids: token ids of the last response where it was sampled (end-of-turn included), so that
            text is never tokenised again; None where there is only text.
        tools: JSON schemas of the tools that the assistant may call, as chat templates take them.
    """

    id: str
    messages: tuple[Message, ...]
    task: str = ""
    origin: Origin = Origin.GROUND_TRUTH
    sampled_ids: IntArray | None = None
    tools: tuple[JSON, ...] = ()

    def __post_init__(self) -> None:
        if not any(message["role"] == "assistant" for message in self.messages):
            raise InputError("expected at least one assistant turn, got none", where=f"row {self.id}")


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A conversation in token ids, made once and never made again.

    Attributes:
        id: the example's id.
        ids_T: token ids.
        in_response_T: True on the response: each assistant turn's content and its first end-of-turn token.
        ends_turn_T: True on those end-of-turn tokens, a subset of the response.
        task: as in the example.
        origin: as in the example.
        loss_weight_T: factor of each response token's loss, in (0, 1], from its turn's weight; 0 outside the
            response. None is 1 on the whole response.
    """

    id: str
    ids_T: IntArray
    in_response_T: BoolArray
    ends_turn_T: BoolArray
    task: str = ""
    origin: Origin = Origin.GROUND_TRUTH
    loss_weight_T: FloatArray | None = None

    def __post_init__(self) -> None:
        check_aligned(self.id, len(self.ids_T), in_response_T=self.in_response_T, ends_turn_T=self.ends_turn_T)
        if self.loss_weight_T is not None:
            check_aligned(self.id, len(self.ids_T), loss_weight_T=self.loss_weight_T)
        if bool(np.any(self.ends_turn_T & ~self.in_response_T)):
            raise InputError("an end-of-turn token lies outside the response", where=f"row {self.id}")

    def __len__(self) -> int:
        return len(self.ids_T)


@dataclass(frozen=True, slots=True, eq=False)
class Scores:
    """Scores of one row's tokens under one model, each given all tokens before it.

    NaN means not scored, in every array; on disk it is null. All but ``nll_T`` are None where they were not asked for
    or a backend cannot tell.

    Attributes:
        nll_T: negative log-likelihood in nats, float32; perplexity is ``exp(nll)``.
        entropy_T: entropy in nats of the model's next-token distribution at that place.
        rank_T: number of vocabulary entries that are strictly more likely than the token; 0 is top-1. A float
            array, exact up to 2**24, since integers have no NaN; on disk it is an integer.
        top_entropy_T: entropy in nats of the likeliest K entries as if there were no others, from 0 to ln(K); K is
            in the manifest.
    """

    nll_T: FloatArray
    entropy_T: FloatArray | None = None
    rank_T: FloatArray | None = None
    top_entropy_T: FloatArray | None = None

    def __post_init__(self) -> None:
        arrays = {"entropy_T": self.entropy_T, "rank_T": self.rank_T, "top_entropy_T": self.top_entropy_T}
        check_aligned("scores", len(self.nll_T), **{name: a for name, a in arrays.items() if a is not None})

    @property
    def scored_T(self) -> BoolArray:
        """True where the token has a score."""
        return ~np.isnan(self.nll_T)


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """Tokens with their scores by scorer name; ``base`` is the model that is about to be trained."""

    tokens: Tokens
    scores: Mapping[str, Scores]

    def __post_init__(self) -> None:
        for name, scores in self.scores.items():
            check_aligned(f"{self.tokens.id}, scorer {name}", len(self.tokens), nll_T=scores.nll_T)

    def nll_T(self, scorer: str = BASE_SCORER) -> FloatArray:
        """The nll (nats, NaN where not scored) by a scorer.

        Raises:
            InputError: the row has no scores of that name.
        """
        if scorer not in self.scores:
            known = ", ".join(sorted(self.scores)) or "none"
            raise InputError(
                f"no scores by {scorer!r}; there are: {known}",
                where=f"row {self.tokens.id}",
                fix=f"tokensieve score … --scorer {scorer}",
            )
        return self.scores[scorer].nll_T


@dataclass(frozen=True, slots=True, eq=False)
class Selected:
    """A scored row with the decision which of its tokens teach.

    Attributes:
        scored: the row.
        train_T: True where the token contributes to the loss; never outside the response.
        weight_T: factor of the token's loss, in [0, 1], where selection is soft; None where it is hard.
    """

    scored: Scored
    train_T: BoolArray
    weight_T: FloatArray | None = None

    def __post_init__(self) -> None:
        tokens = self.scored.tokens
        check_aligned(tokens.id, len(tokens), train_T=self.train_T)
        if bool(np.any(self.train_T & ~tokens.in_response_T)):
            raise InputError("a token outside the response is marked for training", where=f"row {tokens.id}")
        if self.weight_T is not None:
            check_aligned(tokens.id, len(tokens), weight_T=self.weight_T)
            if bool(np.any((self.weight_T > 0) & ~self.train_T)):
                raise InputError("a token that is not trained has a weight above 0", where=f"row {tokens.id}")

    @property
    def tokens(self) -> Tokens:
        """The row's tokens."""
        return self.scored.tokens


@dataclass(frozen=True, slots=True, eq=False)
class Anchor:
    """A row on which a model in training is held to the base: tokens and the base's next-token distributions.

    N is the number of response tokens that something precedes, K the number of entries kept of each distribution.

    Attributes:
        tokens: the row.
        top_ids_NK: the base's K most likely entries at each response token, most likely first, int32.
        top_log_p_NK: their log-probabilities in nats, float32; the rest of the mass is on all other entries.
        drift: forward KL(base || pilot) in nats per token, by which the row was chosen; NaN where none was measured.
        at_random: True where the row was drawn at random, not chosen by drift.
    """

    tokens: Tokens
    top_ids_NK: IntArray
    top_log_p_NK: FloatArray
    drift: float = float("nan")
    at_random: bool = False

    def __post_init__(self) -> None:
        expected = int(np.count_nonzero(self.tokens.in_response_T[1:]))
        if self.top_ids_NK.shape != self.top_log_p_NK.shape or len(self.top_ids_NK) != expected:
            raise InputError(
                f"distributions of shapes {self.top_ids_NK.shape} and {self.top_log_p_NK.shape}, "
                f"expected ({expected}, K) both: one a response token",
                where=f"row {self.tokens.id}",
            )

    @property
    def places_N(self) -> IntArray:
        """Indices of the response tokens that the distributions predict; never 0."""
        places_N: IntArray = np.flatnonzero(self.tokens.in_response_T[1:]).astype(np.int32) + np.int32(1)
        return places_N


def check_aligned(where: str, length: int, **arrays: NDArray[np.generic]) -> None:
    """Raise where an array is not one-dimensional with one value a token.

    Raises:
        InputError: names the array, its shape and the number of tokens.
    """
    for name, array in arrays.items():
        if array.shape != (length,):
            raise InputError(f"{name} has shape {array.shape}, expected ({length},): one value a token", where=where)


def ints(values: Iterable[int]) -> IntArray:
    """An int32 array of token ids."""
    return np.fromiter(values, dtype=np.int32)


def bools(values: Iterable[bool]) -> BoolArray:
    """A boolean array of one flag a token."""
    return np.fromiter(values, dtype=np.bool_)
