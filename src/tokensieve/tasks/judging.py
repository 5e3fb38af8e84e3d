"""Judging many answers in parallel, checking a task's gold answers, and judging a file of answers."""

import json
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from tokensieve.config import CutOff
from tokensieve.errors import InputError
from tokensieve.tasks.benchmark_io import Row, read_rows
from tokensieve.tasks.task import Task
from tokensieve.types import Outcome, Problem, Progress, Verdict

_WAITING_PER_WORKER = 256
"""Answers under way ahead of the one whose turn it is: a check that takes seconds must not idle the other workers."""


@dataclass(frozen=True, slots=True)
class GoldFailure:
    """A gold answer that its own checker does not accept."""

    id: str
    split: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class GoldReport:
    """Verdicts on a task's gold answers, counted.

    Attributes:
        task: the task's name.
        rows: number of problems by split.
        correct: number of gold answers accepted, by split.
        failures: the others.
    """

    task: str
    rows: Mapping[str, int]
    correct: Mapping[str, int]
    failures: tuple[GoldFailure, ...]

    @property
    def ok(self) -> bool:
        """True where every gold answer passed; False for no rows at all."""
        return not self.failures and sum(self.rows.values()) > 0


@dataclass(frozen=True, slots=True)
class AnswersReport:
    """Verdicts on a file of answers, counted.

    Attributes:
        task: the task's name.
        answers: rows judged.
        problems: different problems among them.
        outcomes: number of answers by outcome; each outcome is there.
        cut_off: answers that a length limit ended, whatever their outcome.
        cut_off_correct: those of them that are correct.
    """

    task: str
    answers: int
    problems: int
    outcomes: Mapping[Outcome, int]
    cut_off: int = 0
    cut_off_correct: int = 0

    @property
    def accuracy(self) -> float:
        """Share of correct answers; NaN where there is none to judge."""
        return self.outcomes[Outcome.CORRECT] / self.answers if self.answers else float("nan")


