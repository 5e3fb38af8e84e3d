"""The splits of pocket's tasks: problems drawn from seeds, kept apart by their keys, with what their checkers need."""

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from tokensieve.errors import InputError
from tokensieve.tasks.benchmark_io import require_split
from tokensieve.tasks.pocket.draw import SPLITS, Draft, part_of, seeded
from tokensieve.types import Message, Problem

SIZES = {"train": 400, "validation": 100, "test": 200}
"""Problems a split."""


def problems(
    task: str, split: str, folder: Path | None, draw: Callable[[Random], Draft], stream: str | None = None
) -> Iterator[Problem]:
    """The problems of a split, the same ones on every machine, no key twice.

    Args:
        task: the task's name.
        split: train, validation or test.
        folder: must be None: there is no published copy to read.
        draw: draws one draft; it sees no split, the draft's key decides on that.
        stream: tasks that name the same stream draw the same problems.

    Raises:
        InputError: an unknown split, or a folder was given.
    """
    require_split(task, split, SPLITS)
    if folder is not None:
        raise InputError(f"{task} is generated and reads no folder", where=str(folder), fix="leave the folder out")
    rng = seeded(stream or task, split)
    keys: set[str] = set()
    while len(keys) < SIZES[split]:
        draft = draw(rng)
        if part_of(draft.key) != split or draft.key in keys:
            continue
        # A generator of its own: what finishing draws must not shift which problems come after.
        rest = draft.finish(seeded(stream or task, split, draft.key)) if draft.finish else {}
        if rest is None:
            continue
        problem_id = f"{task}/{split}/{len(keys)}"
        keys.add(draft.key)
        prompt: Message = {"role": "user", "content": draft.prompt}
        yield Problem(problem_id, task, (prompt,), draft.gold, {**draft.facts, **rest})
