"""Judging in parallel, in order, and from files."""

import gzip
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tokensieve.config import CutOff
from tokensieve.errors import InputError
from tokensieve.tasks import Task
from tokensieve.tasks.judging import check_gold, judge, judge_file
from tokensieve.types import Outcome, Problem, Verdict


def problems(split: str, folder: Path | None) -> Iterator[Problem]:
    if folder is not None and not (folder / split).exists():
        raise InputError("expected the split's file", where=str(folder))
    for number in range(10):
        yield Problem(f"count/{split}/{number}", "count", ({"role": "user", "content": "?"},), str(number))


def check(problem: Problem, answer: str) -> Verdict:
    time.sleep(0.002 * (10 - int(problem.gold)))
    right = answer == problem.gold
    return Verdict(Outcome.CORRECT if right else Outcome.WRONG, answer, "" if right else f"expected {problem.gold}")


TASK = Task("count", "counting", ("train", "test"), problems, check)


def test_verdicts_come_in_input_order() -> None:
    pairs = [
        (problem, problem.gold if number % 3 else "no") for number, problem in enumerate(problems("test", None))
    ] * 9
    verdicts = list(judge(TASK, pairs, workers=4))
    assert [verdict.correct for verdict in verdicts] == [bool(n % 10 % 3) for n in range(90)]


def test_checks_run_at_the_same_time() -> None:
    meeting = threading.Barrier(3, timeout=20)

    def meet(problem: Problem, answer: str) -> Verdict:
        meeting.wait()
        return Verdict(Outcome.CORRECT)

    task = Task("meet", "", ("test",), problems, meet)
    assert sum(
        verdict.correct for verdict in judge(task, ((p, "") for p in list(problems("test", None))[:3]), workers=3)
    )


def test_input_is_read_only_as_far_as_needed() -> None:
    taken = []

    def endless() -> Iterator[tuple[Problem, str]]:
        problem = next(problems("test", None))
        while True:
            taken.append(1)
            yield problem, "0"

    stream = judge(TASK, endless(), workers=2)
    assert next(stream).correct
    assert len(taken) < 1000


def test_a_slow_check_does_not_keep_the_other_workers_waiting() -> None:
    done, all_others = [0], threading.Event()

    def first_waits(problem: Problem, answer: str) -> Verdict:
        if answer == "slow":
            assert all_others.wait(20)
        else:
            done[0] += 1
            if done[0] == 200:
                all_others.set()
        return Verdict(Outcome.CORRECT)

    task = Task("slow", "", ("test",), problems, first_waits)
    problem = next(problems("test", None))
    pairs = [(problem, "slow"), *[(problem, "fast")] * 200]
    assert len(list(judge(task, pairs, workers=2))) == 201


def test_no_worker_is_refused() -> None:
    with pytest.raises(InputError, match="at least 1 worker"):
        list(judge(TASK, [], workers=0))


def test_gold_report_counts_and_lists() -> None:
    def strict(problem: Problem, answer: str) -> Verdict:
        return Verdict(Outcome.WRONG, answer, "odd") if int(answer) % 2 else Verdict(Outcome.CORRECT, answer)

    seen: list[tuple[int, int]] = []
    task = Task("count", "", ("train", "test"), problems, strict)
    report = check_gold(task, None, limit=5, progress=lambda done, known: seen.append((done, known)))
    assert report.rows == {"train": 5, "test": 5}
    assert report.correct == {"train": 3, "test": 3}
    assert [failure.id for failure in report.failures] == [
        "count/train/1", "count/train/3", "count/test/1", "count/test/3"
    ]  # fmt: skip
    assert not report.ok
    assert seen == [(done, 5 if done <= 5 else 10) for done in range(1, 11)]


def test_a_folder_may_hold_some_of_the_splits(tmp_path: Path) -> None:
    (tmp_path / "test").touch()
    assert check_gold(TASK, tmp_path).rows == {"test": 10}
    with pytest.raises(InputError, match="expected the split's file"):
        check_gold(TASK, tmp_path, splits=["train"])
    (tmp_path / "test").unlink()
    with pytest.raises(InputError, match="expected the split's file"):
        check_gold(TASK, tmp_path)


def test_an_id_that_no_split_at_hand_has_is_named_with_one_that_they_have(tmp_path: Path) -> None:
    answers = write_lines(tmp_path / "answers.jsonl", [{"id": "count/99", "answer": "1"}])
    data = tmp_path / "data"
    data.mkdir()
    with pytest.raises(InputError, match="expected the split's file"):
        judge_file(TASK, data, answers, tmp_path / "verdicts.jsonl")
    (data / "test").touch()
    with pytest.raises(InputError) as raised:
        judge_file(TASK, data, answers, tmp_path / "verdicts.jsonl")
    assert raised.value.where == f"{answers}, line 1"
    assert raised.value.problem.startswith("count has no problem 'count/99' (")
    assert raised.value.fix == "its ids are like 'count/test/0'"


