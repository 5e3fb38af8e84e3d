"""Judged answers in one form, whichever tool has judged them, and a task's score over them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tokensieve import metrics
from tokensieve.types import JSON, Outcome


@dataclass(frozen=True, slots=True)
class Answer:
    """One judged answer to one problem.

    Attributes:
        task: name of the task.
        id: the problem's id; with the task and the sample it pairs the answers of two evaluations.
        outcome: finding of the checker.
        sample: number of the answer among those to its problem, from 0.
        text: the answer; empty where the log has none.
        gold: the reference; empty where the log has none.
        group: problems of one group, such as the questions on one passage, are not independent; empty for none.
        prompt_digest: digest of the prompt; empty where the log has neither it nor the prompt.
        finished: False where the length limit ended the answer.
    """

    task: str
    id: str
    outcome: Outcome
    sample: int = 0
    text: str = ""
    gold: str = ""
    group: str = ""
    prompt_digest: str = ""
    finished: bool = True

    @property
    def correct(self) -> bool:
        """True for the outcome ``CORRECT`` alone."""
        return self.outcome is Outcome.CORRECT


@dataclass(frozen=True, slots=True)
class EvaluationAnswers:
    """All answers of one evaluation and the settings that they were made under.

    Attributes:
        source: path or name, for messages.
        rows: the answers.
        asked: settings that decide which answer is given and whether it counts as right (split, sampling rule, prompts,
            length-limit rule), by name. Two evaluations that are compared must agree in them.
        computed: settings of the model's run (dtype, backend, tokenizer, versions), by name. Where they differ it is
            said.
        model: digest of the weights and the adapter; empty where not known.
        notes: remarks on this evaluation, printed with the comparison.
    """

    source: str
    rows: tuple[Answer, ...]
    asked: Mapping[str, JSON] = field(default_factory=dict)
    computed: Mapping[str, JSON] = field(default_factory=dict)
    model: str = ""
    notes: tuple[str, ...] = ()

    def strict(self) -> "EvaluationAnswers":
        """The same answers, those that the length limit ended counted as not right."""
        rows = tuple(r if r.finished else replace(r, outcome=Outcome.CUT_OFF) for r in self.rows)
        return replace(self, rows=rows, asked={**self.asked, CUT_OFF_RULE: "wrong"})


CUT_OFF_RULE = "cut-off answers"
"""Name of the rule for cut-off answers among the settings that were asked."""


@dataclass(frozen=True, slots=True)
class TaskScore:
    """Score of one model on one task.

    Attributes:
        task: its name.
        accuracy: share of correct answers, a fraction, with a Wilson interval over problems; NaN without answers.
        outcomes: number of answers by outcome; each outcome is there.
        cut_off: answers that the length limit ended, whatever their outcome.
        cut_off_correct: those of them that are correct.
    """

    task: str
    accuracy: metrics.Estimate
    outcomes: Mapping[Outcome, int]
    cut_off: int = 0
    cut_off_correct: int = 0

    @property
    def answers(self) -> int:
        """All answers of the task."""
        return sum(self.outcomes.values())


def task_score(task: str, answers: Iterable[Answer]) -> TaskScore:
    """A task's score from its answers."""
    listed = list(answers)
    counts = Counter(answer.outcome for answer in listed)
    cut_off = Counter(answer.outcome for answer in listed if not answer.finished)
    problems = len({answer.id for answer in listed})
    return TaskScore(
        task=task,
        accuracy=metrics.accuracy(counts[Outcome.CORRECT], len(listed), problems=problems),
        outcomes={outcome: counts[outcome] for outcome in Outcome},
        cut_off=cut_off.total(),
        cut_off_correct=cut_off[Outcome.CORRECT],
    )


def by_task(rows: Iterable[Answer]) -> dict[str, Sequence[Answer]]:
    """The answers by task, in the order of the tasks' first answers."""
    found: dict[str, list[Answer]] = {}
    for row in rows:
        found.setdefault(row.task, []).append(row)
    return dict(found)
