"""What a benchmark is to the rest of the system: problems to load, and a checker that judges one answer."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tokensieve.types import Problem, Verdict


@dataclass(frozen=True, slots=True)
class Task:
    """A benchmark.

    Attributes:
        name: its key in ``TASKS``.
        title: one line for people: what is asked and how it is judged.
        splits: names of its splits, in the order train, validation, test as far as they exist.
        load: ``load(split, folder)`` yields the split's problems in a fixed order; ``folder`` is a local
            copy in the published format, None means the default source (the Hub, or the seeded generator).
            Raises InputError on an unknown split or a malformed row, naming file and line.
        check: ``check(problem, answer)`` judges one raw response text. Thread-safe; never raises for what
            an answer contains; runs generated code and SQL only in the sandbox.
        max_new_tokens: length limit of an answer, in tokens, that evaluation uses unless told otherwise.
        rephrase: ``rephrase(problem, reference)`` is the user's turn that asks for the model's own wording of a
            reference answer; None where the task has no form of its own.
    """

    name: str
    title: str
    splits: tuple[str, ...]
    load: Callable[[str, Path | None], Iterator[Problem]]
    check: Callable[[Problem, str], Verdict]
    max_new_tokens: int = 512
    rephrase: Callable[[Problem, str], str] | None = None
