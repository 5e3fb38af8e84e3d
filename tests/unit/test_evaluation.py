"""Evaluation: verdicts, counts, pairing, resumption."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.toy_tasks import DyingSampler, says, toy_task

from tokensieve import metrics
from tokensieve.comparison import compare
from tokensieve.config import CutOff, EvaluateSettings, SampleSettings
from tokensieve.errors import InputError
from tokensieve.evaluation import EvalResult, evaluate, open_evaluation
from tokensieve.sampling import ScriptedSampler
from tokensieve.tasks import TASKS
from tokensieve.types import Outcome


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("toy", "other"):
        monkeypatch.setitem(TASKS, name, toy_task(name))


def test_every_answer_is_kept_with_its_verdict() -> None:
    answers = ["0", "7", "none", "3…", "4", "five"]
    result = evaluate(says(lambda n: answers[n]), EvaluateSettings(tasks=("toy",)))
    found = [(s.problem_id, s.verdict.outcome if s.verdict else None, s.text) for s in result.rows]
    assert [outcome for _, outcome, _ in found] == ["correct", "wrong", "no_answer", "correct", "correct", "no_answer"]
    assert [text for _, _, text in found] == ["0", "7", "none", "3", "4", "five"]
    (score,) = result.scores
    assert score.outcomes[Outcome.CORRECT] == 3
    assert (score.cut_off, score.cut_off_correct) == (1, 1)
    assert score.answers == 6
    assert score.accuracy == metrics.accuracy(3, 6)


@pytest.mark.parametrize(
    ("rule", "outcomes", "accuracy", "correct"),
    [
        ("judge", ["correct", "wrong", "no_answer", "correct", "wrong", "no_answer"], 1 / 3, 1),
        ("wrong", ["correct", *["cut_off"] * 5], 1 / 6, 0),
    ],
)
def test_cut_off_answers_are_judged_and_flagged_unless_the_strict_rule_is_asked_for(
    tmp_path: Path, rule: CutOff, outcomes: list[str], accuracy: float, correct: int
) -> None:
    answers = ["0", "7…", "none…", "3…", "9…", "five…"]
    settings = EvaluateSettings(tasks=("toy",), cut_off=rule)
    evaluate(says(lambda n: answers[n]), settings, tmp_path / "out")
    result = open_evaluation(tmp_path / "out")
    assert [s.verdict.outcome for s in result.rows if s.verdict] == outcomes
    (score,) = result
    assert result.accuracies() == {"toy": pytest.approx(accuracy)}
    assert (score.cut_off, score.cut_off_correct) == (5, correct)


def test_limit_and_split_reach_the_task() -> None:
    result = evaluate(says(str), EvaluateSettings(tasks=("toy",), split="train", limit=2))
    assert [sample.problem_id for sample in result.rows] == ["toy/train/0", "toy/train/1"]


def test_several_samples_a_problem_are_all_kept() -> None:
    sampler = ScriptedSampler(lambda request, index: request.id.rpartition("/")[2] if index == 0 else "x")
    result = evaluate(sampler, EvaluateSettings(tasks=("toy",), sampling=SampleSettings(n=2, temperature=1.0)))
    assert len(list(result.rows)) == 12
    assert result.accuracies() == {"toy": 0.5}


def test_a_folder_holds_the_same_as_memory(tmp_path: Path) -> None:
    settings = EvaluateSettings(tasks=("toy", "other"))
    in_memory = evaluate(says(lambda n: str(n % 4)), settings)
    written = evaluate(says(lambda n: str(n % 4)), settings, tmp_path / "out")
    opened = open_evaluation(tmp_path / "out")
    for result in (written, opened):
        assert [(s.text, s.verdict) for s in result.rows] == [(s.text, s.verdict) for s in in_memory.rows]
        assert result.scores == in_memory.scores


def test_a_killed_evaluation_goes_on_and_answers_nothing_twice(tmp_path: Path) -> None:
    settings = EvaluateSettings(tasks=("toy", "other"))
    with pytest.raises(KeyboardInterrupt):
        evaluate(DyingSampler(says(str), 8), settings, tmp_path / "out")
    second = DyingSampler(says(str))
    steps: list[tuple[int, int]] = []
    result = evaluate(second, settings, tmp_path / "out", lambda done, total: steps.append((done, total)))
    assert all(problem.startswith("other/") for problem, _ in second.answered)
    assert len(second.answered) == 6
    assert steps[0] == (6, 12)
    assert steps[-1] == (12, 12)
    assert result.accuracies() == {"toy": 1.0, "other": 1.0}


def test_no_task_and_unknown_tasks_are_refused() -> None:
    with pytest.raises(InputError, match="no tasks"):
        evaluate(says(str), EvaluateSettings())
    with pytest.raises(InputError, match="no task 'toi'"):
        evaluate(says(str), EvaluateSettings(tasks=("toi",)))


def pair(before: Callable[[int], str], after: Callable[[int], str], **changes: object) -> tuple[EvalResult, EvalResult]:
    settings = EvaluateSettings(tasks=("toy", "other"))
    return evaluate(says(before), settings), evaluate(says(after), settings.model_copy(update=changes))


def test_comparison_pairs_problems_and_counts_what_was_gained_and_lost() -> None:
    before, after = pair(lambda n: str(n if n < 4 else 9), lambda n: str(n if n >= 2 else 9))
    found = compare(before, after, "toy")
    target, other = found.changes
    assert (target.gained, target.lost) == (2, 2)
    assert (other.gained, other.lost) == (2, 2)
    assert found.forgetting is not None
    assert found.forgetting.ti.value == pytest.approx(0)
    assert found.forgetting.bwt.value == pytest.approx(0)
    flags = {"toy": np.arange(6) < 4, "other": np.arange(6) < 4}
    now = {"toy": np.arange(6) >= 2, "other": np.arange(6) >= 2}
    assert found.forgetting == metrics.forgetting(flags, [now], "toy")


def test_comparison_of_chosen_tasks_only() -> None:
    before, after = pair(str, lambda n: "9")
    assert compare(before, after, "toy", others=()).changes[1:] == ()


def test_other_problems_are_refused() -> None:
    before, after = pair(str, str, limit=3)
    with pytest.raises(InputError, match="not the same"):
        compare(before, after, "toy")
    with pytest.raises(InputError, match="not evaluated before"):
        compare(before, after, "absent")


class SaysNothing:
    """Something that is no sampler and no model."""


@pytest.mark.parametrize(
    "given", ["toy", ["toy"], ("toy",), {"tasks": ("toy",)}, EvaluateSettings(tasks=("toy",))], ids=type
)
def test_tasks_are_named_in_any_plain_form(given: str | list[str]) -> None:
    assert evaluate(says(str), given).accuracies() == {"toy": 1.0}


@pytest.mark.parametrize(
    ("model", "given", "words"),
    [
        (says(str), None, "no tasks"),
        (says(str), 7, "expected EvaluateSettings or a dict, got int"),
        (says(str), {"task": "toy"}, r"settings\.task"),
        (says(str), {"tasks": ["toy"], "limit": 0}, r"settings\.limit: expected"),
        (says(str), [7], r"settings\.tasks\.0"),
        (SaysNothing(), "toy", "SaysNothing"),
        (None, "toy", "None"),
    ],
)
def test_plain_mistakes_in_python_are_refused_in_words(model: object, given: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        evaluate(model, given)  # type: ignore[arg-type]


def test_a_name_of_a_model_and_of_a_task_are_enough() -> None:
    (score,) = evaluate("pocket", {"tasks": ["pocket_choice"], "limit": 2})
    assert (score.task, score.answers) == ("pocket_choice", 2)


def test_a_half_finished_folder_of_the_older_rule_is_refused_by_the_name_of_the_setting(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate(DyingSampler(says(str), 3), "toy", tmp_path / "out")
    draft = tmp_path / "out" / "draft.json"
    content = json.loads(draft.read_text())
    del content["settings"]["cut_off"]
    draft.write_text(json.dumps(content))
    with pytest.raises(InputError, match="other settings: cut_off unset there, judge here"):
        evaluate(says(str), "toy", tmp_path / "out")
