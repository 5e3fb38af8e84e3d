"""Problems from local copies, whichever of their folders is named."""

import json
from pathlib import Path

import pytest

from tokensieve.sampling.judged import load_problems
from tokensieve.tasks.lookup import get_task


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
