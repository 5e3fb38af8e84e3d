"""Problems of benchmarks, and a model's answers to them with their verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from tokensieve.errors import InputError
from tokensieve.types.rows import JSON, Message


class Outcome(StrEnum):
    """Finding of a checker. Wrong format (``NO_ANSWER``) and a wrong answer (``WRONG``) are different findings.

    ``CUT_OFF`` is a checker's finding on a text that ends inside its answer, and the strict rule's on every answer that
    the length limit ended. That an answer was ended by the limit is no finding but a flag, :attr:`Sample.finished`.
    """

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    CUT_OFF = "cut_off"
    NOT_JUDGED = "not_judged"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A checker's finding on one answer.

    Attributes:
        outcome: the finding.
        extracted: the part of the answer that was judged; None where none was found.
        reason: why, in words for a person; empty where the outcome says it all.
    """

    outcome: Outcome
    extracted: str | None = None
    reason: str = ""

    @property
    def correct(self) -> bool:
        """True where the answer counts as right; everything else counts as not right."""
        return self.outcome is Outcome.CORRECT


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a benchmark.

    Attributes:
        id: the benchmark's own id, or ``task/split/line`` counted from 0.
        task: the registered task's name.
        prompt: the turns before the answer; the last is a user's.
        gold: the reference as a complete raw response: what a model would be trained to say, and what
            the task's checker accepts.
        facts: what the checker needs beyond the answer (tests, choices, a gold query); JSON only, and a part of the
            problem's identity.
        files: files that the checker reads, by their keys; where they lie is no part of the problem's identity.
    """

    id: str
    task: str
    prompt: tuple[Message, ...]
    gold: str
    facts: Mapping[str, JSON] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.prompt or self.prompt[-1]["role"] != "user":
            raise InputError("a problem's prompt must end with a user turn", where=f"problem {self.id}")


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer of a model to one problem, with its verdict once it was judged.

    Attributes:
        problem_id: the problem's id.
        task: the problem's task.
        index: number of the sample among those of its problem, from 0.
        text: the decoded answer, without the end-of-turn token.
        ids: the sampled token ids as they came, end-of-turn included.
        finished: False where the length limit cut it off; a flag beside the verdict, which is on the text there is.
        verdict: None before it was judged.
        nll: mean nll (nats) of its tokens under the sampling model at temperature 1; NaN where not known.
        retokenised: True where a server gave text only and the ids were made from it.
        token_nll: nll (nats) of each of ``ids``, where a task measures given texts token by token; else empty.
    """

    problem_id: str
    task: str
    index: int
    text: str
    ids: tuple[int, ...] = ()
    finished: bool = True
    verdict: Verdict | None = None
    nll: float = float("nan")
    retokenised: bool = False
    token_nll: tuple[float, ...] = ()
