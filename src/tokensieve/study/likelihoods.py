"""Tasks of a study that are measured by likelihood (``NAME:response_nll``, ``perplexity:PATH``): their values and nats.

TI and BWT need a value for every problem of which more is better: here it is 1 / perplexity, the geometric mean of the
probabilities of the text's tokens, which lies in [0, 1] as an accuracy does. The nats themselves are reported beside
it, for the tokens that the base finds likely and for those that it finds unlikely apart.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from tokensieve import metrics
from tokensieve.types import Sample

LIKELY_PERPLEXITY: Final = 2.5
"""Perplexity under the base up to which a token counts as likely: the paper's threshold."""


def value_of(sample: Sample) -> float:
    """1 / perplexity of a text, in [0, 1]; 0 for one that could not be scored."""
    return math.exp(-sample.nll) if sample.ids else 0.0


def mean_value(samples: Sequence[Sample]) -> metrics.Estimate:
    """Mean of 1 / perplexity over texts, with a bootstrap over texts; what several seeds say of a text is one value."""
    values: dict[str, list[float]] = {}
    for sample in samples:
        values.setdefault(sample.problem_id, []).append(value_of(sample))
    means_R = np.array([np.mean(listed) for listed in values.values()])
    return metrics.mean_per_token(means_R, np.ones(len(means_R)))


def nats(samples: Sequence[Sample], base: Sequence[Sample]) -> dict[str, metrics.Estimate]:
    """Nll in nats per token: of ``all`` tokens, and of those ``likely`` and ``unlikely`` under the base.

    Args:
        samples: of one model, or of several seeds of one arm.
        base: the base's, of the same texts.

    Returns:
        The means over pooled tokens with a bootstrap over texts; ``all`` alone where the tokens' own values were not
        kept, as those of plain text are not.
    """
    likely = {s.problem_id: np.array(s.token_nll) <= math.log(LIKELY_PERPLEXITY) for s in base if s.token_nll}
    sums: dict[str, dict[str, NDArray[np.float64]]] = {"all": {}}
    for sample in samples:
        if not sample.ids:
            continue
        _add(sums["all"], sample.problem_id, sample.nll * len(sample.ids), len(sample.ids))
        flags_N = likely.get(sample.problem_id)
        if flags_N is None or len(flags_N) != len(sample.token_nll):
            continue
        nll_N = np.array(sample.token_nll)
        for name, chosen_N in (("likely", flags_N), ("unlikely", ~flags_N)):
            _add(sums.setdefault(name, {}), sample.problem_id, float(nll_N[chosen_N].sum()), int(chosen_N.sum()))
    return {name: _mean(found) for name, found in sums.items() if found}


def _add(sums: dict[str, NDArray[np.float64]], text: str, total: float, tokens: int) -> None:
    sums[text] = sums.get(text, np.zeros(2)) + np.array([total, tokens])


def _mean(sums: Mapping[str, NDArray[np.float64]]) -> metrics.Estimate:
    totals_R, tokens_R = np.array(list(sums.values())).T
    return metrics.mean_per_token(totals_R, tokens_R)
