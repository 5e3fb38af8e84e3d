"""A benchmark: problems to load, and a checker that judges one answer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from tokensieve.tasks.answer_text import judge_behind_reasoning
from tokensieve.types import Message, Problem, Sample, Verdict


@dataclass(frozen=True, slots=True)
class Continuation:
    """One of the given texts whose likelihoods are compared.

    Attributes:
        prompt: the turns before the answer; empty where there is no chat.
        text: what the assistant would say, or what follows ``context``.
        context: plain text before it, without a chat template; with neither this nor a prompt the text stands alone.
    """

    prompt: tuple[Message, ...]
    text: str
    context: str = ""


@dataclass(frozen=True, slots=True)
class Likelihood:
    """Likelihood of a continuation under a model.

    Attributes:
        nll: sum over its tokens, in nats.
        greedy: True where each of its tokens is the argmax.
    """

    nll: float
    greedy: bool


@dataclass(frozen=True, slots=True)
class LikelihoodChoice:
    """Multiple choice by log-likelihood: the likeliest of given texts is the answer, nothing is sampled.

    Attributes:
        continuations: the texts of a problem, at least one.
        judge: the verdict on a model that finds them this likely; same order.
    """

    continuations: Callable[[Problem], Sequence[Continuation]]
    judge: Callable[[Problem, Sequence[Likelihood]], Verdict]


@dataclass(frozen=True, slots=True)
class TextWindows:
    """Windows in which a long text is scored, each token once.

    Attributes:
        length: tokens in a window; its first token is context only.
        stride: tokens that each window after the first one scores, its last ones.
    """

    length: int
    stride: int


@dataclass(frozen=True, slots=True)
class Task:
    """A benchmark.

    ``problems`` and ``check`` are what the rest of the system calls: they hold what is the same for every benchmark.

    Attributes:
        name: its key in ``TASKS``.
        title: one line for people: what is asked and how it is judged.
        splits: names of its splits, in the order train, validation, test as far as they exist.
        load: ``load(split, folder)`` yields the split's problems in a fixed order; ``folder`` is a local
            copy in the published format, None means the default source (the Hub, or the seeded generator).
            Raises InputError on an unknown split or a malformed row, naming file and line.
        checker: ``checker(problem, answer)`` judges one answer, without the reasoning before it. Thread-safe; never
            raises for what an answer contains; runs generated code and SQL only in the sandbox.
        max_new_tokens: length limit of an answer, in tokens, that evaluation uses unless told otherwise.
        rephrase: ``rephrase(problem, reference)`` is the user's turn that asks for the model's own wording of a
            reference answer; None where the task has no form of its own.
        ended: ``ended(problem, text)`` is an answer up to the first of the texts that end answers to this problem,
            None where it holds none of them; None where only the model's own stop token ends an answer.
        likelihood_choice: where the likeliest of given texts is the answer; None where the model writes one.
        figures: ``figures(problems by id, samples)`` are figures of all answers beside accuracy, by name; None where
            there are none.
        windows: where a problem is a text (``facts["text"]``) whose nll is measured; None for all other tasks.
        scores_gold: the nll of the reference answers is measured, nothing is answered.
        rules: digest of a task's judging and length limit where a file describes them, so that a changed file is
            noticed; empty for shipped tasks, whose rules are the package's.
    """

    name: str
    title: str
    splits: tuple[str, ...]
    load: Callable[[str, Path | None], Iterator[Problem]]
    checker: Callable[[Problem, str], Verdict]
    max_new_tokens: int = 512
    rephrase: Callable[[Problem, str], str] | None = None
    ended: Callable[[Problem, str], str | None] | None = None
    likelihood_choice: LikelihoodChoice | None = None
    figures: Callable[[Mapping[str, Problem], Sequence[Sample]], dict[str, float]] | None = None
    windows: TextWindows | None = None
    scores_gold: bool = False
    rules: str = ""

    @property
    def measures_likelihood(self) -> bool:
        """True where given texts are measured, so that there is no right or wrong."""
        return self.scores_gold or self.windows is not None

    def problems(self, split: str, data: Path | None = None, limit: int | None = None) -> Iterator[Problem]:
        """The problems of a split, in their fixed order.

        Args:
            split: one of ``splits``.
            data: local copies, one folder a benchmark, or the one benchmark's own folder; None for the default source.
            limit: at most so many; None for all.

        Raises:
            InputError: an unknown split, or data that is missing or malformed.
        """
        # Strict variants (gsm8k_paper) have no folder of their own: their loaders find the benchmark's in ``data``.
        own = None if data is None else data / self.name
        return islice(self.load(split, own if own is not None and own.is_dir() else data), limit)

    def check(self, problem: Problem, answer: str) -> Verdict:
        """Judge one raw response text: what stands behind its reasoning.

        Args:
            problem: one of this task's.
            answer: the response as the model wrote it.

        Returns:
            The checker's verdict; ``no_answer`` where the reasoning does not end.
        """
        return judge_behind_reasoning(answer, partial(self.checker, problem))
