"""Results of a comparison: tasks before and after, forgetting, the gate."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tokensieve import metrics
from tokensieve.comparison.answers import Answer, Difference, TaskScore
from tokensieve.comparison.statistics import PairedDifference
from tokensieve.types import Outcome

Decision: TypeAlias = Literal["passed", "failed", "undecided"]


@dataclass(frozen=True, slots=True)
class Flip:
    """An answer that is right in one of the two evaluations only.

    Attributes:
        before: the base's answer.
        after: the fine-tuned model's.
        run: number of the run, from 0, where there are several seeds.
    """

    before: Answer
    after: Answer
    run: int = 0

    @property
    def kind(self) -> Literal["lost", "gained"]:
        """Lost where the base's answer is the right one."""
        return "lost" if self.before.correct else "gained"


@dataclass(frozen=True, slots=True)
class TaskChange:
    """One task before and after, on the same problems.

    Attributes:
        before: the base model's score.
        after: the fine-tuned model's; over several seeds the answers are pooled.
        difference: change of accuracy in percentage points, with interval, p-value and power.
        adjusted_p: p-value after Benjamini and Hochberg's adjustment over the tasks of the comparison.
        problems: paired problems.
        flips: answers that changed sides.
    """

    before: TaskScore
    after: TaskScore
    difference: PairedDifference
    adjusted_p: float
    problems: int
    flips: tuple[Flip, ...]

    @property
    def task(self) -> str:
        """The task's name."""
        return self.before.task

    @property
    def base_is_zero(self) -> bool:
        """True where the base solves none of the problems, so that no drop can be seen."""
        return self.before.accuracy.value == 0

    @property
    def gained(self) -> int:
        """Answers that are correct only after."""
        return sum(flip.kind == "gained" for flip in self.flips)

    @property
    def lost(self) -> int:
        """Answers that were correct only before."""
        return sum(flip.kind == "lost" for flip in self.flips)

    @property
    def lost_format(self) -> int:
        """Lost answers in which the checker found no answer: wrong format rather than a wrong answer."""
        return sum(f.kind == "lost" and f.after.outcome is Outcome.NO_ANSWER for f in self.flips)

    @property
    def lost_cut_off(self) -> int:
        """Lost answers that the length limit ended."""
        return sum(f.kind == "lost" and not f.after.finished for f in self.flips)


@dataclass(frozen=True, slots=True)
class Gate:
    """Decision whether a drop larger than allowed is excluded, task by task, on the interval of the difference.

    Attributes:
        max_drop: largest drop allowed, in percentage points of accuracy.
        decisions: by task: ``passed`` where the whole interval lies above the limit, ``failed`` where it lies below,
            ``undecided`` where the limit lies inside: the problems are too few to tell.
    """

    max_drop: float
    decisions: Mapping[str, Decision]

    @property
    def ok(self) -> bool:
        """True where every task passed."""
        return all(decision == "passed" for decision in self.decisions.values())


@dataclass(frozen=True, slots=True)
class EvalComparison:
    """A fine-tuned model against its base.

    Attributes:
        base: name of the base's evaluation.
        tuned: names of the others, one a training seed.
        target: the task that was trained; empty where none was named.
        changes: the target first, then the other tasks.
        forgetting: target improvement and backward transfer with intervals; None without a target.
        differences: settings in which the evaluations differ.
        gate: the decision on the largest drop allowed; None where none was named.
        notes: further remarks: unread columns, tasks left out, a base of zero.
    """

    base: str
    tuned: tuple[str, ...]
    target: str
    changes: tuple[TaskChange, ...]
    forgetting: metrics.Forgetting | None
    differences: tuple[Difference, ...] = ()
    gate: Gate | None = None
    notes: tuple[str, ...] = ()