def judge(task: Task, pairs: Iterable[tuple[Problem, str]], *, workers: int) -> Iterator[Verdict]:
    """Judge answers in parallel, in the order in which they come; the input is read as far as it is needed.

    Args:
        task: whose checker judges.
        pairs: problem and raw response text.
        workers: checks at one time; the work itself is done by processes that the checkers start.

    Raises:
        InputError: fewer than one worker.
        EnvironmentProblem: a checker's sandbox cannot run here.
    """
    if workers < 1:
        raise InputError(f"expected at least 1 worker, got {workers}", where="workers")
    pending: deque[Future[Verdict]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="judge") as pool:
        try:
            for problem, answer in pairs:
                pending.append(pool.submit(task.check, problem, answer))
                while pending and (pending[0].done() or len(pending) >= workers * _WAITING_PER_WORKER):
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def check_gold(
    task: Task,
    folder: Path | None,
    *,
    splits: Iterable[str] | None = None,
    limit: int | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> GoldReport:
    """Judge every gold answer of a task with its own checker.

    Args:
        task: the task.
        folder: local copy of its data; None for the default source.
        splits: which splits; by default those that the source has, at least one.
        limit: at most this many problems a split; None for all.
        workers: checks at one time.
        progress: told the number of answers judged, and of those in this split and the ones before it.

    Raises:
        InputError: a row is malformed, or the folder holds no split at all.
    """
    rows: dict[str, int] = {}
    correct: dict[str, int] = {}
    failures: list[GoldFailure] = []
    for split in task.splits if splits is None else splits:
        try:
            problems = _first(task.load(split, folder), limit)
        except InputError:
            # A local copy may hold some of the splits; one that was asked for by name must be there.
            if splits is not None or (split == task.splits[-1] and not rows):
                raise
            continue
        if not all(problem.gold for problem in problems):
            raise InputError("some problems have no reference answer to check", where=task.name)
        verdicts = judge(task, ((problem, problem.gold) for problem in problems), workers=workers)
        rows[split], correct[split] = len(problems), 0
        for problem, verdict in zip(problems, verdicts, strict=True):
            correct[split] += verdict.correct
            if not verdict.correct:
                failures.append(GoldFailure(problem.id, split, verdict))
            if progress is not None:
                progress(sum(correct.values()) + len(failures), sum(rows.values()))
    return GoldReport(task.name, rows, correct, tuple(failures))


def judge_file(
    task: Task,
    folder: Path | None,
    answers: Path,
    out: Path,
    *,
    limit: int | None = None,
    cut_off: CutOff = "judge",
    workers: int = 2,
    progress: Progress | None = None,
) -> AnswersReport:
    """Judge a JSON-lines file of answers and write one verdict a line, in the same order.

    A row of the input has ``id`` and ``answer`` (raw response text), several rows for one id are allowed; a row
    with ``"finished": false`` was cut off by a length limit. A row of the output has ``id``, ``index`` (number of the
    answer among those of its id, from 0), ``verdict``, ``extracted``, ``reason``, and ``"finished": false`` where the
    input has it.

    Args:
        task: whose checker judges.
        folder: local copy of its data; None for the default source.
        answers: the file; also packed as ``.gz``.
        out: file of the verdicts.
        limit: at most the first N rows; None for all.
        cut_off: ``judge`` takes the text of a cut-off answer as far as it goes; ``wrong`` gives it the verdict
            ``cut_off`` unread.
        workers: checks at one time.
        progress: told the number of rows judged and the number of all.

    Raises:
        InputError: a row is malformed, or its id is not the task's (names file and line); ``out`` is a file that holds
            something else than verdicts.
    """
    _check_verdicts_place(out, answers)
    rows = [_answer(row) for row in islice(read_rows(answers), limit)]
    problems = _problems(task, folder, {problem_id: row.where for row, problem_id, _, _ in reversed(rows)})
    seen: Counter[str] = Counter()
    outcomes = dict.fromkeys(Outcome, 0)
    read = [row for row in rows if row[3] or cut_off == "judge"]
    judged = judge(task, ((problems[key], text) for _, key, text, _ in read), workers=workers)
    limited = limited_correct = 0
    out.parent.mkdir(parents=True, exist_ok=True)
    # Half a surrogate pair, as JSON may hold and UTF-8 may not, is written as JSON's own escape.
    with out.open("w", encoding="utf-8", errors="backslashreplace") as lines:
        for number, (_, key, _, done) in enumerate(rows, 1):
            if done or cut_off == "judge":
                verdict = next(judged)
            else:
                verdict = Verdict(Outcome.CUT_OFF, reason="the answer was not finished")
            flag = {} if done else {"finished": False}
            lines.write(json.dumps(_verdict_row(key, seen[key], verdict) | flag, ensure_ascii=False) + "\n")
            seen[key] += 1
            limited += not done
            limited_correct += not done and verdict.correct
            outcomes[verdict.outcome] += 1
            if progress is not None:
                progress(number, len(rows))
    return AnswersReport(task.name, len(rows), len(seen), outcomes, limited, limited_correct)


def _check_verdicts_place(out: Path, answers: Path) -> None:
    """Refuse to overwrite a file that is not one of earlier verdicts, the answers themselves above all."""
    if not out.is_file() or out.stat().st_size == 0:
        return
    with out.open(encoding="utf-8", errors="replace") as lines:
        first = lines.readline()
    try:
        found = json.loads(first)
    except ValueError:
        found = None
    if out.samefile(answers) or not isinstance(found, dict) or not {"id", "index", "verdict"} <= found.keys():
        raise InputError("the file is there already and holds no verdicts", where=str(out), fix="choose another --out")


def _answer(row: Row) -> tuple[Row, str, str, bool]:
    finished = row.fields.get("finished", True)
    if not isinstance(finished, bool):
        raise InputError("expected true or false in 'finished'", where=row.where)
    return row, row.text("id"), row.text("answer"), finished


def _problems(task: Task, folder: Path | None, wanted: Mapping[str, str]) -> dict[str, Problem]:
    """The problems of these ids, from whichever split has them."""
    found: dict[str, Problem] = {}
    example = ""
    refused: InputError | None = None
    for split in task.splits:
        if len(found) == len(wanted):
            break
        try:
            for problem in task.load(split, folder):
                example = example or problem.id
                if problem.id in wanted:
                    found[problem.id] = problem
        except InputError as error:  # a local copy may hold some of the splits
            refused = error
    for problem_id, where in reversed([*wanted.items()]):
        if problem_id not in found:
            if refused is not None and not example:
                raise refused
            unread = f" ({refused.where}: {refused.problem})" if refused is not None else ""
            raise InputError(
                f"{task.name} has no problem {problem_id!r}{unread}", where=where, fix=f"its ids are like {example!r}"
            )
    return found


def _first(problems: Iterator[Problem], limit: int | None) -> list[Problem]:
    return list(islice(problems, limit))


def _verdict_row(problem_id: str, index: int, verdict: Verdict) -> dict[str, str | int | None]:
    return {
        "id": problem_id,
        "index": index,
        "verdict": verdict.outcome.value,
        "extracted": verdict.extracted,
        "reason": verdict.reason,
    }
