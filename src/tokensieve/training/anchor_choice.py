"""The choice of anchors: the rows of highest drift, and some at random."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from tokensieve.errors import InputError

CANDIDATES: Final = "candidates"
"""Folder inside that of the anchors with all candidates, where training may choose again."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One chosen row.

    Attributes:
        index: place among the candidates.
        at_random: True where it was drawn at random.
    """

    index: int
    at_random: bool


def choose(drifts: Sequence[float], count: int, random_share: float, seed: int) -> list[Choice]:
    """Choose anchors by drift, and a share of them at random from the rest.

    Args:
        drifts: KL(base || pilot) of each candidate in nats per token; a candidate with NaN is never chosen.
        count: anchors to choose; all usable candidates where there are no more.
        random_share: fraction of the anchors that is drawn at random, without replacement.
        seed: of the draw; the choice depends on it and on the drifts alone.

    Returns:
        Choices in the order of the candidates. Ties of drift go to the earlier candidate.

    Raises:
        InputError: no candidate has a drift.
    """
    usable = [index for index, drift in enumerate(drifts) if not math.isnan(drift)]
    if not usable:
        raise InputError("no candidate has a response token, so none can be an anchor")
    count = min(count, len(usable))
    drawn = round(random_share * count)
    by_drift = sorted(usable, key=lambda index: -drifts[index])
    top = by_drift[: count - drawn]
    rest = sorted(set(usable) - set(top))
    random = np.random.default_rng(seed).choice(rest, size=drawn, replace=False).tolist() if drawn else []
    return sorted(
        [Choice(index, at_random=False) for index in top] + [Choice(int(index), at_random=True) for index in random],
        key=lambda choice: choice.index,
    )
