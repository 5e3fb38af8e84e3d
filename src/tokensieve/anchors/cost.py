"""Seconds that a search for anchors will take, roughly, by phase."""

from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from tokensieve.config import AnchorSettings
from tokensieve.data.dataset import Rows
from tokensieve.models import LoadedModel
from tokensieve.models.device import SAMPLE, SCORE, TRAIN, matmul_rate
from tokensieve.pipeline import first
from tokensieve.types import Selected

Phase: TypeAlias = Literal["candidates", "pilot", "drift"]

_TURN_TOKENS: Final = 80
"""Tokens of a drawn turn where nothing is known of the model yet."""
_MODELS_READ: Final = 3
"""Passes over the candidates: the base's, the pilot's, and one for distributions."""


def estimate_seconds(
    settings: AnchorSettings, base: LoadedModel, pilot_rows: Rows[Selected] | None
) -> Mapping[Phase, float]:
    """Seconds of each phase on this machine, from the sizes alone.

    Args:
        settings: candidates and pilot.
        base: the model.
        pilot_rows: training rows of the pilot; None where a finished run takes its place.
    """
    per_operation = base.model.num_parameters() / matmul_rate(str(base.device))
    turn = min(_TURN_TOKENS, settings.max_new_tokens)
    turns = {"dialogues": 2, "answers": settings.n, "rows": 0, "text": 0}[settings.source]
    row = settings.max_new_tokens if settings.source == "text" else 2 * turn
    pilot = 0 if pilot_rows is None else sum(len(one.tokens) for one in first(pilot_rows, settings.pilot.rows))
    return {
        "candidates": settings.candidates * turns * turn * SAMPLE * per_operation,
        "pilot": pilot * TRAIN * per_operation,
        "drift": settings.candidates * row * _MODELS_READ * SCORE * per_operation,
    }
