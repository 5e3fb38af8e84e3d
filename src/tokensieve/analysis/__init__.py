"""What is in training data: perplexities, shares above thresholds, kinds of tokens. NumPy only, one streaming pass."""

from tokensieve.analysis.results import (
    ClassShare,
    Histogram,
    NormalisationEffect,
    Profile,
    ThresholdShare,
    TokenClass,
)

__all__ = ["ClassShare", "Histogram", "NormalisationEffect", "Profile", "ThresholdShare", "TokenClass"]
