"""Analysis of training data: perplexities, shares above thresholds, token classes. NumPy only, one streaming pass."""

from tokensieve.analysis.profile import ERROR_BAND_NATS, PERPLEXITY_STEPS, THRESHOLDS, profile
from tokensieve.analysis.results import ClassShare, Histogram, Profile, ThresholdShare
from tokensieve.selection.token_classes import TokenClass, token_class

__all__ = [
    "ERROR_BAND_NATS",
    "PERPLEXITY_STEPS",
    "THRESHOLDS",
    "ClassShare",
    "Histogram",
    "Profile",
    "ThresholdShare",
    "TokenClass",
    "profile",
    "token_class",
]
