"""Score tokens under a model: per-token nll, entropy and rank, exact, resumable, never twice."""

from tokensieve.scoring.backend_agreement import Comparison, compare_backends
from tokensieve.scoring.ray import score_on_ray
from tokensieve.scoring.run import NO_PART_OF_THE_RESULT, Progress, compute_along, score, score_all, score_with
from tokensieve.scoring.scorer import Backend
from tokensieve.scoring.vllm import open_offline as open_vllm
from tokensieve.scoring.vllm import open_server as open_vllm_server

__all__ = [
    "NO_PART_OF_THE_RESULT",
    "Backend",
    "Comparison",
    "Progress",
    "compare_backends",
    "compute_along",
    "open_vllm",
    "open_vllm_server",
    "score",
    "score_all",
    "score_on_ray",
    "score_with",
]
