"""The nll of reference answers: that of training's tokens, token by token; what has none is refused."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tests.toy_tasks import says, toy_task

from tokensieve.config import EvaluateSettings
from tokensieve.errors import InputError
from tokensieve.evaluation import evaluate, open_evaluation
from tokensieve.models import LoadedModel
from tokensieve.pipeline.load import gold_examples
from tokensieve.tasks import TASKS, get_task, split_name

PlainScores = Callable[[LoadedModel, list[int]], tuple[list[float], list[float], list[int]]]
TASK = "toy:response_nll"


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "toy", toy_task("toy", 3))


def test_each_token_of_an_answer_has_its_nll(
    tiny_model: Callable[..., LoadedModel], plain_scores: PlainScores, tmp_path: Path
) -> None:
    loaded = tiny_model()
    made = evaluate(loaded, EvaluateSettings(tasks=(TASK,)), tmp_path / "out")
    opened = open_evaluation(tmp_path / "out")
    examples = list(gold_examples("toy", "test"))
    tokens = 0
    total = 0.0
    for sample, example in zip(opened.rows, examples, strict=True):
        row = loaded.chat.tokenise(example)
        expected = np.array([math.nan, *plain_scores(loaded, row.ids_T.tolist())[0]])[row.in_response_T]
        assert sample.ids == tuple(row.ids_T[row.in_response_T])
        assert sample.token_nll == pytest.approx(expected.tolist(), abs=1e-5)
        assert sample.nll == pytest.approx(expected.mean(), abs=1e-5)
        tokens, total = tokens + len(expected), total + expected.sum()
    figures = opened.figures[TASK]
    assert figures == made.figures[TASK]
    assert figures["nll"] == pytest.approx(total / tokens, abs=1e-5)
    assert figures["tokens"] == tokens


def test_it_trains_and_judges_as_its_task() -> None:
    task = get_task(TASK)
    assert split_name(f"{TASK}/train") == (TASK, "train")
    assert [e.messages for e in gold_examples(TASK, "train")] == [e.messages for e in gold_examples("toy", "train")]
    assert task.checker is TASKS["toy"].checker


def test_what_has_no_reference_answer_to_score_is_refused() -> None:
    with pytest.raises(InputError, match="measured by likelihoods already"):
        get_task("arc_easy:nll:response_nll")
    with pytest.raises(InputError, match="a model in this process"):
        evaluate(says(str), EvaluateSettings(tasks=(TASK,)))
