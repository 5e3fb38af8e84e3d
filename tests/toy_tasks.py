"""Tasks and samplers for tests of what is built on them; nothing here is loaded or run."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tokensieve.config import SampleSettings
from tokensieve.sampling import Request, Sampler, ScriptedSampler
from tokensieve.tasks import Task
from tokensieve.types import Outcome, Problem, Sample, Verdict


def toy_task(name: str, count: int = 6) -> Task:
    """Repeat the number; an answer without digits has no answer in it."""

    def load(split: str, folder: Path | None) -> Iterator[Problem]:
        for number in range(count):
            yield Problem(
                f"{name}/{split}/{number}", name, ({"role": "user", "content": f"say {number}"},), str(number)
            )

    def check(problem: Problem, answer: str) -> Verdict:
        digits = "".join(c for c in answer if c.isdigit())
        if not digits:
            return Verdict(Outcome.NO_ANSWER, None, "no number")
        return Verdict(Outcome.CORRECT if digits == problem.gold else Outcome.WRONG, digits)

    return Task(name, name, ("train", "test"), load, check, max_new_tokens=16)


def number_of(problem_id: str) -> int:
    """The number that a toy problem asks for."""
    return int(problem_id.rpartition("/")[2])


def says(answers: Callable[[int], str]) -> Sampler:
    """A sampler that answers by the problem's number."""
    return ScriptedSampler(lambda request, index: answers(number_of(request.id)))


class DyingSampler:
    """Passes on another sampler's answers and is killed after so many; never with -1."""

    identity = ScriptedSampler({}).identity

    def __init__(self, inner: Sampler, after: int = -1) -> None:
        self._inner = inner
        self._left = after
        self.answered: list[tuple[str, int]] = []

    def draw(self, requests: Iterable[Request], settings: SampleSettings) -> Iterator[Sample]:
        for sample in self._inner.draw(requests, settings):
            if self._left == 0:
                raise KeyboardInterrupt
            self._left -= 1
            self.answered.append((sample.problem_id, sample.index))
            yield sample
