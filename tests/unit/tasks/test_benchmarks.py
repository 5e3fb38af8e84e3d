"""Every task: gold answers pass, wrong ones do not, and each kind of finding is told apart."""

import contextlib
import gzip
import json
import sqlite3
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from tokensieve.config import DataSettings
from tokensieve.data.row_counts import Tally
from tokensieve.errors import InputError
from tokensieve.pipeline.load import _examples
from tokensieve.sampling.grading import problems_digest
from tokensieve.tasks import TASKS, split_name
from tokensieve.tasks.judging import check_gold
from tokensieve.types import Outcome, Problem, Verdict

GOLD = [
    ("gsm8k", "gsm8k", {"train": 7473, "test": 1319}),
    ("gsm8k_paper", "gsm8k", {"train": 7473, "test": 1319}),
    ("math", "math", {"validation": 734, "test": 1000}),
    ("math_boxed", "math", {"validation": 734, "test": 1000}),
    ("arc_challenge", "arc_challenge", {"train": 1119, "validation": 299, "test": 1172}),
    ("arc_challenge_letter", "arc_challenge", {"train": 1119, "validation": 299, "test": 1172}),
    ("mbpp", "mbpp", {"train": 374, "validation": 90, "test": 500, "prompt": 10}),
    ("humaneval", "humaneval", {"test": 164}),
]


@pytest.mark.parametrize(("name", "folder", "rows"), GOLD, ids=[row[0] for row in GOLD])
def test_every_gold_answer_passes(name: str, folder: str, rows: dict[str, int], shared_data: Path) -> None:
    report = check_gold(TASKS[name], shared_data / folder)
    assert report.failures == ()
    assert report.rows == rows
    assert report.correct == rows
    assert report.ok


def test_the_folder_of_all_benchmarks_will_do(shared_data: Path) -> None:
    assert next(TASKS["gsm8k_paper"].load("test", shared_data)).id == "gsm8k/test/0"


def test_strict_rules_load_from_the_benchmarks_folder(shared_data: Path) -> None:
    for name in ("gsm8k_paper", "math_boxed", "arc_challenge_letter"):
        for folder in (shared_data, shared_data / name.rpartition("_")[0]):
            assert {p.task for p in TASKS[name].problems("test", folder, 3)} == {name}
        examples, _ = _examples(f"task:{name}/test", DataSettings(data=shared_data, limit=2), Tally())
        assert len(list(examples)) == 2


@pytest.mark.parametrize(
    ("spelled", "name", "split"),
    [
        ("gsm8k", "gsm8k", ""),
        ("gsm8k_paper/test", "gsm8k_paper", "test"),
        ("mbpp/prompt", "mbpp", "prompt"),
        ("gsm8k/dev", "gsm8k", "dev"),
        ("mine/own.yaml", "mine/own.yaml", ""),
        ("mine/own.yaml/train", "mine/own.yaml", "train"),
        ("/data/own.yaml/validation", "/data/own.yaml", "validation"),
        ("lm-eval:folder/sums", "lm-eval:folder/sums", ""),
        ("lm-eval:folder/sums/test", "lm-eval:folder/sums", "test"),
        ("nothing/test", "nothing", "test"),
    ],
)
def test_a_tasks_name_and_split(spelled: str, name: str, split: str) -> None:
    assert split_name(spelled) == (name, split)


def test_ids_are_the_benchmarks_own(shared_data: Path) -> None:
    def first(name: str, split: str) -> str:
        return next(TASKS[name].load(split, shared_data)).id

    assert first("mbpp", "train") == "mbpp/601"
    assert first("mbpp", "test") == "mbpp/11"
    assert first("humaneval", "test") == "HumanEval/0"
    assert first("arc_challenge", "test") == "Mercury_7175875"
    assert first("math", "validation") == "math/validation/0"
    assert [p.id for p in islice(TASKS["gsm8k"].load("test", shared_data), 17, 18)] == ["gsm8k/test/17"]


def one(name: str, split: str, folder: Path) -> Problem:
    return next(TASKS[name].load(split, folder))


def judged(problem: Problem, answer: str, task: str | None = None) -> Verdict:
    return TASKS[task or problem.task].check(problem, answer)


