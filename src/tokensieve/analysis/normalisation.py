"""How much of the high perplexity is a matter of form: the same rows scored with and without a change to their text."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tokensieve.analysis.results import NormalisationEffect
from tokensieve.types import BASE_SCORER, Scored


@dataclass(frozen=True, slots=True)
class _Row:
    tokens: int
    above: int
    nll: float


def normalisation_effect(
    before: Iterable[Scored], after: Iterable[Scored], *, threshold: float = 2.5, scorer: str = BASE_SCORER
) -> NormalisationEffect:
    """Compare the high-perplexity tokens of two scored sets of the same rows, paired by row id.

    Only rows that both sets have are counted; the others are told by number. Memory: a few numbers a row.

    Args:
        before: the rows as they came.
        after: the rows with a change to their responses' text, e.g. of line ends.
        threshold: perplexity above which (strictly) a token counts as high.
        scorer: whose scores are read.

    Raises:
        InputError: a row without scores of that name.
    """
    limit = math.log(threshold)
    first = {row.tokens.id: _measure(row, scorer, limit) for row in before}
    second = {row.tokens.id: _measure(row, scorer, limit) for row in after}
    both = first.keys() & second.keys()
    return NormalisationEffect(
        threshold=threshold,
        rows=len(both),
        only_before=len(first) - len(both),
        only_after=len(second) - len(both),
        tokens_before=sum(first[id_].tokens for id_ in both),
        tokens_after=sum(second[id_].tokens for id_ in both),
        above_before=sum(first[id_].above for id_ in both),
        above_after=sum(second[id_].above for id_ in both),
        nll_before=math.fsum(first[id_].nll for id_ in both),
        nll_after=math.fsum(second[id_].nll for id_ in both),
    )


def _measure(row: Scored, scorer: str, limit_nats: float) -> _Row:
    nll_T = row.nll_T(scorer)[row.tokens.in_response_T].astype(np.float64)
    nll_T = nll_T[~np.isnan(nll_T)]
    return _Row(len(nll_T), int((nll_T > limit_nats).sum()), float(nll_T.sum()))
