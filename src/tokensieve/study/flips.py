"""Flips of a study: answers whose verdict changed sides, within a budget of characters for the whole page."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from typing import Final

from tokensieve.analysis.similarity import NearestRows
from tokensieve.report.browser_schema import ArmFlips, Flip, FlipProblem, Nearness, NearRow, kind_of
from tokensieve.report.schema import TargetReport
from tokensieve.types import Outcome, Problem, Sample, Selected

PAGE_CHARACTERS: Final = 1_000_000
"""Characters of all flips on a page, so that ten arms of five seeds stay within its 5 MB."""
TEXT_CHARACTERS: Final = 1200
"""Characters of one text; longer ones are shortened and say by how much."""
NEAR_CHARACTERS: Final = 300
"""Characters of a training row's prompt, and of its response."""
EXTRACTED_CHARACTERS: Final = 100
"""Characters of the part of an answer that was judged."""
OVERHEAD_CHARACTERS: Final = 120
"""Characters of a flip or problem beside its texts: ids, findings, names of fields."""
NEAREST: Final = 2
"""Training rows that are shown beside a problem."""
ROWS_SEARCHED: Final = 5000
"""The first training rows, among which the nearest are looked for."""

Answers = Mapping[str, Sequence[Sample]]
"""Task to the answers of one model, in the same order for all models."""


def with_flips(
    report: TargetReport,
    before: Answers,
    after: Mapping[str, Sequence[Answers]],
    problems: Callable[[str], Iterable[Problem]],
    rows: Iterable[Selected],
    text: Callable[[Sequence[int]], str],
    characters: int,
) -> TargetReport:
    """The report of a target with the flips of its arms.

    Args:
        report: of the target, without flips.
        before: the base's answers.
        after: the answers of each arm's runs, one mapping a seed, by the arm's name.
        problems: the problems of a task.
        rows: training rows among which the nearest to a problem are looked for.
        text: token ids to text.
        characters: budget of one arm on one task.
    """
    builder = _Builder(before, {}, characters, list(islice(rows, ROWS_SEARCHED)), text)
    arms = []
    for arm in report.arms:
        found = []
        for task in before:
            flips = _flips(before[task], [run[task] for run in after.get(arm.name, ())], [r.seed for r in arm.runs])
            if flips and task not in builder.problems:
                builder.problems[task] = {problem.id: problem for problem in problems(task)}
            if flips:
                found.append(builder.of_task(task, flips))
        arms.append(arm.model_copy(update={"flips": tuple(found)}))
    held = {"flip_problems": tuple(builder.shown), "near_rows": tuple(builder.near)}
    return report.model_copy(update={"arms": tuple(arms), **held})


@dataclass(frozen=True, slots=True)
class _Found:
    """One flip: the two answers to a problem."""

    was: Sample
    now: Sample
    seed: int

    @property
    def kind(self) -> str:
        return kind_of(_outcome(self.was), _outcome(self.now))


@dataclass(frozen=True, slots=True)
class _Shown:
    """A problem that may be shown, before it is known whether the budget holds it.

    Attributes:
        problem: without the rows near to it.
        near: places of the near rows in the training set, with their cosines.
        rows: those of them that are not shown yet.
    """

    problem: FlipProblem
    near: Sequence[tuple[int, float]]
    rows: Mapping[int, NearRow]

    @property
    def characters(self) -> int:
        """Characters of all its texts."""
        own = (self.problem.question, self.problem.gold, self.problem.before)
        return sum(map(len, own)) + sum(len(row.prompt) + len(row.response) for row in self.rows.values())