@pytest.fixture
def gsm8k(tmp_path: Path) -> Problem:
    row = {"question": "How many?", "answer": "1,000 + 200 = <<1000+200=1200>>1200\n#### 1,200"}
    (tmp_path / "test.jsonl").write_text(json.dumps(row) + "\n")
    return one("gsm8k", "test", tmp_path)


@pytest.mark.parametrize(
    ("answer", "robust", "paper"),
    [
        ("#### 1200", Outcome.CORRECT, Outcome.CORRECT),
        ("#### 1,200", Outcome.CORRECT, Outcome.CORRECT),
        ("#### 1,200.00", Outcome.CORRECT, Outcome.WRONG),
        ("#### $1200", Outcome.CORRECT, Outcome.NO_ANSWER),
        ("The answer is 1200 dollars.", Outcome.CORRECT, Outcome.NO_ANSWER),
        ("\\boxed{1200}", Outcome.CORRECT, Outcome.NO_ANSWER),
        ("#### 12", Outcome.WRONG, Outcome.WRONG),
        ("1200 in the first month, then 5", Outcome.WRONG, Outcome.NO_ANSWER),
        ("I cannot say.", Outcome.NO_ANSWER, Outcome.NO_ANSWER),
        ("", Outcome.NO_ANSWER, Outcome.NO_ANSWER),
    ],
)
def test_gsm8k_by_both_rules(gsm8k: Problem, answer: str, robust: Outcome, paper: Outcome) -> None:
    assert judged(gsm8k, answer).outcome is robust
    assert judged(gsm8k, answer, "gsm8k_paper").outcome is paper


def test_gsm8k_facts_hold_the_number(gsm8k: Problem) -> None:
    assert gsm8k.facts["answer"] == "1200"
    assert gsm8k.gold.endswith("#### 1,200")


@pytest.fixture
def mbpp(tmp_path: Path, sandbox: str) -> Problem:
    row = {
        "text": "Write a function to add one.",
        "code": "def add_one(x):\r\n\treturn x + UNIT",
        "task_id": 601,
        "test_setup_code": "UNIT = 1",
        "test_list": ["assert add_one(1) == 2", "assert add_one(-1) == 0"],
        "challenge_test_list": [],
    }
    (tmp_path / "mbpp.jsonl").write_text(json.dumps(row) + "\n")
    return one("mbpp", "train", tmp_path)


def test_mbpp_gold_is_the_code_as_published(mbpp: Problem) -> None:
    assert mbpp.gold == "def add_one(x):\r\n\treturn x + UNIT"
    assert judged(mbpp, mbpp.gold).correct


@pytest.mark.parametrize(
    ("answer", "outcome", "words"),
    [
        ("```python\ndef add_one(x):\n    return x + 1\n```", Outcome.CORRECT, ""),
        ("Sure!\n\ndef add_one(x):\n    return x + 1\n\nThis adds one.", Outcome.CORRECT, ""),
        ("def add_one(x): return 2", Outcome.WRONG, "test 2 of 2: AssertionError"),
        ("def add_two(x): return 2", Outcome.WRONG, "NameError"),
        ("def add_one(x): return x.y", Outcome.WRONG, "AttributeError"),
        ("import sys\nsys.exit()", Outcome.WRONG, "left before its end"),
        ("```python\ndef add_one(x:\n```", Outcome.WRONG, "SyntaxError"),
        ("```python\ndef add_one(x):\n    return (x", Outcome.CUT_OFF, "never closed"),
        ("I would rather not.", Outcome.NO_ANSWER, "no Python code"),
    ],
)
def test_mbpp_findings(mbpp: Problem, answer: str, outcome: Outcome, words: str) -> None:
    verdict = judged(mbpp, answer)
    assert verdict.outcome is outcome, verdict
    assert words in verdict.reason


def test_mbpp_plus_runs_its_test_program(tmp_path: Path, sandbox: str) -> None:
    pytest.importorskip("numpy")
    row = {
        "task_id": 2,
        "code": "def half(x): return x / 2",
        "prompt": "Write a function to halve.",
        "test_imports": ["import math"],
        "test_list": ["assert half(2) == 1"],
        "test": "import numpy as np\nfor i, o in [([2], 1.0), ([3], 1.5)]:\n    assert np.allclose(half(*i), o)\n",
    }
    (tmp_path / "mbppplus.jsonl").write_text(json.dumps(row) + "\n")
    problem = one("mbpp_plus", "test", tmp_path)
    assert problem.id == "Mbpp/2"
    assert judged(problem, problem.gold).correct
    assert judged(problem, "def half(x): return x // 2").outcome is Outcome.WRONG


