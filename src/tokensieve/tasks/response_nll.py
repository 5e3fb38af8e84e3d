"""The nll of reference answers as a task: ``NAME:response_nll`` for any task whose answers a model writes.

Its train split, prompts, checker and rephrase requests are those of NAME, so that it can be a study's target where a
model solves too few of the problems: what is learnt is read off the answers that it was to learn.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from tokensieve.errors import InputError
from tokensieve.tasks.task import Task
from tokensieve.types import Problem, Sample

SUFFIX: Final = ":response_nll"


def response_nll_task(task: Task) -> Task:
    """The task that measures the reference answers of another one, token by token, and lets nothing be answered.

    Raises:
        InputError: the other one is measured by likelihoods itself.
    """
    if task.likelihood_choice is not None or task.measures_likelihood:
        raise InputError("it is measured by likelihoods already", where=task.name, fix=task.name)
    return replace(
        task,
        name=f"{task.name}{SUFFIX}",
        title=f"{task.title}; nll of the reference answers",
        figures=figures,
        scores_gold=True,
    )


def figures(problems: Mapping[str, Problem], samples: Sequence[Sample]) -> dict[str, float]:  # noqa: ARG001 - of every task
    """Nll in nats per response token, its exponential, and the number of tokens; all tokens pooled."""
    scored = [sample for sample in samples if sample.ids]
    tokens = sum(len(sample.ids) for sample in scored)
    if not tokens:
        return {"tokens": 0}
    nll = math.fsum(sample.nll * len(sample.ids) for sample in scored) / tokens
    return {"nll": nll, "perplexity": math.exp(nll), "tokens": tokens}
