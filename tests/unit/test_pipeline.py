"""Load, select, mix: rows are counted, tokens are made once, and a mix is as large as asked."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

import datasets
import numpy as np
import pytest
from numpy.typing import NDArray

from tokensieve.config import DataSettings, DialogueSettings, GenerateSettings, ScoreSettings, SelectSettings
from tokensieve.data.dataset import Rows, in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.errors import InputError
from tokensieve.generation import generate
from tokensieve.models import LoadedModel, load_model, settings_of
from tokensieve.pipeline import first, load, open_scored, open_selected, select
from tokensieve.sampling import ScriptedSampler
from tokensieve.scoring import score
from tokensieve.types import Example, Scored

NO_STORE = ScoreSettings(use_store=False)


@pytest.fixture(scope="module")
def model(tiny_model: Callable[..., LoadedModel]) -> LoadedModel:
    return tiny_model()


def write_rows(path: Path, count: int, word: str = "yes") -> Path:
    rows = [{"prompt": f"Is it {i}?", "completion": f"{word} {i}"} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def scored(model: LoadedModel, tmp_path_factory: pytest.TempPathFactory) -> Rows[Scored]:
    return score(load(write_rows(tmp_path_factory.mktemp("data") / "a.jsonl", 30), model), model, NO_STORE)


def test_tokens_of_an_earlier_stage_are_taken_as_they_are(model: LoadedModel, tmp_path: Path) -> None:
    rows = load(write_rows(tmp_path / "a.jsonl", 5), model, out=tmp_path / "tokens")
    again = list(load(tmp_path / "tokens", model))
    assert [t.ids_T.tolist() for t in again] == [t.ids_T.tolist() for t in rows]
    assert len(load(tmp_path / "tokens", model, DataSettings(limit=2))) == 2
    assert len(list(load(tmp_path / "tokens", model, DataSettings(limit=2)))) == 2


def test_a_policy_of_classes_reads_the_texts_by_the_rows_own_tokenizer(
    model: LoadedModel, scored: Rows[Scored], tiny_folder: Path
) -> None:
    chosen = select(scored, "class:number", tokenizer=model.tokenizer)
    texts = {
        model.tokenizer.decode([token]).strip()
        for row in chosen
        for token in row.tokens.ids_T[row.train_T & ~row.tokens.ends_turn_T].tolist()
    }
    assert texts
    assert all(text.isdigit() for text in texts)
    pocket = score(load("task:pocket_arithmetic/train", "pocket", DataSettings(limit=2)), "pocket", NO_STORE)
    numbers, others = (list(select(pocket, policy)) for policy in ("class:number", "class:not:number"))
    for row, other in zip(numbers, others, strict=True):
        assert (row.train_T & other.train_T).tolist() == row.tokens.ends_turn_T.tolist()
        assert (row.train_T | other.train_T).tolist() == row.tokens.in_response_T.tolist()
    with pytest.raises(InputError, match="is not the one that made the rows"):
        select(pocket, "stm:2 & class:word", tokenizer=model.tokenizer)
    with pytest.raises(InputError, match="not known whose tokens"):
        select(in_memory(list(scored), Manifest(stage="scored")), "class:word")


def test_a_finished_folder_is_taken_as_it_is_and_rows_dropped_on_the_way_stay_counted(
    model: LoadedModel, tmp_path: Path
) -> None:
    path = write_rows(tmp_path / "a.jsonl", 5)
    path.write_text(path.read_text() + json.dumps({"prompt": "empty?", "completion": ""}) + "\n")
    tokens = load(path, model, out=tmp_path / "tokens")
    written = (tmp_path / "tokens" / "manifest.json").stat().st_mtime_ns
    assert load(path, model, out=tmp_path / "tokens").manifest == tokens.manifest
    assert (tmp_path / "tokens" / "manifest.json").stat().st_mtime_ns == written
    counts = score(tokens, model, NO_STORE, out=tmp_path / "scored").manifest.counts
    assert (counts.rows_in, counts.rows_out, counts.dropped) == (6, 5, {"empty response": 1})


def test_a_limit_is_kept_and_an_unknown_task_is_refused(model: LoadedModel, tmp_path: Path) -> None:
    rows = load(write_rows(tmp_path / "a.jsonl", 5), model, DataSettings(limit=3))
    assert (rows.manifest.counts.rows_in, len(rows)) == (3, 3)
    with pytest.raises(InputError, match="did you mean 'gsm8k'"):
        load("task:gms8k/train", model)


def test_a_folder_of_another_functions_selection_is_not_taken_for_this_ones(
    scored: Rows[Scored], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    file, beside = tmp_path / "mine.py", tmp_path / "limits_of_selection.py"
    beside.write_text("LIMIT = 2\n")
    file.write_text(
        "import limits_of_selection\n\ndef flags(row):\n    return row.nll_T() < limits_of_selection.LIMIT\n"
    )
    select(scored, f"{file}:flags", tmp_path / "by_file")
    select(scored, f"{file}:flags", tmp_path / "by_file")
    beside.write_text("LIMIT = 3\n")
    with pytest.raises(InputError, match="other inputs: policy"):
        select(scored, f"{file}:flags", tmp_path / "by_file")

    def limited(nats: float) -> Callable[[Scored], NDArray[np.generic]]:
        if nats > 2:
            return lambda row: row.nll_T() < 3
        return lambda row: row.nll_T() < 2

    select(scored, limited(2), tmp_path / "by_object")
    select(scored, limited(2), tmp_path / "by_object")
    with pytest.raises(InputError, match="other inputs: policy"):
        select(scored, limited(3), tmp_path / "by_object")


def test_select_counts_what_it_leaves_out(scored: Rows[Scored], tmp_path: Path) -> None:
    chosen = select(scored, "stm:2.5", tmp_path / "chosen")
    facts = chosen.manifest.facts
    rows = list(open_selected(tmp_path / "chosen"))
    trained = sum(int(row.train_T.sum()) for row in rows)
    response = sum(int(row.tokens.in_response_T.sum()) for row in rows)
    assert (facts["trained_tokens"], facts["response_tokens"]) == (trained, response)
    assert facts["left_out_pooled"] == pytest.approx(1 - trained / response)
    assert facts["threshold_nats"] == pytest.approx(np.log(2.5))
    assert 0 < trained < response


@pytest.mark.parametrize(
    ("identity", "error_nats"),
    [
        ({"dtype": "float32", "head_dtype": "float32"}, 1e-5),
        ({"dtype": "bfloat16", "head_dtype": "float32"}, 0.1),
        ({"dtype": "float32", "head_dtype": "tf32"}, 2e-3),
        ({"dtype": "auto", "backend": "vllm"}, 0.3),
    ],
)
def test_tokens_whose_side_rounding_decides_are_counted(
    scored: Rows[Scored], identity: dict[str, str], error_nats: float
) -> None:
    manifest = scored.manifest
    facts = {**manifest.facts, "scorers": {"base": {"backend": "transformers", **identity}}}
    rows = Rows(manifest.model_copy(update={"facts": facts}), scored.iterate)
    nll = np.sort(np.concatenate([row.nll_T()[row.tokens.in_response_T] for row in scored]))
    threshold = float(nll[len(nll) // 2])
    found = select(rows, f"stm:{math.exp(threshold)}").manifest.facts
    limit = found["threshold_nats"]
    assert isinstance(limit, float)
    assert found["nll_error_nats"] == error_nats
    assert found["near_threshold_tokens"] == int((np.abs(nll - limit) <= error_nats).sum()) >= 1


def test_a_row_without_a_trained_token_is_dropped_by_name(scored: Rows[Scored]) -> None:
    chosen = select(scored, SelectSettings(policy="stm:1", paper_exact=True))
    counts = chosen.manifest.counts
    assert counts.rows_in == 30
    assert counts.rows_out == len(list(chosen)) < 30
    assert counts.dropped == {"no token left to train": 30 - counts.rows_out}
    assert len(counts.dropped_ids["no token left to train"]) == 30 - counts.rows_out


def test_a_cap_lowers_the_share_of_the_kept_nll_that_protected_tokens_hold(scored: Rows[Scored]) -> None:
    whole, capped = (
        select(scored, SelectSettings(policy="plain", protect_cap=cap)).manifest.facts for cap in (None, 1e-3)
    )
    assert capped["protected_tokens"] == whole["protected_tokens"]
    assert isinstance(capped["protected_share_of_kept_nll"], float)
    assert isinstance(whole["protected_share_of_kept_nll"], float)
    assert capped["protected_share_of_kept_nll"] < whole["protected_share_of_kept_nll"]


def test_a_mix_makes_up_its_share_and_is_trained_whole(
    scored: Rows[Scored], model: LoadedModel, tmp_path: Path
) -> None:
    score(load(write_rows(tmp_path / "b.jsonl", 40, "no"), model), model, NO_STORE, out=tmp_path / "more")
    chosen = list(select(scored, "stm:2.5", mix=f"{tmp_path / 'more'}:0.25"))
    assert len(chosen) == 40
    for row in chosen[30:]:
        assert (row.train_T == row.tokens.in_response_T).all()
    with pytest.raises(InputError, match="takes 70 rows, the folder has 40"):
        select(scored, "plain", mix=f"{tmp_path / 'more'}:0.7")
    with pytest.raises(InputError, match="FOLDER:SHARE"):
        select(scored, "plain", mix="more")


def test_dialogues_are_mixed_in_as_generate_has_left_them(
    tiny_folder: Path, model: LoadedModel, tmp_path: Path
) -> None:
    loaded = load_model(str(tiny_folder))
    rows = score(load(write_rows(tmp_path / "a.jsonl", 9), loaded), loaded, NO_STORE)
    rules = GenerateSettings(arm="self-dialogue", dialogue=DialogueSettings(count=6))
    speaks = ScriptedSampler(lambda request, _: f"{request.id} said", loaded.tokenizer, end=2)
    generate("", loaded, rules, tmp_path / "dialogues", sampler=speaks)
    select(rows, "plain", tmp_path / "chosen", mix=f"{tmp_path / 'dialogues'}:0.25")
    chosen = list(open_selected(tmp_path / "chosen"))
    assert len(chosen) == 12
    assert chosen[0].scored.scores["base"].entropy_T is not None
    assert not np.isnan(chosen[0].scored.nll_T()[chosen[0].tokens.in_response_T]).any()
    assert np.isnan(chosen[-1].scored.nll_T()).all()
    mixed = {row.tokens.id: row for row in chosen[9:]}
    for name, row in mixed.items():
        text = loaded.tokenizer.decode(row.tokens.ids_T[row.train_T])
        assert text == f"{name}/assistant/0 said<|end|>"
    with pytest.raises(InputError, match="holds no training data"):
        select(rows, "plain", mix=f"{tmp_path / 'dialogues' / 'samples'}:0.25")
    other = rows.manifest.model
    assert other is not None
    manifest = rows.manifest.model_copy(update={"model": other.model_copy(update={"tokenizer_digest": "another"})})
    with pytest.raises(InputError, match="another tokenizer"):
        select(Rows(manifest, lambda: iter(rows)), "plain", mix=f"{tmp_path / 'dialogues'}:0.25")


def test_the_first_rows_have_an_identity_of_their_own(scored: Rows[Scored]) -> None:
    few = first(scored, 4)
    assert (len(few), len(list(few)), len(list(few))) == (4, 4, 4)
    assert few.manifest.digest != scored.manifest.digest
    assert first(scored, None) is scored


def test_another_stages_folder_is_refused_with_the_command_that_makes_the_right_one(
    scored: Rows[Scored], tmp_path: Path
) -> None:
    select(scored, "plain", tmp_path / "chosen")
    with pytest.raises(InputError, match=r"got one of selected rows\n.*tokensieve score"):
        open_scored(tmp_path / "chosen")


def test_the_share_of_white_space_in_the_high_perplexity_is_told_and_normalising_takes_it_away(
    model: LoadedModel, tmp_path: Path
) -> None:
    path = tmp_path / "crlf.jsonl"
    row = {"prompt": "hello", "completion": "a\r\nb\r\n\tc"}
    path.write_text(json.dumps(row) + "\n")
    found = []
    for settings in (DataSettings(), DataSettings(normalise=("line_ends", "tabs"))):
        rows = load(path, model, settings)
        facts = select(score(rows, model, NO_STORE), "stm:1.000001").manifest.facts
        found.append(facts["high_perplexity_white_space"])
        assert facts["noted"] == rows.manifest.facts["noted"]
        assert ("response normalised" in cast(dict[str, int], facts["noted"])) == bool(settings.normalise)
    assert found[0] == {"line_ends": 2, "trailing_blanks": 0, "tabs": 1}
    assert found[1] == {"line_ends": 0, "trailing_blanks": 0, "tabs": 0}


@pytest.mark.parametrize("policy", ["plain", "stm:2.5", "soft:2.5"])
def test_a_turns_loss_weight_reaches_the_selection_and_its_folder(
    model: LoadedModel, tmp_path: Path, policy: str
) -> None:
    turns: list[dict[str, object]] = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "world"}]
    half, none = ([turns[0], {**turns[1], "weight": weight}] for weight in (0.5, 0))
    rows = [{"messages": [*turns, *half]}, {"messages": turns}, {"messages": [*none, *turns]}]
    scored = score(load(rows, model, out=tmp_path / "tokens"), model, NO_STORE, out=tmp_path / "scored")
    select(scored, policy, tmp_path / "chosen")
    chosen = list(open_selected(tmp_path / "chosen"))
    unweighted = next(iter(select(score(load([{"messages": turns * 2}], model), model, NO_STORE), policy)))
    places = np.flatnonzero(unweighted.tokens.in_response_T)
    first_turn, second_turn = places[: len(places) // 2], places[len(places) // 2 :]
    full_T = unweighted.train_T.astype(np.float32) if unweighted.weight_T is None else unweighted.weight_T
    weights = [row.weight_T for row in chosen]
    assert all(weight_T is not None for weight_T in weights)  # trainers take weights of all rows or of none
    assert weights[0] is not None
    assert weights[2] is not None
    np.testing.assert_allclose(weights[0][first_turn], full_T[first_turn])
    np.testing.assert_allclose(weights[0][second_turn], full_T[second_turn] / 2)
    assert chosen[2].tokens.in_response_T[first_turn].sum() == 0
    np.testing.assert_allclose(weights[2][second_turn], full_T[second_turn])


def test_rows_in_memory_become_the_tokens_of_the_same_rows_in_a_file(model: LoadedModel, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", 3)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    expected = [row.ids_T.tolist() for row in load(path, model)]
    for data in (
        rows,
        datasets.Dataset.from_list(rows),
        datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}),
    ):
        assert [row.ids_T.tolist() for row in load(data, model)] == expected
    made = load(rows, model, {"limit": 2}, str(tmp_path / "tokens"))
    assert len(made) == 2
    again = load(datasets.Dataset.from_list(rows), model, {"limit": 2}, tmp_path / "tokens")
    assert again.manifest == made.manifest  # equal rows are one input, whatever holds them
    with pytest.raises(InputError, match="other inputs"):
        load(rows[1:], model, {"limit": 2}, tmp_path / "tokens")


def test_score_takes_a_data_set_and_select_a_folder_and_settings_as_dicts(model: LoadedModel, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", 3)
    spelled = {"use_store": False}
    rows = score(load(path, model), model, NO_STORE, out=tmp_path / "scored")
    for data in (path, str(path), [json.loads(line) for line in path.read_text().splitlines()], tmp_path / "scored"):
        named = {**spelled, "scorer": "again"} if data == tmp_path / "scored" else spelled
        found = score(data, model, named)
        for row, same in zip(found, rows, strict=True):
            np.testing.assert_array_equal(row.scores["base"].nll_T, same.scores["base"].nll_T)
    assert settings_of(model) is model.settings
    by_settings = select(rows, SelectSettings(policy="plain", protect=()))
    by_dict = select(tmp_path / "scored", {"policy": "plain", "protect": []}, str(tmp_path / "selected"))
    assert [row.train_T.tolist() for row in by_dict] == [row.train_T.tolist() for row in by_settings]


@pytest.mark.parametrize(
    ("rows", "settings", "words"),
    [
        (None, "plain", "expected scored rows, got NoneType"),
        ([{"prompt": "a"}], "plain", "expected scored rows, got list"),
        ("tokens", "plain", "expected scored rows, got tokens rows"),
        ("scored", {"policies": "plain"}, "settings.policies"),
        ("scored", 2.5, "expected a policy, got float"),
        ("scored", None, "expected a policy, got NoneType"),
    ],
    ids=str,
)
def test_select_tells_plain_mistakes_in_words(
    scored: Rows[Scored], model: LoadedModel, rows: object, settings: object, words: str
) -> None:
    given = {"scored": scored, "tokens": load([{"prompt": "a", "completion": "b"}], model)}.get(str(rows), rows)
    with pytest.raises(InputError, match=re.escape(words)):
        select(given, settings)  # type: ignore[arg-type]


def test_unread_fields_are_in_the_manifest(model: LoadedModel) -> None:
    rows = [{"prompt": "hello", "completion": "world", "source": "web"}] * 2
    noted = cast(dict[str, int], load(rows, model).manifest.facts["noted"])
    assert noted["field 'source' not read"] == 2


@pytest.mark.parametrize(
    ("data", "settings", "words"),
    [
        (None, {}, "expected a data set, got NoneType"),
        ({"prompt": "a", "completion": "b"}, {}, "a list of dicts, one a row"),
        ([], {}, "holds no rows"),
        ([{"prompt": "a", "completion": "b"}], {"limt": 3}, "limt"),
        ([{"prompt": "a", "completion": "b"}], 3, "expected DataSettings or a dict, got int"),
        ("", {}, "the name is empty"),
        ("task:gsm8k/test", {"split": "validation"}, "names the split 'test', the settings 'validation'"),
        ("task:gsm8k/test", {"split": "train"}, "names the split 'test', the settings 'train'"),
    ],
)
def test_plain_mistakes_are_told_in_words(model: LoadedModel, data: object, settings: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        load(data, model, settings)  # type: ignore[arg-type]


def test_a_stage_that_kept_no_row_is_loaded_and_an_empty_data_set_is_refused() -> None:
    made = in_memory(cast("list[Example]", []), Manifest(stage="examples"))
    assert len(load(made, "pocket")) == 0
    with pytest.raises(InputError, match="holds no rows"):
        load([], "pocket")