@pytest.fixture
def humaneval(tmp_path: Path, sandbox: str) -> Problem:
    row = {
        "task_id": "HumanEval/0",
        "prompt": "from typing import List\n\n\ndef helper(x):\n    return x\n\n\n"
        'def total(xs: List[int]) -> int:\n    """Sum."""\n',
        "entry_point": "total",
        "canonical_solution": "    return helper(sum(xs))\n",
        "test": "def check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n",
    }
    with gzip.open(tmp_path / "HumanEval.jsonl.gz", "wt") as lines:
        lines.write(json.dumps(row) + "\n")
    return one("humaneval", "test", tmp_path)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("def total(xs: List[int]) -> int:\n    return helper(sum(xs))", Outcome.CORRECT),
        ("    return sum(xs)\n", Outcome.CORRECT),
        ("```python\n    return sum(xs)\n```", Outcome.CORRECT),
        ("```python\ndef total(xs):\n    return sum(xs)\n```\nIt sums.", Outcome.CORRECT),
        ("    return 3\n", Outcome.WRONG),
        ("    pass", Outcome.WRONG),
    ],
)
def test_humaneval_takes_functions_and_bodies(humaneval: Problem, answer: str, outcome: Outcome) -> None:
    assert judged(humaneval, humaneval.gold).correct
    verdict = judged(humaneval, answer)
    assert verdict.outcome is outcome, verdict


def test_arc_strict_rule_wants_the_letter_first(shared_data: Path) -> None:
    problem = one("arc_challenge", "test", shared_data)
    assert judged(problem, "The answer is C.").correct
    assert judged(problem, "The answer is C.", "arc_challenge_letter").outcome is Outcome.NO_ANSWER
    assert judged(problem, "C", "arc_challenge_letter").correct
    assert judged(problem, "Planetary days will become shorter.").correct
    assert judged(problem, "D").outcome is Outcome.WRONG


def bird_folder(folder: Path) -> Path:
    """A database folder in the published layout, with two questions."""
    database = folder / "dev_databases" / "shop" / "shop.sqlite"
    database.parent.mkdir(parents=True)
    connection = sqlite3.connect(database)
    connection.executescript(
        "CREATE TABLE sale (id INTEGER PRIMARY KEY, city TEXT, amount REAL);"
        "INSERT INTO sale (city, amount) VALUES ('Oslo', 2.5), ('Oslo', 4), ('Rome', 1);"
    )
    connection.close()
    questions = [
        {
            "question_id": 0,
            "db_id": "shop",
            "question": "Which cities have sales?",
            "evidence": "",
            "SQL": "SELECT DISTINCT city FROM sale",
        },
        {
            "question_id": 1,
            "db_id": "shop",
            "question": "How much was sold in Oslo?",
            "evidence": "sold refers to SUM(amount)",
            "SQL": "SELECT SUM(amount) FROM sale WHERE city = 'Oslo'",
        },
    ]
    (folder / "dev.json").write_text(json.dumps(questions))
    return folder


def test_bird_gold_prompt_and_ids(tmp_path: Path, sandbox: str) -> None:
    folder = bird_folder(tmp_path)
    assert check_gold(TASKS["bird"], folder).correct == {"validation": 2}
    problems = list(TASKS["bird"].load("validation", folder))
    assert [problem.id for problem in problems] == ["bird/validation/0", "bird/validation/1"]
    prompt = str(problems[1].prompt[-1]["content"])
    assert "CREATE TABLE sale" in prompt
    assert "Hint: sold refers to SUM(amount)" in prompt
    assert "Hint" not in str(problems[0].prompt[-1]["content"])


