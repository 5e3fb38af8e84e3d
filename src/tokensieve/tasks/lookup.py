"""A task by its name, or from the user's own file."""

import difflib
from pathlib import Path

from tokensieve.errors import InputError
from tokensieve.tasks import TASKS, Task


def get_task(name: str) -> Task:
    """The task of a name, or the one that a YAML file describes.

    Raises:
        InputError: neither; the nearest name is given.
    """
    if name in TASKS:
        return TASKS[name]
    if name.endswith((".yaml", ".yml")):
        from tokensieve.tasks.custom import read_task

        return read_task(Path(name))
    near = difflib.get_close_matches(name, TASKS, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise InputError(f"no task {name!r}", fix=f"{hint}known: {', '.join(TASKS)}; or a YAML file of your own")
