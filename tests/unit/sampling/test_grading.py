"""Problems from local copies, whichever of their folders is named; answers that end at a task's own stop texts."""

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from tests.toy_tasks import toy_task

from tokensieve.config import CutOff
from tokensieve.sampling.grading import judge_samples, load_problems
from tokensieve.tasks import get_task
from tokensieve.types import Outcome, Problem, Sample, Verdict


@pytest.mark.parametrize("name", ["gsm8k", "gsm8k_paper"])
@pytest.mark.parametrize("inside", [False, True])
def test_a_local_copy_serves_every_rule_of_its_benchmark(tmp_path: Path, name: str, inside: bool) -> None:
    folder = tmp_path / "gsm8k"
    folder.mkdir()
    row = {"question": "1 + 1?", "answer": "1 + 1 = 2\n#### 2"}
    (folder / "test.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    (problem,) = load_problems(get_task(name), "test", folder if inside else tmp_path, None)
    assert (problem.id, problem.task) == ("gsm8k/test/0", name)


def test_a_task_of_one_s_own_keeps_its_rows_where_the_copies_have_none(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"q": "a", "a": "b"}\n', encoding="utf-8")
    path = tmp_path / "own.yaml"
    path.write_text(
        "name: own\nrows: {test: rows.jsonl}\nprompt: '{{ q }}'\ngold: '{{ a }}'\n"
        "check: {kind: exact, answer: '{{ a }}'}\n",
        encoding="utf-8",
    )
    copies = tmp_path / "copies"
    copies.mkdir()
    assert [problem.gold for problem in load_problems(get_task(str(path)), "test", copies, None)] == ["b"]


def test_an_answer_ends_at_the_stop_text_even_where_it_was_cut_off_later() -> None:
    def ended(problem: object, text: str) -> str | None:
        return text.partition("!")[0] if "!" in text else None

    task = replace(toy_task("toy"), ended=ended)
    problems = load_problems(task, "test", None, 1)
    drawn = [
        Sample(problems[0].id, "toy", index, text, finished=finished)
        for index, (text, finished) in enumerate([("0! 7", False), ("0 7", False), ("0! 7", True), ("0", True)])
    ]
    for rule, second in (("judge", Outcome.WRONG), ("wrong", Outcome.CUT_OFF)):
        judged = judge_samples(task, problems, drawn, cast("CutOff", rule))
        assert [sample.text for sample in judged] == ["0", "0 7", "0", "0"]
        assert [sample.finished for sample in judged] == [True, False, True, True]
        outcomes = [Outcome.CORRECT, second, Outcome.CORRECT, Outcome.CORRECT]
        assert [sample.verdict.outcome for sample in judged if sample.verdict] == outcomes


def test_a_text_that_ends_inside_its_answer_has_no_answer() -> None:
    def check(problem: Problem, answer: str) -> Verdict:
        return Verdict(Outcome.CUT_OFF, answer, "the code block is never closed")

    task = replace(toy_task("toy"), checker=check)
    problems = load_problems(task, "test", None, 1)
    (judged,) = judge_samples(task, problems, [Sample(problems[0].id, "toy", 0, "```", finished=False)])
    assert judged.verdict == Verdict(Outcome.NO_ANSWER, "```", "the code block is never closed")
