"""The interface of a policy, one row as a policy sees it, and the tokens that are protected from every policy."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Literal, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokensieve.config import SelectSettings
from tokensieve.errors import InputError
from tokensieve.types import BASE_SCORER, BoolArray, IntArray, Scored, Scores, Tokens

Factors: TypeAlias = NDArray[np.float64]
"""One value a candidate of a row, ``[P]``: the tokens of the response that a policy may leave out, in their order."""
ScoreField: TypeAlias = Literal["top_entropy"]

Structure: TypeAlias = Literal["tool_calls", "reasoning"]
"""Kinds of structural tokens beside end of turn, which the chat template itself tells."""

# Blanks within a special token's name: DeepSeek writes U+2581, and a full-width bar beside it.
_STRUCTURE: Final[Mapping[Structure, re.Pattern[str]]] = {
    "tool_calls": re.compile(
        r"tool[_\s▁]?calls?|function[_\s]?call|python_tag|<\|(call|constrain)\|>|\[ARGS\]|\[CALL_ID\]"
        r"|tool▁sep|</?arg_(key|value)>",
        re.IGNORECASE,
    ),
    "reasoning": re.compile(
        r"^[<\[◁]/?(\|?)/?(seed:)?(think|thinking|thought|reasoning)(\|?)[>\]▷]$|<\|/?(channel|start_thinking"
        r"|end_thinking|begin_of_thought|end_of_thought|message)\|?>|<channel\|>|<\|(START|END)_THINKING\|>",
        re.IGNORECASE,
    ),
}
"""Names of special tokens, by what they delimit in the chat formats of published models."""

EAFT_TOP_K: Final = 20
"""The number of likeliest entries whose entropy EAFT takes."""


@dataclass(frozen=True, slots=True)
class Traits:
    """Answers of a policy about itself, for whoever plans, draws or describes a study.

    Attributes:
        trains_all: every response token is trained with weight 1.
        control: it leaves out as much as another policy, but other tokens.
        seeded: it draws at random, so that every seed of a study selects anew.
        weighted: it gives weights between 0 and 1, which not every trainer can take.
        whole_rows: all tokens of a row get the same weight.
        exempts: it names tokens that other policies must keep, and leaves out none itself.
        token_texts: it reads the texts of tokens.
        needs: scores beyond the nll.
        other_scorers: names of the scorers that it reads beside the one of the settings.
    """

    trains_all: bool = False
    control: bool = False
    seeded: bool = False
    weighted: bool = False
    whole_rows: bool = False
    exempts: bool = False
    token_texts: bool = False
    needs: tuple[ScoreField, ...] = ()
    other_scorers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidates:
    """One scored row, and the tokens of it that a policy decides on.

    Attributes:
        scored: the row.
        pool_T: True on the candidates: the response without its protected tokens.
        scorer: name of the scorer whose scores decide.
        seed: of the settings.
    """

    scored: Scored
    pool_T: BoolArray
    scorer: str = BASE_SCORER
    seed: int = 0

    def __len__(self) -> int:
        """Number of candidates, P."""
        return int(self.pool_T.sum())

    def by(self, scorer: str) -> "Candidates":
        """The same row, decided by another scorer."""
        return replace(self, scorer=scorer)

    def nll_P(self, scorer: str | None = None) -> Factors:
        """Nll in nats of the candidates, ``[P]``, by the row's scorer or another one.

        Raises:
            InputError: the row has no scores of that name, or a candidate has none.
        """
        name = scorer or self.scorer
        nll_T = self.scored.nll_T(name)
        unscored_T = self.pool_T & np.isnan(nll_T)
        if bool(unscored_T.any()):
            raise InputError(
                f"response token {int(np.argmax(unscored_T))} has no score by {name!r}",
                where=f"row {self.scored.tokens.id}",
                fix="score the data set again with this version",
            )
        return nll_T[self.pool_T].astype(np.float64)

    def seen(self) -> Scored:
        """The row with the deciding scorer's scores in the base's place, for a function that reads ``row.nll_T()``.

        Raises:
            InputError: the row has no scores of that name.
        """
        if self.scorer == BASE_SCORER:
            return self.scored
        return replace(self.scored, scores={**self.scored.scores, BASE_SCORER: self._scores()})

    def top_entropy_P(self) -> Factors:
        """Entropy in nats of the K likeliest entries at each candidate's place, ``[P]``.

        Raises:
            InputError: it was not scored.
        """
        scores = self._scores()
        if scores.top_entropy_T is None or bool(np.isnan(scores.top_entropy_T[self.pool_T]).any()):
            raise InputError(
                f"the scores by {self.scorer!r} hold no entropy of the {EAFT_TOP_K} likeliest entries",
                where=f"row {self.scored.tokens.id}",
                fix=f"tokensieve score … --entropy-top-k {EAFT_TOP_K}",
            )
        return scores.top_entropy_T[self.pool_T].astype(np.float64)

    def row_loss(self) -> float:
        """Mean nll in nats of the scored response tokens, protected ones included; NaN where none is scored."""
        nll_T = self.scored.nll_T(self.scorer)[self.scored.tokens.in_response_T]
        nll_T = nll_T[~np.isnan(nll_T)].astype(np.float64)
        return float(nll_T.mean()) if len(nll_T) else math.nan

    def turn_places_P(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Place of each candidate in its assistant turn, ``[P]``, counted from 0 at the start and from 0 at the end."""
        in_response_T = self.scored.tokens.in_response_T
        from_start_T = _run_lengths(in_response_T)
        from_end_T = _run_lengths(in_response_T[::-1])[::-1]
        return from_start_T[self.pool_T] - 1, from_end_T[self.pool_T] - 1

    def _scores(self) -> Scores:
        self.scored.nll_T(self.scorer)  # raises where there are no scores of that name
        return self.scored.scores[self.scorer]


