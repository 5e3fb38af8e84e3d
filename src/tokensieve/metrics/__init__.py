"""Accuracy, target improvement, backward transfer and rank correlation, with their intervals. NumPy only."""

from tokensieve.metrics.forgetting import (
    Flags,
    Forgetting,
    Values,
    backward_transfer,
    best_within,
    difference,
    forgetting,
    target_improvement,
    undefined_tasks,
)
from tokensieve.metrics.intervals import (
    BOOTSTRAP_DRAWS,
    Estimate,
    accuracy,
    estimate,
    mean_change_per_token,
    mean_per_token,
    resampled_means,
    seed_weights,
    standard_error,
    within_paired_error,
    within_standard_error,
)
from tokensieve.metrics.rank_correlation import LEAST_GROUPS, LEAST_RUNS, rank_correlation, spearman

__all__ = [
    "BOOTSTRAP_DRAWS",
    "LEAST_GROUPS",
    "LEAST_RUNS",
    "Estimate",
    "Flags",
    "Forgetting",
    "Values",
    "accuracy",
    "backward_transfer",
    "best_within",
    "difference",
    "estimate",
    "forgetting",
    "mean_change_per_token",
    "mean_per_token",
    "rank_correlation",
    "resampled_means",
    "seed_weights",
    "spearman",
    "standard_error",
    "target_improvement",
    "undefined_tasks",
    "within_paired_error",
    "within_standard_error",
]
