"""Score tokens under a model: per-token NLL, entropy and rank, exact, resumable, never twice."""

from tokensieve.scoring.backend import Backend
from tokensieve.scoring.backend_agreement import BackendComparison, compare_backends
from tokensieve.scoring.run import score, score_all, score_data, score_with
from tokensieve.scoring.sharding import NO_PART_OF_THE_RESULT
from tokensieve.scoring.vllm import open_vllm

__all__ = [
    "NO_PART_OF_THE_RESULT",
    "Backend",
    "BackendComparison",
    "compare_backends",
    "open_vllm",
    "score",
    "score_all",
    "score_data",
    "score_with",
]