def write_lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("rule", "last", "correct"),
    [
        ("judge", {"verdict": "correct", "extracted": "3", "reason": ""}, 3),
        ("wrong", {"verdict": "cut_off", "extracted": None, "reason": "the answer was not finished"}, 2),
    ],
)
def test_answers_file(tmp_path: Path, rule: CutOff, last: dict[str, object], correct: int) -> None:
    answers = write_lines(
        tmp_path / "answers.jsonl",
        [
            {"id": "count/test/3", "answer": "3"},
            {"id": "count/train/1", "answer": "1", "finished": True},
            {"id": "count/test/3", "answer": "4"},
            {"id": "count/test/3", "answer": "3", "finished": False},
        ],
    )
    out = tmp_path / "deep" / "verdicts.jsonl"
    report = judge_file(TASK, None, answers, out, cut_off=rule)
    assert [json.loads(line) for line in out.read_text().splitlines()] == [
        {"id": "count/test/3", "index": 0, "verdict": "correct", "extracted": "3", "reason": ""},
        {"id": "count/train/1", "index": 0, "verdict": "correct", "extracted": "1", "reason": ""},
        {"id": "count/test/3", "index": 1, "verdict": "wrong", "extracted": "4", "reason": "expected 3"},
        {"id": "count/test/3", "index": 2, **last, "finished": False},
    ]
    assert (report.answers, report.problems) == (4, 2)
    assert report.outcomes[Outcome.CORRECT] == correct
    assert (report.cut_off, report.cut_off_correct) == (1, correct - 2)
    assert report.accuracy == correct / 4


def test_the_first_rows_of_an_answers_file(tmp_path: Path) -> None:
    answers = write_lines(tmp_path / "a.jsonl", [{"id": f"count/test/{n}", "answer": f"{n}"} for n in range(4)])
    seen: list[tuple[int, int]] = []
    out = tmp_path / "v.jsonl"
    report = judge_file(TASK, None, answers, out, limit=2, progress=lambda done, known: seen.append((done, known)))
    assert (report.answers, len(out.read_text().splitlines()), seen) == (2, 2, [(1, 2), (2, 2)])


def test_half_a_surrogate_pair_in_an_answer_comes_out_as_it_went_in(tmp_path: Path) -> None:
    answers = write_lines(tmp_path / "a.jsonl", [{"id": "count/test/1", "answer": "\ud83d \U0001f600 \u00e9"}])
    judge_file(TASK, None, answers, tmp_path / "v.jsonl")
    (row,) = (json.loads(line) for line in (tmp_path / "v.jsonl").read_text("utf-8").splitlines())
    assert row["extracted"] == "\ud83d \U0001f600 \u00e9"


def test_a_file_that_holds_no_verdicts_is_not_overwritten(tmp_path: Path) -> None:
    answers = write_lines(tmp_path / "answers.jsonl", [{"id": "count/train/1", "answer": "1"}])
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("precious")
    for out in (answers, thesis):
        before = out.read_bytes()
        with pytest.raises(InputError, match="holds no verdicts"):
            judge_file(TASK, None, answers, out)
        assert out.read_bytes() == before
    verdicts = tmp_path / "verdicts.jsonl"
    for _ in range(2):
        assert judge_file(TASK, None, answers, verdicts).answers == 1


def test_a_packed_answers_file(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": "count/test/1", "answer": "1"}\n' * 3))
    assert judge_file(TASK, None, path, tmp_path / "v.jsonl").answers == 3
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(InputError, match="the gzip file is damaged"):
        judge_file(TASK, None, path, tmp_path / "v.jsonl")
    path.write_bytes(b'{"id": "count/test/1", "answer": "1"}\n')
    with pytest.raises(InputError, match="the gzip file is damaged"):
        judge_file(TASK, None, path, tmp_path / "v.jsonl")


@pytest.mark.parametrize(
    ("line", "words"),
    [(b"\xff\xfe{", "invalid UTF-8: byte 0xff"), (b"[" * 100_000, "nested too deeply"), (b"[1]", "a list")],
)
def test_lines_that_are_no_rows_are_named(tmp_path: Path, line: bytes, words: str) -> None:
    answers = tmp_path / "answers.jsonl"
    answers.write_bytes(b'\xef\xbb\xbf{"id": "count/test/0", "answer": "0"}\r\n\r\n' + line)
    with pytest.raises(InputError) as raised:
        judge_file(TASK, None, answers, tmp_path / "verdicts.jsonl")
    assert words in str(raised.value)
    assert f"{answers}, line 3" in str(raised.value)


def test_an_empty_answers_file(tmp_path: Path) -> None:
    report = judge_file(TASK, None, write_lines(tmp_path / "a.jsonl", []), tmp_path / "v.jsonl")
    assert report.answers == 0
    assert report.accuracy != report.accuracy
    assert (tmp_path / "v.jsonl").read_text() == ""


def test_a_file_of_answers_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.jsonl: no such file"):
        judge_file(TASK, None, tmp_path / "a.jsonl", tmp_path / "v.jsonl")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"id": "count/test/99", "answer": "1"}, "no problem 'count/test/99'"),
        ({"id": "count/test/1"}, "expected text in 'answer', got nothing"),
        ({"answer": "1"}, "expected text in 'id'"),
        ({"id": "count/test/1", "answer": 1}, "got a number"),
        ({"id": "count/test/1", "answer": "1", "finished": "yes"}, "expected true or false"),
    ],
)
def test_bad_answer_rows_are_named(tmp_path: Path, row: dict[str, object], words: str) -> None:
    answers = write_lines(tmp_path / "answers.jsonl", [{"id": "count/test/0", "answer": "0"}, row])
    with pytest.raises(InputError) as raised:
        judge_file(TASK, None, answers, tmp_path / "verdicts.jsonl")
    assert words in str(raised.value)
    assert f"{answers}, line 2" in str(raised.value)