def test_bird_problems_are_the_same_after_the_data_moved(tmp_path: Path, sandbox: str) -> None:
    folder = bird_folder(tmp_path / "here")
    before = list(TASKS["bird"].problems("validation", folder))
    after = list(TASKS["bird"].problems("validation", folder.rename(tmp_path / "there")))
    assert problems_digest(before) == problems_digest(after)
    assert judged(after[0], after[0].gold).correct
    with contextlib.closing(sqlite3.connect(tmp_path / "there" / "dev_databases" / "shop" / "shop.sqlite")) as changed:
        changed.executescript("CREATE TABLE other (id INTEGER);")
    assert problems_digest(TASKS["bird"].problems("validation", tmp_path / "there")) != problems_digest(before)


@pytest.mark.parametrize(
    ("answer", "as_set", "as_multiset", "words"),
    [
        ("```sql\nSELECT city FROM sale GROUP BY city\n```", Outcome.CORRECT, Outcome.CORRECT, ""),
        ("SELECT city FROM sale", Outcome.CORRECT, Outcome.WRONG, "not as a multiset"),
        ("SELECT city FROM sale WHERE amount > 2", Outcome.WRONG, Outcome.WRONG, "another result"),
        ("SELECT town FROM sale", Outcome.WRONG, Outcome.WRONG, "no such column"),
        ("DROP TABLE sale; SELECT 1", Outcome.WRONG, Outcome.WRONG, "another result"),
        ("```sql\nSELECT city FROM sale WHERE", Outcome.CUT_OFF, Outcome.CUT_OFF, "never closed"),
        ("I do not know.", Outcome.NO_ANSWER, Outcome.NO_ANSWER, "no SQL"),
    ],
)
def test_bird_findings(
    tmp_path: Path, sandbox: str, answer: str, as_set: Outcome, as_multiset: Outcome, words: str
) -> None:
    problem = one("bird", "validation", bird_folder(tmp_path))
    verdict, strict = judged(problem, answer), judged(problem, answer, "bird_multiset")
    assert (verdict.outcome, strict.outcome) == (as_set, as_multiset), (verdict, strict)
    assert words in strict.reason


def test_bird_gold_that_fails_is_not_judged(tmp_path: Path, sandbox: str) -> None:
    folder = bird_folder(tmp_path)
    path = folder / "dev.json"
    path.write_text(path.read_text().replace("SELECT DISTINCT city", "SELECT DISTINCT town"))
    problem = one("bird", "validation", folder)
    assert judged(problem, "SELECT 1").outcome is Outcome.NOT_JUDGED


@pytest.mark.parametrize(
    ("name", "file", "content", "words"),
    [
        ("gsm8k", "test.jsonl", '{"question": "q"}\n', "expected text in 'answer', got nothing"),
        ("gsm8k", "test.jsonl", '{"question": "q", "answer": "no hashes"}\n', "expected an answer that ends in"),
        ("gsm8k", "test.jsonl", '{"question": \n', "broken JSON"),
        ("gsm8k", "test.jsonl", "[1]\n", "expected a JSON object, got a list"),
        ("gsm8k", "other.jsonl", "", "expected test.jsonl in this folder"),
        ("math", "test.jsonl", '{"problem": "p", "solution": "5"}\n', "boxed"),
        ("arc_challenge", "test.jsonl", '{"id": "x", "question": "q"}\n', "expected 'choices'"),
        ("bird", "dev.json", '[{"db_id": "../x"}]', "expected dev_databases"),
    ],
)
def test_malformed_rows_are_named(tmp_path: Path, name: str, file: str, content: str, words: str) -> None:
    (tmp_path / file).write_text(content)
    split = "validation" if name == "bird" else "test"
    with pytest.raises(InputError) as raised:
        list(TASKS[name].load(split, tmp_path))
    assert words in str(raised.value)
    assert str(tmp_path) in str(raised.value)


def test_unknown_split_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it has: train, test"):
        list(TASKS["gsm8k"].load("dev", tmp_path))


def test_names_are_the_tasks_own() -> None:
    assert all(task.name == name for name, task in TASKS.items())


def test_tasks_come_without_torch_and_data_sets() -> None:
    program = (
        "import sys, tokensieve.tasks, tokensieve.tasks.judging, tokensieve.tasks.custom\n"
        "print([name for name in ('torch', 'transformers', 'datasets', 'sympy', 'jinja2') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
