"""How long a study will take on this machine: an estimate from its work and a measured rate, within a factor of two."""

import time
from collections.abc import Iterable

from tokensieve.config import StudySettings
from tokensieve.generation.arms import ARMS, name_of_origin
from tokensieve.study.runner import StudyRun
from tokensieve.study.steps import Step
from tokensieve.types import Origin

_ROW_TOKENS = 200
"""Tokens of a training row where nothing is known of the data yet."""
_ANSWER_TOKENS = 80
"""Tokens of an answer, likewise."""

# Floating-point operations a token and parameter, over the share of the matmul rate that a stage reaches on small
# models (where the overhead of many small products dominates). Measured on the embedded model, two CPU cores.
_SCORE = 2 / 0.30
_TRAIN = 6 / 0.25
_SAMPLE = 2 / 0.08


def estimate_seconds(study: StudyRun, steps: Iterable[Step]) -> float:
    """Seconds that the steps will take, roughly.

    Args:
        study: gives the model and the numbers of rows.
        steps: those that are to be made.
    """
    settings = study.plan.settings
    per_operation = study.planner.base().model.num_parameters() / _matmul_rate(str(study.planner.base().device))
    rows = settings.train_limit or 400
    problems = settings.evaluate.limit or 200
    work = {
        "score": rows * _ROW_TOKENS * _SCORE,
        "train": rows * _ROW_TOKENS * settings.train.epochs * _TRAIN,
        "generate": rows * _samples(settings) * _ANSWER_TOKENS * _SAMPLE,
        "evaluate": min(problems, settings.other_limit or problems) * _ANSWER_TOKENS * _SAMPLE,
    }
    return float(sum(work.get(step.verb, 0.0) * per_operation for step in steps))


def _samples(settings: StudySettings) -> float:
    """Answers a prompt, the mean over the study's arms that a model writes; 0 where there is none."""
    if settings.generate.sampling.n is not None:
        return settings.generate.sampling.n
    names = {arm.data: name_of_origin(arm.data) for arm in settings.arms if arm.data is not Origin.GROUND_TRUTH}
    return sum(ARMS[name].samples for name in names.values()) / max(1, len(names))


def _matmul_rate(device: str) -> float:
    """Floating-point operations a second of a square product on the device, measured for a moment."""
    import torch

    size = 768
    left = torch.ones(size, size, device=device)
    _ = left @ left
    began, products = time.perf_counter(), 0
    while time.perf_counter() - began < 0.2:
        (left @ left)[0, 0].item()
        products += 1
    return products * 2 * size**3 / (time.perf_counter() - began)
