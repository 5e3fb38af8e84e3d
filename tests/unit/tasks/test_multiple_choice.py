"""Multiple choice by likelihood: what each benchmark's rows ask, which choice counts, what is refused."""

import json
from pathlib import Path

import pytest

from tokensieve.errors import InputError
from tokensieve.tasks import TASKS, Likelihood, get_task
from tokensieve.tasks.multiple_choice import BENCHMARKS, MULTIPLE_CHOICE_TASKS
from tokensieve.types import JSON, Outcome, Problem

LABELLED: dict[str, JSON] = {"text": ["ice", "steam"], "label": ["A", "B"]}
ROWS: dict[str, tuple[dict[str, JSON], list[tuple[str, str]], str]] = {
    "arc_easy": (
        {"id": "Mercury_1", "question": "What melts?", "choices": LABELLED, "answerKey": "A"},
        [("Question: What melts?\nAnswer:", " ice"), ("Question: What melts?\nAnswer:", " steam")],
        "ice",
    ),
    "arc_challenge": (
        {"id": "x", "question": "What?", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"},
        [("Question: What?\nAnswer:", " a"), ("Question: What?\nAnswer:", " b")],
        "b",
    ),
    "openbook_qa": (
        {"id": "7-9", "question_stem": "Fog is around", "choices": LABELLED, "answerKey": " B"},
        [("Fog is around", " ice"), ("Fog is around", " steam")],
        "steam",
    ),
    "piqa": (
        {"goal": "Cut bread", "sol1": "with a knife", "sol2": "with  a spoon", "label": 0},
        [("Question: Cut bread\nAnswer:", " with a knife"), ("Question: Cut bread\nAnswer:", " with  a spoon")],
        "with a knife",
    ),
    "hellaswag": (
        {
            "activity_label": "Roof shingle removal",
            "ctx_a": "A man sits [header] on a  roof.",
            "ctx_b": "he",
            "endings": ["is using [title] wrap.", " starts [step] pulling."],
            "label": "1",
        },
        [
            ("Roof shingle removal: A man sits on a roof. He", " is using. wrap."),
            ("Roof shingle removal: A man sits on a roof. He", " starts pulling."),
        ],
        "starts pulling.",
    ),
    "winogrande": (
        {"sentence": "Sam thanked Ann since _ had helped.", "option1": "Sam", "option2": "Ann", "answer": "2"},
        [("Sam thanked Ann since Sam", " had helped."), ("Sam thanked Ann since Ann", " had helped.")],
        "Ann",
    ),
    "mmlu": (
        {"question": " How many? ", "subject": "high_school_biology", "choices": ["1", "2", "3", "4"], "answer": 2},
        [
            (
                "The following are multiple choice questions (with answers) about high school biology.\n\n"
                "How many?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer:",
                f" {letter}",
            )
            for letter in "ABCD"
        ],
        "C",
    ),
}


def only(task: str, row: dict[str, JSON], folder: Path, file: str = "test.jsonl") -> Problem:
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps(row))
    (problem,) = TASKS[task].problems("test", folder)
    return problem


@pytest.mark.parametrize("measure", [":nll", ":nll_norm"])
@pytest.mark.parametrize("name", list(BENCHMARKS))
def test_rows_become_contexts_and_continuations(tmp_path: Path, name: str, measure: str) -> None:
    row, pairs, gold = ROWS[name]
    problem = only(name + measure, row, tmp_path)
    likelihood_choice = MULTIPLE_CHOICE_TASKS[name + measure].likelihood_choice
    assert likelihood_choice is not None
    assert [(one.context, one.text) for one in likelihood_choice.continuations(problem)] == pairs
    assert all(one.prompt == () for one in likelihood_choice.continuations(problem))
    assert problem.gold == gold
    assert problem.task == name + measure
    assert problem.id == row.get("id", f"{name}/test/0")
    assert TASKS[name + measure].check(problem, f"{gold}\n").correct
    assert TASKS[name + measure].check(problem, "else").outcome is Outcome.WRONG
    assert TASKS[name + measure].check(problem, " ").outcome is Outcome.NO_ANSWER


