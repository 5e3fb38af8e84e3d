"""MBPP: short Python functions, judged by running their tests; and MBPP+, the same with many more tests."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from tokensieve.tasks.benchmark_io import Row, find_file, from_hub, read_rows, require_split, texts
from tokensieve.tasks.execution import called, judge_program
from tokensieve.tasks.task import Task
from tokensieve.types import JSON, Message, Problem, Verdict

_SPLITS = ("train", "validation", "test", "prompt")
_IDS = {"prompt": range(1, 11), "test": range(11, 511), "validation": range(511, 601), "train": range(601, 975)}
_INSTRUCTION = "Answer with the Python code only. It must pass these tests:"


def load(split: str, folder: Path | None) -> Iterator[Problem]:
    """The problems of a split, which are told apart by their ids: 601-974 train, 511-600 validation, 11-510 test."""
    require_split("mbpp", split, _SPLITS)
    if folder is None:
        rows = from_hub("google-research-datasets/mbpp", split, name="full")
    else:
        rows = read_rows(find_file(folder, "mbpp", "mbpp.jsonl"))
    for row in rows:
        if row.number("task_id") in _IDS[split]:
            yield _problem(row)


def load_plus(split: str, folder: Path | None) -> Iterator[Problem]:
    """MBPP+: one split, a test program a problem."""
    require_split("mbpp_plus", split, ("test",))
    if folder is None:
        rows = from_hub("evalplus/mbppplus", "test")
    else:
        rows = read_rows(find_file(folder, "mbpp_plus", "mbppplus.jsonl", "mbpp_plus.jsonl", "test.jsonl"))
    for row in rows:
        yield _plus_problem(row)


def check(problem: Problem, answer: str) -> Verdict:
    """Run the answer's code, then the set-up code, then each test, in the sandbox."""
    facts = problem.facts
    names = texts(facts["names"], "names", problem.id)
    tests = texts(facts["tests"], "tests", problem.id)
    # The set-up code defines what the tests use and may use what the answer defines: it belongs in between.
    before_tests = [str(facts["setup"])] if facts.get("setup") else []
    return judge_program(answer, names=names, before_tests=before_tests, tests=tests)


def _problem(row: Row) -> Problem:
    tests = row.texts("test_list")
    # The challenge tests are not shown in the prompt: they were meant to be hidden, and few problems have any.
    facts: dict[str, JSON] = {
        "tests": list(tests),
        "setup": row.text("test_setup_code"),
        "names": list(called(tests)),
    }
    prompt = _prompt(row.text("text"), tests)
    return Problem(f"mbpp/{row.number('task_id')}", "mbpp", prompt, row.text("code"), facts)


def _plus_problem(row: Row) -> Problem:
    shown = row.texts("test_list")
    facts: dict[str, JSON] = {
        "tests": [row.text("test")],
        "setup": "\n".join(row.texts("test_imports")),
        "names": list(called(shown)),
    }
    prompt = _prompt(row.text("prompt"), shown)
    return Problem(f"Mbpp/{row.number('task_id')}", "mbpp_plus", prompt, row.text("code"), facts)


def _prompt(task: str, tests: Sequence[str]) -> tuple[Message, ...]:
    lines = "\n".join(tests)
    return ({"role": "user", "content": f"{task}\n\n{_INSTRUCTION}\n{lines}"},)


MBPP_TASKS = {
    "mbpp": Task("mbpp", "MBPP: Python functions, run against their tests", _SPLITS, load, check),
    "mbpp_plus": Task("mbpp_plus", "MBPP+: Python functions, run against many tests", ("test",), load_plus, check),
}
