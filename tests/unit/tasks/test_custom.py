"""Tasks from a user's YAML file."""

import json
import sqlite3
from pathlib import Path

import pytest

from tokensieve.errors import InputError
from tokensieve.tasks import Task
from tokensieve.tasks.custom import read_task
from tokensieve.tasks.judging import check_gold
from tokensieve.types import Outcome

ROW = {
    "q": "What?",
    "a": "42",
    "word": "Paris",
    "letter": "B",
    "tests": ["assert f(1) == 2"],
    "sql": "SELECT 1",
    "obj": '{"x": [1, 2]}',
    "formula": "\\frac{1}{2}",
}


def task_of(folder: Path, check: str, gold: str = "{{ a }}", **more: str) -> Task:
    (folder / "rows.jsonl").write_text(json.dumps(ROW) + "\n")
    lines = {
        "name": "own",
        "rows": "{test: rows.jsonl}",
        "prompt": "'{{ q }}'",
        "gold": f"'{gold}'",
        "check": check,
        **more,
    }
    path = folder / "own.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in lines.items()))
    return read_task(path)


@pytest.mark.parametrize(
    ("check", "right", "wrong", "nothing"),
    [
        ("{kind: number, answer: '{{ a }}'}", "It is 42.", "It is 43.", "Hm."),
        ("{kind: number, answer: '{{ a }}', tolerance: 1}", "41", "40", "Hm."),
        ("{kind: exact, answer: '{{ word }}'}", " Paris\n", "paris", " "),
        ("{kind: exact, answer: '{{ word }}', ignore_case: true}", "paris", "Lyon", ""),
        ("{kind: letter, answer: '{{ letter }}'}", "The answer is B", "A", "None of them"),
        ("{kind: regex, pattern: 'x=(\\d+)', answer: '{{ a }}'}", "x=1 x=42", "x=7", "y"),
        ("{kind: json, answer: '{{ obj }}'}", 'Here: ```json\n{"x": [1, 2]}\n```', '{"x": [2, 1]}', "none"),
        ("{kind: math, answer: '{{ formula }}'}", "\\boxed{0.5}", "\\boxed{2}", "none"),
    ],
)
def test_checkers_by_name(tmp_path: Path, check: str, right: str, wrong: str, nothing: str) -> None:
    task = task_of(tmp_path, check)
    problem = next(task.load("test", None))
    assert problem.id == "own/test/0"
    assert problem.prompt == ({"role": "user", "content": "What?"},)
    assert task.check(problem, right).correct
    assert task.check(problem, wrong).outcome is Outcome.WRONG
    assert task.check(problem, nothing).outcome is Outcome.NO_ANSWER


def test_a_pattern_alone_asks_for_a_match(tmp_path: Path) -> None:
    task = task_of(tmp_path, "{kind: regex, pattern: '^yes'}")
    problem = next(task.load("test", None))
    assert task.check(problem, "yes, of course").correct


def test_python_tests(tmp_path: Path, sandbox: str) -> None:
    task = task_of(tmp_path, "{kind: python, tests: tests, setup: 'ONE = 1'}", gold="def f(x): return x + ONE")
    problem = next(task.load("test", None))
    assert check_gold(task, None).ok
    assert task.check(problem, "def f(x): return 0").outcome is Outcome.WRONG


def test_sql_by_script_and_by_file(tmp_path: Path, sandbox: str) -> None:
    check = "{kind: sql, query: '{{ sql }}', script: 'CREATE TABLE t(a)'}"
    task = task_of(tmp_path, check, gold="{{ sql }}")
    assert check_gold(task, None).ok
    sqlite3.connect(tmp_path / "d.sqlite").close()
    task = task_of(tmp_path, "{kind: sql, query: '{{ sql }}', database: d.sqlite}", gold="{{ sql }}")
    assert check_gold(task, None).ok
    assert task.check(next(task.load("test", None)), "SELECT 2").outcome is Outcome.WRONG


def test_the_users_own_function(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def judge(row, answer):\n    return 1 / len(answer) > 0 and answer == row['word']\n"
    )
    task = task_of(tmp_path, "{kind: function, function: 'mine.py:judge'}", gold="{{ word }}")
    problem = next(task.load("test", None))
    assert task.check(problem, "Paris").correct
    assert task.check(problem, "Rome").outcome is Outcome.WRONG
    broken = task.check(problem, "")
    assert broken.outcome is Outcome.NOT_JUDGED
    assert "ZeroDivisionError" in broken.reason


def test_system_turn_id_and_array_of_rows(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps([ROW, ROW | {"a": "7"}]))
    task = task_of(
        tmp_path,
        "{kind: number, answer: '{{ a }}'}",
        rows="{train: rows.json, test: rows.jsonl}",
        system="'Be brief.'",
        id="'row-{{ a }}'",
    )
    assert task.splits == ("train", "test")
    assert [problem.id for problem in task.load("train", None)] == ["row-42", "row-7"]
    assert next(task.load("train", None)).prompt[0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"promt": "x"}, "did you mean 'prompt'?"),
        ({"check": "{kind: exakt, answer: x}"}, "there is no checker 'exakt'\n  fix: did you mean 'exact'?"),
        ({"check": "{kind: exact, answer: x, tolerance: 1}"}, "check.tolerance: no such key beside kind exact"),
        ({"check": "{kind: exact, answer: x, ignorecase: true}"}, "did you mean 'ignore_case'?"),
        ({"check": "exact"}, "check: "),
        ({"check": "{kind: exact}"}, "answer"),
        ({"check": "{kind: regex, pattern: '('}"}, "check.pattern"),
        ({"check": "{kind: sql, query: x}"}, "one of database and script"),
        ({"check": "{kind: function, function: 'absent.py:f'}"}, "file.py:name"),
        ({"max_new_tokens": "0"}, "max_new_tokens"),
        ({"rows": "{dev: rows.jsonl}"}, "rows"),
        ({"name": "[unclosed"}, "broken YAML"),
        ({"check": "{kind: exact, kind: number, answer: x}"}, "'kind' stands twice"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, more: dict[str, str], words: str) -> None:
    with pytest.raises(InputError) as raised:
        task_of(tmp_path, **({"check": "{kind: exact, answer: x}"} | more))
    assert words in str(raised.value)
    assert "own.yaml" in str(raised.value)


def test_an_unknown_field_names_those_there_are(tmp_path: Path) -> None:
    task = task_of(tmp_path, "{kind: exact, answer: '{{ anser }}'}")
    with pytest.raises(InputError, match="'anser' is undefined") as raised:
        next(task.load("test", None))
    assert "rows.jsonl, line 1" in str(raised.value)
    assert "formula" in str(raised.value)


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read it"):
        read_task(tmp_path / "absent.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(InputError, match="not UTF-8 text: invalid continuation byte at byte 9"):
        read_task(tmp_path / "latin.yaml")
    task = task_of(tmp_path, "{kind: exact, answer: x}", rows="{test: absent.jsonl}")
    with pytest.raises(InputError, match="no such file"):
        next(task.load("test", None))
