"""Candidates for anchors from every source, and the account of what is left out."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import ModelFactory

from tokensieve.anchors.candidates import EMPTY, NEARLY_SAME_TOKENS, SAME_TOKENS, SeenRows, find_candidates
from tokensieve.config import AnchorSettings, DriftSettings, ModelSettings
from tokensieve.drift.probe_rows import answer_rows, dialogue_rows
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel, load_model
from tokensieve.sampling import LocalSampler, Request
from tokensieve.tasks import get_task
from tokensieve.types import IntArray


@pytest.fixture(scope="module")
def pocket() -> LoadedModel:
    return load_model(ModelSettings(model="pocket"))


def test_text_is_cut_into_rows_that_are_all_response(tiny_model: ModelFactory, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(" ".join(str(number * 7919 % 1000) for number in range(60)))
    base = tiny_model()
    settings = AnchorSettings(source="text", data=str(path), candidates=3, max_new_tokens=16)
    found = find_candidates(base, settings, tmp_path)
    assert (found.drawn, found.dropped) == (3, {})
    whole = base.tokenizer(path.read_text(), add_special_tokens=False)["input_ids"]
    for place, row in enumerate(found.rows):
        assert len(row) == 17
        assert row.in_response_T.tolist() == [False] + [True] * 16
        assert row.ids_T[1:].tolist() == whole[16 * place : 16 * place + 16]


def test_text_that_repeats_itself_is_one_candidate(tiny_model: ModelFactory, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text("ab cd ef gh " * 40)
    settings = AnchorSettings(source="text", data=str(path), candidates=3, max_new_tokens=32)
    found = find_candidates(tiny_model(), settings, tmp_path)
    assert len(found.rows) == 1
    assert sum(found.dropped.values()) == 2
    assert set(found.dropped) <= {SAME_TOKENS, NEARLY_SAME_TOKENS}


def test_rows_that_repeat_or_have_no_response_are_left_out_and_counted(
    tiny_model: ModelFactory, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [("ab", "cd"), ("ab", "cd"), ("ef", "gh")]
    path.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in rows))
    found = find_candidates(tiny_model(), AnchorSettings(source="rows", data=str(path)), tmp_path)
    assert len(found.rows) + sum(found.dropped.values()) == found.drawn == 3
    assert set(found.dropped) <= {SAME_TOKENS, EMPTY, "duplicate"}
    assert len(found.rows) == 2


def _alike(ids_T: IntArray, places: int, rng: np.random.Generator) -> IntArray:
    """The row with some tokens far from each other replaced."""
    changed_T = ids_T.copy()
    changed_T[np.arange(places) * 8 + 5] = rng.integers(1000, 2000, places)
    return changed_T


@pytest.mark.parametrize(("places", "left_out"), [(1, True), (2, True), (4, False), (12, False)])
def test_a_row_of_nearly_the_same_tokens_is_left_out_whatever_lies_between(places: int, left_out: bool) -> None:
    rng = np.random.default_rng(0)
    seen, head_T = SeenRows(), np.arange(8, dtype=np.int32)  # what a chat template writes before every row
    rows = [np.concatenate([head_T, rng.integers(8, 1000, 100).astype(np.int32)]) for _ in range(200)]
    assert [seen.add(ids_T) for ids_T in rows] == [None] * len(rows)
    expected = NEARLY_SAME_TOKENS if left_out else None
    assert {seen.add(_alike(ids_T, places, rng)) for ids_T in rows} == {expected}
    assert {seen.add(ids_T) for ids_T in rows} == {SAME_TOKENS}


def test_short_rows_and_rows_of_one_token_again_and_again() -> None:
    seen = SeenRows()
    for ids, expected in (
        ([5], None),
        ([5, 6], None),
        ([5, 6], SAME_TOKENS),
        ([5, 6, 7, 8], None),
        ([9] * 40, None),
        ([9] * 50, NEARLY_SAME_TOKENS),
    ):
        assert seen.add(np.array(ids, dtype=np.int32)) == expected, ids


def test_of_several_answers_the_likeliest_whole_one_is_kept(tiny_model: ModelFactory, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": text, "completion": "x"}) + "\n" for text in ("ab", "cd", "ef")))
    base, settings = tiny_model(), DriftSettings(max_new_tokens=6, seed=3)
    found = list(answer_rows(str(path), base, settings, tmp_path / "out", n=5))
    assert [tuple(row.ids_T[row.in_response_T]) for row in found] == [
        _best(base, row.id, text, settings) for row, text in zip(found, ("ab", "cd", "ef"), strict=True)
    ]
    one = list(answer_rows(str(path), base, settings, tmp_path / "one"))
    assert len(one) == 3


def _best(base: LoadedModel, name: str, text: str, settings: DriftSettings) -> tuple[int, ...]:
    from tokensieve.config import SampleSettings

    request = Request(name, ({"role": "user", "content": text},), settings.max_new_tokens, n=5)
    drawn = LocalSampler(base).draw([request], SampleSettings(temperature=1.0, seed=settings.seed))
    return min(drawn, key=lambda sample: (not sample.finished, sample.nll)).ids


def test_answers_to_a_task_are_correct_ones(pocket: LoadedModel, tmp_path: Path) -> None:
    settings = AnchorSettings(source="answers", data="task:pocket_words", candidates=6, n=2, max_new_tokens=96)
    found = find_candidates(pocket, settings, tmp_path)
    assert found.drawn == 6
    assert len(found.rows) + sum(found.dropped.values()) == 6
    assert found.rows
    problems = {one.id: one for one in get_task("pocket_words").problems("train", None, 6)}
    for row in found.rows:
        answer = pocket.tokenizer.decode(row.ids_T[row.in_response_T].tolist(), skip_special_tokens=True)
        assert get_task("pocket_words").check(problems[row.id], answer).correct


def test_dialogues_are_counted_from_the_draw_and_are_not_those_of_drift(pocket: LoadedModel, tmp_path: Path) -> None:
    found = find_candidates(pocket, AnchorSettings(candidates=8, max_new_tokens=48), tmp_path)
    assert found.drawn == 8
    assert len(found.rows) + sum(found.dropped.values()) == 8
    measured = dialogue_rows(pocket, DriftSettings(dialogues=8, max_new_tokens=48), tmp_path / "drift")
    assert measured.manifest.counts.rows_in == 8
    ours = {row.ids_T.tobytes() for row in found.rows}
    assert not ours & {row.ids_T.tobytes() for row in measured}
    assert all(np.any(row.in_response_T) for row in found.rows)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (AnchorSettings(source="answers", data="task:pocket_words/test"), "a split to measure on"),
        (AnchorSettings(source="answers", data="task:piqa:nll"), "the model writes no answers to piqa:nll"),
    ],
)
def test_what_cannot_be_anchors_is_refused(
    tiny_model: ModelFactory, tmp_path: Path, settings: AnchorSettings, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        find_candidates(tiny_model(), settings, tmp_path)
