"""Comparison of a base model's evaluation with those of fine-tuned models: paired differences, tests, a gate.

Reads evaluation folders of this project, lm-evaluation-harness' ``--log_samples`` folders, evalplus result files,
inspect logs, and plain tables. No torch.
"""

from tokensieve.comparison.answers import Answer, EvaluationAnswers, TaskScore
from tokensieve.comparison.pairing import compare, parse_max_drop
from tokensieve.comparison.readers import read_evaluation
from tokensieve.comparison.render import to_json, to_latex, to_markdown
from tokensieve.comparison.results import EvalComparison, Flip, Gate, TaskChange

__all__ = [
    "Answer",
    "EvalComparison",
    "EvaluationAnswers",
    "Flip",
    "Gate",
    "TaskChange",
    "TaskScore",
    "compare",
    "parse_max_drop",
    "read_evaluation",
    "to_json",
    "to_latex",
    "to_markdown",
]
