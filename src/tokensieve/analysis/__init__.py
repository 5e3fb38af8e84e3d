"""What is in training data: perplexities, shares above thresholds, kinds of tokens. NumPy only, one streaming pass."""

from tokensieve.analysis.classes import token_class
from tokensieve.analysis.normalisation import normalisation_effect
from tokensieve.analysis.profile import ERROR_BAND_NATS, PERPLEXITY_STEPS, THRESHOLDS, profile
from tokensieve.analysis.results import (
    ClassShare,
    Histogram,
    NormalisationEffect,
    Profile,
    ThresholdShare,
    TokenClass,
)

__all__ = [
    "ERROR_BAND_NATS",
    "PERPLEXITY_STEPS",
    "THRESHOLDS",
    "ClassShare",
    "Histogram",
    "NormalisationEffect",
    "Profile",
    "ThresholdShare",
    "TokenClass",
    "normalisation_effect",
    "profile",
    "token_class",
]
