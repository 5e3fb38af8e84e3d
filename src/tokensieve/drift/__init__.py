"""Drift of a tuned model from its base: KL divergence in nats per token, on the base's own text."""

from tokensieve.drift.divergence import BaseStates, RowDivergence, row_divergences
from tokensieve.drift.measure import Drift, DriftProbe, ProbeDrift, measure_drift, probe_sets, summarise, tuned_settings

__all__ = [
    "BaseStates",
    "Drift",
    "DriftProbe",
    "ProbeDrift",
    "RowDivergence",
    "measure_drift",
    "probe_sets",
    "row_divergences",
    "summarise",
    "tuned_settings",
]