@pytest.mark.parametrize(
    ("nlls", "summed", "per_character"),
    [
        ((3.0, 4.0), "ice", "steam"),
        ((1.0, 4.0), "ice", "ice"),
        ((6.0, 4.0), "steam", "steam"),
        ((3.0, 3.0), "ice", "steam"),
    ],
)
def test_the_sum_or_the_mean_over_characters_decides(
    tmp_path: Path, nlls: tuple[float, float], summed: str, per_character: str
) -> None:
    for task, chosen in (("arc_easy:nll", summed), ("arc_easy:nll_norm", per_character)):
        problem = only(task, ROWS["arc_easy"][0], tmp_path)
        likelihood_choice = TASKS[task].likelihood_choice
        assert likelihood_choice is not None
        verdict = likelihood_choice.judge(problem, [Likelihood(nll, greedy=False) for nll in nlls])
        assert (verdict.extracted, verdict.correct) == (chosen, chosen == "ice")


@pytest.mark.parametrize(
    ("name", "query", "context"),
    [
        ("arc_easy", "Question: What melts?", "Question: What melts?\nAnswer:"),
        ("piqa", "Question: Cut bread\n", "Question: Cut bread\nAnswer:"),
        ("openbook_qa", "Fog is around", "Fog is around"),
        ("hellaswag", "Roofs: He", "Roofs: He"),
    ],
)
def test_rows_of_the_collection_are_read(tmp_path: Path, name: str, query: str, context: str) -> None:
    row: dict[str, JSON] = {"query": query, "choices": ["a", "b"], "gold": 1}
    problem = only(f"{name}:nll", row, tmp_path, f"multiple_choice/{name}.jsonl")
    likelihood_choice = TASKS[f"{name}:nll"].likelihood_choice
    assert likelihood_choice is not None
    assert [(one.context, one.text) for one in likelihood_choice.continuations(problem)] == [
        (context, " a"),
        (context, " b"),
    ]
    assert problem.gold == "b"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("arc_easy", {"answerKey": "E"}, "not among the choices A, B"),
        ("arc_easy", {"choices": ["ice"]}, "with 'text' and 'label'"),
        ("piqa", {"label": 2}, "the answer 2 is none of 2 choices"),
        ("piqa", {"label": -1}, "the answer -1 is none of 2 choices"),
        ("hellaswag", {"label": ""}, "a number as text in 'label'"),
        ("winogrande", {"sentence": "no gap"}, "expected a gap"),
        ("mmlu", {"choices": ["1", "2"]}, "expected 4 choices, got 2"),
        ("winogrande", {"query": "q"}, "expected the fields of allenai/winogrande"),
    ],
)
def test_malformed_rows_are_refused_with_their_place(
    tmp_path: Path, name: str, change: dict[str, JSON], message: str
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        only(f"{name}:nll", {**ROWS[name][0], **change}, tmp_path)
    assert "test.jsonl, line 1" in str(caught.value)


def test_splits_without_public_labels_are_not_there() -> None:
    assert TASKS["piqa:nll"].splits == ("train", "test")
    with pytest.raises(InputError, match="train, test"):
        next(TASKS["piqa:nll"].problems("validation"))


def test_a_name_without_its_measure_is_answered_with_the_names() -> None:
    with pytest.raises(InputError, match="did you mean 'piqa:nll"):
        get_task("piqa")


@pytest.mark.parametrize(("name", "rows"), [("arc_easy", 2376), ("piqa", 1838), ("openbook_qa", 500)])
def test_the_published_rows_are_read(shared_data: Path, name: str, rows: int) -> None:
    assert len(list(TASKS[f"{name}:nll"].problems("test", shared_data))) == rows


def test_arc_challenge_s_rows_are_those_of_the_task_with_free_answers(shared_data: Path) -> None:
    ours = list(TASKS["arc_challenge:nll"].problems("test", shared_data))
    theirs = list(TASKS["arc_challenge"].problems("test", shared_data))
    assert [problem.id for problem in ours] == [problem.id for problem in theirs]
