"""Benchmarks: problems to load and checkers for their answers, by name in ``TASKS``."""

from tokensieve.tasks.arc_challenge import ARC_TASKS
from tokensieve.tasks.bird import BIRD_TASKS
from tokensieve.tasks.gsm8k import GSM8K_TASKS
from tokensieve.tasks.humaneval import HUMANEVAL_TASKS
from tokensieve.tasks.math import MATH_TASKS
from tokensieve.tasks.mbpp import MBPP_TASKS
from tokensieve.tasks.multiple_choice import MULTIPLE_CHOICE_TASKS
from tokensieve.tasks.pocket import POCKET_TASKS
from tokensieve.tasks.task import Continuation, Likelihood, Task, Weighing

TASKS: dict[str, Task] = {
    **POCKET_TASKS,
    **GSM8K_TASKS,
    **MATH_TASKS,
    **MBPP_TASKS,
    **HUMANEVAL_TASKS,
    **ARC_TASKS,
    **BIRD_TASKS,
    **MULTIPLE_CHOICE_TASKS,
}
"""Every task by name; where a benchmark has a strict rule beside the robust one, each has a name of its own."""

__all__ = ["TASKS", "Continuation", "Likelihood", "Task", "Weighing"]
