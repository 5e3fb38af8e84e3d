"""Benchmarks: problems to load and checkers for their answers, by name in ``TASKS``; ``get_task`` finds the others."""

import difflib
from pathlib import Path
from typing import Final

from tokensieve.errors import InputError
from tokensieve.tasks.arc_challenge import ARC_TASKS
from tokensieve.tasks.bird import BIRD_TASKS
from tokensieve.tasks.gsm8k import GSM8K_TASKS
from tokensieve.tasks.humaneval import HUMANEVAL_TASKS
from tokensieve.tasks.ifeval import IFEVAL_TASKS
from tokensieve.tasks.math import MATH_TASKS
from tokensieve.tasks.mbpp import MBPP_TASKS
from tokensieve.tasks.multiple_choice import MULTIPLE_CHOICE_TASKS
from tokensieve.tasks.perplexity import PREFIX, SUFFIX, read_perplexity_task, response_nll_task
from tokensieve.tasks.pocket import POCKET_TASKS
from tokensieve.tasks.task import Continuation, Likelihood, LikelihoodChoice, Task, TextWindows

TASKS: dict[str, Task] = {
    **POCKET_TASKS,
    **GSM8K_TASKS,
    **MATH_TASKS,
    **MBPP_TASKS,
    **HUMANEVAL_TASKS,
    **ARC_TASKS,
    **BIRD_TASKS,
    **MULTIPLE_CHOICE_TASKS,
    **IFEVAL_TASKS,
}
"""Every task by name; where a benchmark has a strict rule beside the robust one, each has a name of its own."""

_SPLITS: Final = ("train", "validation", "test")
"""Names that a split of a YAML file's or the harness's task may have."""


def split_name(spelled: str) -> tuple[str, str]:
    """A task's name and the split behind it: ``gsm8k/test``, ``mine/task.yaml/train``; "" where none is named."""
    name, _, split = spelled.partition("/")
    if name.removesuffix(SUFFIX) in TASKS:
        return name, split
    name, slash, split = spelled.rpartition("/")
    return (name, split) if slash and split in _SPLITS else (spelled, "")


def get_task(name: str) -> Task:
    """The task of a name, the one that a YAML file describes, with ``lm-eval:`` before it one of the
    harness, with ``perplexity:`` before a path the perplexity of texts, with ``:response_nll`` behind it the nll of its
    reference answers.

    Raises:
        InputError: none of these; the nearest name is given.
        EnvironmentProblem: the harness is not installed, or its task's data cannot be had.
    """
    if name in TASKS:
        return TASKS[name]
    if name.endswith(SUFFIX):
        return response_nll_task(get_task(name.removesuffix(SUFFIX)))
    if name.startswith("lm-eval:"):
        from tokensieve.tasks.lm_eval_tasks import read_harness_task

        return read_harness_task(name)
    if name.startswith(PREFIX):
        return read_perplexity_task(name)
    if name.endswith((".yaml", ".yml")):
        from tokensieve.tasks.custom import read_task

        return read_task(Path(name))
    near = difflib.get_close_matches(name, TASKS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(
        f"no task {name!r}",
        fix=f"{hint}known: {', '.join(TASKS)}; NAME:response_nll; a YAML file; perplexity:PATH; lm-eval:NAME",
    )


__all__ = ["TASKS", "Continuation", "Likelihood", "LikelihoodChoice", "Task", "TextWindows", "get_task", "split_name"]
