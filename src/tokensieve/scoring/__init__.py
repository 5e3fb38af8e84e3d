"""Score tokens under a model: per-token nll, entropy and rank, exact, resumable, never twice."""

from tokensieve.scoring._compare import Comparison, compare_backends
from tokensieve.scoring._run import Progress, score, score_with
from tokensieve.scoring._scorer import Backend

__all__ = ["Backend", "Comparison", "Progress", "compare_backends", "score", "score_with"]