def _run_lengths(flags_T: BoolArray) -> NDArray[np.int64]:
    """At each True, its place within its run of True, counted from 1; 0 at False."""
    places_T = np.arange(1, len(flags_T) + 1)
    last_false_T = np.maximum.accumulate(np.where(flags_T, 0, places_T)) if len(flags_T) else places_T
    return np.where(flags_T, places_T - last_false_T, 0)


@dataclass(frozen=True, slots=True)
class Decision:
    """A policy's decision on one row.

    Attributes:
        factor_P: factor in [0, 1] of each candidate's loss, ``[P]``; 0 leaves the token out.
        protected: factor of the response tokens that are no candidates.
    """

    factor_P: Factors
    protected: float = 1.0


@dataclass(frozen=True, slots=True)
class TrainingSplit:
    """The rows that a policy is fitted to.

    Attributes:
        rows: starts a fresh pass over the rows, so that memory does not grow with their number.
        scorer: name of the scorer whose scores decide.
        top_k: by scorer name, the number of likeliest entries that its top-k entropies are of.
        piece: token id to text, empty for special tokens; None where nobody knows.
    """

    rows: Callable[[], Iterable[Candidates]]
    scorer: str = BASE_SCORER
    top_k: Mapping[str, int] = field(default_factory=dict)
    piece: Callable[[int], str] | None = None

    def by(self, scorer: str) -> "TrainingSplit":
        """The same rows, decided by another scorer."""
        return replace(self, rows=lambda: (row.by(scorer) for row in self.rows()), scorer=scorer)


def structure_ids(added_vocabulary: Mapping[str, int]) -> dict[Structure, list[int]]:
    """Token ids that delimit tool calls and reasoning, by kind, ascending.

    A delimiter that a model's vocabulary does not hold as one token is text, and is not found.

    Args:
        added_vocabulary: a tokenizer's added tokens with their ids (``get_added_vocab()``).
    """
    return {
        kind: sorted(token for name, token in added_vocabulary.items() if pattern.search(name))
        for kind, pattern in _STRUCTURE.items()
    }


def protected_T(tokens: Tokens, settings: SelectSettings, ids: Mapping[str, Sequence[int] | IntArray]) -> BoolArray:
    """True on the response tokens that are trained whatever the policy says.

    Args:
        tokens: the row.
        settings: the kinds that are protected; none where ``paper_exact``.
        ids: token ids by kind, as ``structure_ids`` gives them.
    """
    found_T = np.zeros(len(tokens), dtype=np.bool_)
    if settings.paper_exact:
        return found_T
    for kind in settings.protect:
        if kind == "end_of_turn":
            found_T |= tokens.ends_turn_T
        elif len(ids.get(kind, ())):
            found_T |= tokens.in_response_T & np.isin(tokens.ids_T, np.asarray(ids[kind]))
    return found_T


class Policy(Protocol):
    """A rule for which tokens teach: a pure function of stored scores.

    A class is registered in ``POLICIES``; the first line of its docstring is its documentation line.
    """

    usage: ClassVar[str]
    """Its form in a policy's text, e.g. ``stm:PPL``."""

    @property
    def traits(self) -> Traits:
        """Its answers about itself."""

    @property
    def threshold_nats(self) -> float:
        """The nll above which it leaves tokens out, once it is fitted; infinite where no single one decides."""

    @classmethod
    def parse(cls, argument: str) -> Self:
        """The policy from what stands behind its name and a colon; empty where nothing does.

        Raises:
            InputError: the argument is missing or impossible.
        """

    def fit(self, split: TrainingSplit) -> Self:
        """The same policy with what it takes from the training split, such as a quantile.

        Raises:
            InputError: scores that it needs are missing.
        """

    def select(self, row: Candidates) -> Decision:
        """Decide on one row.

        Raises:
            InputError: scores that it needs are missing.
        """


def number(text: str, usage: str, *, low: float, high: float = math.inf, what: str = "") -> float:
    """A policy's number within its bounds.

    Raises:
        InputError: no number, or one out of bounds; the policy's usage is the remedy.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high or math.isinf(value):
        expected = what or f"a number {f'from {low:g} on' if math.isinf(high) else f'between {low:g} and {high:g}'}"
        raise InputError(f"expected {expected}, got {text!r}", where=usage.partition(":")[0], fix=usage)
    return value


def no_argument(argument: str, usage: str) -> None:
    """Refuse an argument where a policy takes none.

    Raises:
        InputError: there is one.
    """
    if argument:
        raise InputError(f"{usage} takes no value, got {argument!r}", where="policy", fix=usage)