@dataclass(slots=True)
class _Builder:
    """Collects problems and near rows, each once, while the arms go by."""

    before: Answers
    problems: dict[str, dict[str, Problem]]
    characters: int
    rows: Sequence[Selected]
    text: Callable[[Sequence[int]], str]
    shown: list[FlipProblem] = field(default_factory=list)
    near: list[NearRow] = field(default_factory=list)
    _places: dict[tuple[str, str, int], int] = field(default_factory=dict)
    _near_places: dict[int, int] = field(default_factory=dict)
    _index: NearestRows | None = None

    def of_task(self, task: str, flips: Sequence[_Found]) -> ArmFlips:
        """Counts of all flips, and as many of them as the budget holds, of every kind in turn."""
        left, kept = self.characters, []
        limit = min(TEXT_CHARACTERS, self.characters // 10)  # so that the first flip always fits
        for flip in _in_turn(flips):
            key = (task, flip.was.problem_id, flip.was.index)
            shown = Flip(
                problem=self._places.get(key, len(self.shown)),
                seed=flip.seed,
                after=shortened(flip.now.text, limit),
                outcome=_outcome(flip.now),
                extracted=shortened(_extracted(flip.now), EXTRACTED_CHARACTERS),
            )
            cost = OVERHEAD_CHARACTERS + len(shown.after)
            new = None if key in self._places else self._problem(task, flip.was, limit)
            if new is not None:
                cost += OVERHEAD_CHARACTERS + new.characters
            if cost > left:
                break
            left -= cost
            kept.append(shown)
            if new is not None:
                self._places[key] = len(self.shown)
                self._add(new)
        counts = Counter(flip.kind for flip in flips)
        return ArmFlips(task=task, counts=dict(sorted(counts.items())), shown=tuple(kept))

    def _problem(self, task: str, was: Sample, limit: int) -> _Shown:
        """A problem that is not shown yet, with the rows near to it."""
        problem = self.problems[task].get(was.problem_id)
        question = _question(problem)
        if self._index is None:
            self._index = NearestRows([self._prompt(row) for row in self.rows])
        near = self._index.nearest(question, NEAREST)
        told = FlipProblem(
            id=was.problem_id,
            task=task,
            question=shortened(question, limit),
            gold=shortened(_gold(problem), limit),
            before=shortened(was.text, limit),
            outcome=_outcome(was),
            extracted=shortened(_extracted(was), EXTRACTED_CHARACTERS),
        )
        rows = {row: self._near_row(row, limit) for row, _ in near if row not in self._near_places}
        return _Shown(told, near, rows)

    def _add(self, new: _Shown) -> None:
        for row, told in new.rows.items():
            self._near_places[row] = len(self.near)
            self.near.append(told)
        nearest = tuple(Nearness(row=self._near_places[row], cosine=round(cosine, 3)) for row, cosine in new.near)
        self.shown.append(new.problem.model_copy(update={"nearest": nearest}))

    def _near_row(self, place: int, limit: int) -> NearRow:
        row, limit = self.rows[place], min(NEAR_CHARACTERS, limit)
        response = self.text(row.tokens.ids_T[row.tokens.in_response_T].tolist())
        return NearRow(
            id=row.tokens.id, prompt=shortened(self._prompt(row), limit), response=shortened(response, limit)
        )

    def _prompt(self, row: Selected) -> str:
        """Text before the first response token."""
        in_response_T = row.tokens.in_response_T
        start = int(in_response_T.argmax()) if in_response_T.any() else len(in_response_T)
        return self.text(row.tokens.ids_T[:start].tolist())


def shortened(text: str, limit: int) -> str:
    """A text of at most ``limit`` characters beside the words that say how much is missing."""
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text) - limit:,} more characters)"


def _flips(before: Sequence[Sample], runs: Sequence[Sequence[Sample]], seeds: Sequence[int]) -> list[_Found]:
    return [
        _Found(was, now, seed)
        for run, seed in zip(runs, seeds, strict=True)
        for was, now in zip(before, run, strict=True)
        if (_outcome(was) is Outcome.CORRECT) != (_outcome(now) is Outcome.CORRECT)
    ]


def _in_turn(flips: Sequence[_Found]) -> list[_Found]:
    """The flips in a stable order in which the kinds take turns; all arms see the same problems first."""
    kinds: dict[str, list[_Found]] = {}
    for flip in sorted(flips, key=lambda one: (_digest(one.was), one.seed)):
        kinds.setdefault(flip.kind, []).append(flip)
    rounds = zip_longest(*(kinds[kind] for kind in sorted(kinds)))
    return [flip for flip in chain.from_iterable(rounds) if flip is not None]


def _digest(sample: Sample) -> bytes:
    return hashlib.sha256(f"{sample.problem_id} {sample.index}".encode()).digest()


def _outcome(sample: Sample) -> Outcome:
    return Outcome.NOT_JUDGED if sample.verdict is None else sample.verdict.outcome


def _extracted(sample: Sample) -> str:
    return "" if sample.verdict is None else sample.verdict.extracted or ""


def _question(problem: Problem | None) -> str:
    """The prompt's turns; the roles stand before them where there are several."""
    turns = problem.prompt if problem else ()
    several = len(turns) > 1
    return "\n\n".join(f"{turn['role']}: {turn['content']}" if several else str(turn["content"]) for turn in turns)


def _gold(problem: Problem | None) -> str:
    return problem.gold if problem else ""
