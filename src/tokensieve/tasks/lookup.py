"""A task by its name, from the user's own file, or from lm-evaluation-harness."""

import difflib
from pathlib import Path
from typing import Final

from tokensieve.errors import InputError
from tokensieve.tasks import TASKS, Task

_BY_HARNESS: Final = {"ifeval": "lm-eval:ifeval"}
"""Names that a user may expect among ours, and that the harness has."""

_SPLITS: Final = ("train", "validation", "test")
"""Names that a split of a YAML file's or the harness's task may have."""


def split_name(spelled: str) -> tuple[str, str]:
    """A task's name and the split behind it: ``gsm8k/test``, ``mine/task.yaml/train``; "" where none is named."""
    name, _, split = spelled.partition("/")
    if name in TASKS:
        return name, split
    name, slash, split = spelled.rpartition("/")
    return (name, split) if slash and split in _SPLITS else (spelled, "")


def get_task(name: str) -> Task:
    """The task of a name, the one that a YAML file describes, or with ``lm-eval:`` before it one of the harness.

    Raises:
        InputError: none of these; the nearest name is given.
        EnvironmentProblem: the harness is not installed, or its task's data cannot be had.
    """
    if name in TASKS:
        return TASKS[name]
    name = _BY_HARNESS.get(name, name)
    if name.startswith("lm-eval:"):
        from tokensieve.tasks.lm_eval_tasks import read_harness_task

        return read_harness_task(name)
    if name.endswith((".yaml", ".yml")):
        from tokensieve.tasks.custom import read_task

        return read_task(Path(name))
    near = difflib.get_close_matches(name, TASKS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"no task {name!r}", fix=f"{hint}known: {', '.join(TASKS)}; a YAML file; or lm-eval:NAME")
