"""Probe for the place of a data set's lesson: the fall of unlikely tokens' nll on rows that a pilot has not seen."""

import numpy as np
from pydantic import BaseModel

from tokensieve.config import STRICT, CalibrateSettings
from tokensieve.data.dataset import Rows
from tokensieve.evaluation import response_nll
from tokensieve.models import LoadedModel
from tokensieve.types import Tokens


class Probe(BaseModel):
    """Mean nll in nats of validation response tokens before and after a pilot, unlikely and likely ones apart."""

    model_config = STRICT

    unlikely_share: float
    """Share of the response tokens whose perplexity under the base is above the settings' limit."""
    unlikely_before: float
    """Mean nll of these tokens under the base; 0 where there are none."""
    unlikely_after: float
    """The same under the pilot."""
    likely_before: float
    """Mean nll of the other tokens under the base."""
    likely_after: float
    """The same under the pilot."""
    in_unlikely_tokens: bool
    """True where the pilot takes at least the settings' share of the unlikely tokens' nll."""

    @property
    def share_learnt(self) -> float:
        """Share of the unlikely tokens' nll that the pilot takes; negative where it rises."""
        return 1 - self.unlikely_after / self.unlikely_before if self.unlikely_before else 0.0


def probe_lesson(rows: Rows[Tokens], base: LoadedModel, pilot: LoadedModel, settings: CalibrateSettings) -> Probe:
    """Compare base and pilot on validation rows, token by token.

    What is systematic in the unlikely tokens (a house's conventions) is learnt from a few rows and shows on rows that
    were not trained on; what is each author's own (names, habits) is not. In the first case a mask of unlikely tokens
    leaves out the lesson, in the second it leaves out noise.

    Args:
        rows: validation rows.
        base: the model before training.
        pilot: the same model after a short run on training rows, all tokens trained.
        settings: hold the perplexity above which a token is unlikely, and the share that decides.

    Raises:
        InputError: as ``response_nll``.
    """
    before_N, after_N = (response_nll(rows, model) for model in (base, pilot))
    unlikely_N = before_N > np.log(settings.probe.unlikely)
    means = [
        float(nll_N[mask_N].mean()) if mask_N.any() else 0.0
        for mask_N in (unlikely_N, ~unlikely_N)
        for nll_N in (before_N, after_N)
    ]
    taken = 1 - means[1] / means[0] if means[0] else 0.0
    return Probe(
        unlikely_share=float(unlikely_N.mean()),
        unlikely_before=means[0],
        unlikely_after=means[1],
        likely_before=means[2],
        likely_after=means[3],
        in_unlikely_tokens=taken >= settings.probe.lesson_share,
    )
