"""Perplexity of plain text and of reference answers: every token scored once, with its context; what is refused."""

import gzip
import json
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
from tokensieve.sampling import ScriptedSampler
from tokensieve.tasks import TASKS, get_task, split_name

TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind. " * 3
PlainScores = Callable[[LoadedModel, list[int]], tuple[list[float], list[float], list[int]]]


@pytest.fixture(scope="module")
def loaded(tiny_model: Callable[..., LoadedModel]) -> LoadedModel:
    return tiny_model()


def expected_nll(loaded: LoadedModel, plain_scores: PlainScores, text: str, window: int, stride: int) -> list[float]:
    """The nll of each token, window after window, by the plain loop."""
    ids = [loaded.chat.begin_id, *loaded.tokenizer(text, add_special_tokens=False)["input_ids"]]
    found = plain_scores(loaded, ids[:window])[0]
    while len(found) < len(ids) - 1:
        count = min(stride, len(ids) - 1 - len(found))
        end = len(found) + 1 + count
        found += plain_scores(loaded, ids[end - window : end])[0][-count:]
    return found


@pytest.mark.parametrize(("window", "stride"), [(64, 32), (50, 49), (16, 1), (256, 128)])
def test_each_token_is_scored_once_in_its_window(
    loaded: LoadedModel, plain_scores: PlainScores, tmp_path: Path, window: int, stride: int
) -> None:
    text = TEXT[:120] if stride == 1 else TEXT
    (tmp_path / "a.txt").write_text(text)
    task = f"perplexity:{tmp_path / 'a.txt'},window={window},stride={stride}"
    result = evaluate(loaded, EvaluateSettings(tasks=(task,)))
    expected = expected_nll(loaded, plain_scores, text, window, stride)
    (sample,) = result.rows
    assert len(sample.ids) == len(expected)
    assert sample.nll == pytest.approx(sum(expected) / len(expected), abs=1e-5)
    figures = result.figures[task]
    assert figures["nll"] == pytest.approx(sample.nll)
    assert figures["perplexity"] == pytest.approx(math.exp(sample.nll))
    assert figures["bits_per_byte"] == pytest.approx(sum(expected) / math.log(2) / len(text.encode()), rel=1e-5)
    assert (figures["tokens"], figures["bytes"]) == (len(expected), len(text.encode()))


def test_a_folder_s_texts_are_summed_and_kept_in_an_evaluation(loaded: LoadedModel, tmp_path: Path) -> None:
    data = tmp_path / "texts"
    (data / "more").mkdir(parents=True)
    (data / "b.txt").write_text("one text")
    (data / ".hidden").write_text("not read")
    (data / "more" / "empty.md").write_text("")
    (data / "more" / "rows.jsonl").write_text(json.dumps({"text": "zwei ä"}) + "\n" + json.dumps({"text": "three"}))
    with gzip.open(data / "packed.jsonl.gz", "wt") as lines:
        lines.write(json.dumps({"text": "four"}))
    task = f"perplexity:{data},window=64"
    made = evaluate(loaded, EvaluateSettings(tasks=(task,)), tmp_path / "out")
    again = open_evaluation(tmp_path / "out")
    ids = [sample.problem_id for sample in again.rows]
    names = ["b.txt", "more/empty.md", "more/rows.jsonl/0", "more/rows.jsonl/1", "packed.jsonl.gz/0"]
    assert ids == [f"perplexity:{name}" for name in names]
    (figures,) = again.figures.values()
    assert made.figures == again.figures
    assert figures["bytes"] == len("one textzwei äthreefour".encode())
    total = sum(sample.nll * len(sample.ids) for sample in again.rows if sample.ids)
    assert figures["nll"] == pytest.approx(total / figures["tokens"], rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (",window=x", "cannot read 'window=x'"),
        (",size=4", "cannot read 'size=4'"),
        (",window=8,window=9", "cannot read 'window=9'"),
        (",window=8,stride=8", "expected 1 to 7"),
        (",stride=0", "expected 1 to 1023"),
    ],
)
def test_windows_that_do_not_fit_are_refused(tmp_path: Path, options: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        get_task(f"perplexity:{tmp_path}{options}")


def test_other_files_and_missing_ones_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "image.png").write_bytes(b"x")
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe")
    (tmp_path / "rows.jsonl").write_text('{"body": "x"}')
    for name, message in (
        ("none.txt", "no such file or folder"),
        ("empty", "no files"),
        ("image.png", "expected .txt"),
        ("bad.txt", "no UTF-8"),
        ("rows.jsonl", "expected text in 'text'"),
    ):
        with pytest.raises(InputError, match=message):
            list(get_task(f"perplexity:{tmp_path / name}").problems("test"))


def test_what_a_model_or_sampler_cannot_do_is_refused(loaded: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    settings = EvaluateSettings(tasks=(f"perplexity:{tmp_path / 'a.txt'}",))
    with pytest.raises(InputError, match="windows of 1024 tokens, the model takes 256"):
        evaluate(loaded, settings)
    with pytest.raises(InputError, match="a model in this process"):
        evaluate(ScriptedSampler({}), settings)


TASK = "toy:response_nll"


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, "toy", toy_task("toy", 3))


@pytest.mark.usefixtures("toy")
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


@pytest.mark.usefixtures("toy")
def test_it_trains_and_judges_as_its_task() -> None:
    task = get_task(TASK)
    assert split_name(f"{TASK}/train") == (TASK, "train")
    assert [e.messages for e in gold_examples(TASK, "train")] == [e.messages for e in gold_examples("toy", "train")]
    assert task.checker is TASKS["toy"].checker


@pytest.mark.usefixtures("toy")
def test_what_has_no_reference_answer_to_score_is_refused() -> None:
    with pytest.raises(InputError, match="measured by likelihoods already"):
        get_task("arc_easy:nll:response_nll")
    with pytest.raises(InputError, match="a model in this process"):
        evaluate(says(str), EvaluateSettings(tasks=(TASK,)))
