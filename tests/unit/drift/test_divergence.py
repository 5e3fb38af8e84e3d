"""The divergence equals that of full logits, whatever the batches."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.conftest import ModelFactory

from tokensieve.drift import RowDivergence, measure_drift, row_divergences, summarise
from tokensieve.errors import InputError, Note
from tokensieve.models import LoadedModel
from tokensieve.types import Tokens


def _rows(lengths: list[tuple[int, int]]) -> list[Tokens]:
    """Rows by (length, first response token)."""
    rng = np.random.default_rng(0)
    rows = []
    for number, (length, start) in enumerate(lengths):
        in_response_T = np.arange(length) >= start
        ids_T = rng.integers(0, 300, length).astype(np.int32)
        rows.append(Tokens(str(number), ids_T, in_response_T, np.zeros(length, dtype=np.bool_)))
    return rows


def _plain(base: LoadedModel, tuned: LoadedModel, row: Tokens) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Forward KL from float64 full logits, one row."""
    with torch.inference_mode():
        ids_1T = torch.from_numpy(row.ids_T.astype(np.int64))[None]
        base_TV, tuned_TV = (
            one.model(input_ids=ids_1T).logits[0, :-1].double().log_softmax(-1) for one in (base, tuned)
        )
    kl_T = (base_TV.exp() * (base_TV - tuned_TV)).sum(-1).numpy()
    return np.asarray(kl_T[row.in_response_T[1:]])


ROWS = [(12, 4), (30, 29), (7, 0), (25, 3), (5, 5)]


@pytest.mark.parametrize("token_budget", [8, 64, None])
def test_kl_is_that_of_full_logits(tiny_model: ModelFactory, token_budget: int | None) -> None:
    base, tuned = tiny_model("LlamaConfig", seed=0), tiny_model("LlamaConfig", seed=1)
    rows = _rows(ROWS)
    found = row_divergences(rows, base, tuned, token_budget=token_budget)
    for row, one in zip(rows, found, strict=True):
        np.testing.assert_allclose(one.kl_N, _plain(base, tuned, row), rtol=1e-4, atol=1e-4)
        assert len(one.base_nll_N) == len(one.kl_N) == int(row.in_response_T[1:].sum())


def test_a_model_does_not_drift_from_itself(tiny_model: ModelFactory) -> None:
    base = tiny_model("LlamaConfig")
    for one in row_divergences(_rows(ROWS), base, base):
        assert np.all(one.kl_N >= 0)
        assert np.all(one.kl_N < 1e-5)
        np.testing.assert_array_equal(one.base_nll_N, one.tuned_nll_N)


def test_capped_logits_are_compared_as_the_model_makes_them(tiny_model: ModelFactory) -> None:
    sizes = {"final_logit_softcapping": 5.0, "head_dim": 8, "attn_logit_softcapping": None}
    base, tuned = (tiny_model("Gemma2Config", seed=seed, **sizes) for seed in (0, 1))
    rows = _rows(ROWS[:2])
    for row, one in zip(rows, row_divergences(rows, base, tuned), strict=True):
        np.testing.assert_allclose(one.kl_N, _plain(base, tuned, row), rtol=1e-4, atol=1e-4)


def test_other_vocabularies_and_tokenizers_are_refused(tiny_model: ModelFactory) -> None:
    base = tiny_model("LlamaConfig")
    with pytest.raises(InputError, match="320 vocabulary entries, the tuned model 352"):
        row_divergences(_rows(ROWS), base, tiny_model("LlamaConfig", vocab_size=352))
    other = replace(base, identity=base.identity.model_copy(update={"tokenizer_digest": "0" * 64}))
    with pytest.raises(InputError, match="different tokenizers"):
        row_divergences(_rows(ROWS), base, other)


def test_a_summary_is_a_mean_over_tokens_not_over_rows() -> None:
    def row(values: list[float], change: float) -> RowDivergence:
        kl_N = np.array(values, dtype=np.float32)
        base_N = np.full(len(values), 1.0, dtype=np.float32)
        return RowDivergence("r", "", kl_N, base_N, base_N + np.float32(change))

    rows = [row([1.0], 0.5), row([0.0, 0.0, 0.0], 0.0), row([], 0.0)]
    found = summarise("rows", rows)
    assert (found.rows, found.tokens) == (2, 4)
    assert found.kl.value == pytest.approx(0.25)
    assert found.nll_change.value == pytest.approx(0.125)
    assert found.base_perplexity == pytest.approx(np.e)
    assert found.kl.low == pytest.approx(0.0)
    assert found.kl.high == pytest.approx(1.0)
    nothing = summarise("rows", [row([], 0.0)])
    assert (nothing.rows, nothing.kl.value, nothing.tuned_perplexity) == (0, None, None)


@pytest.mark.parametrize("wish", ["rows", "prompts"])
def test_fields_that_are_not_read_are_named(tiny_model: ModelFactory, tmp_path: Path, wish: str) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"prompt": "ab cd", "completion": "ef gh", "passage": "ij"}\n')
    model, settings = tiny_model(), {"dialogues": 0, wish: str(data), "max_new_tokens": 4}
    with pytest.warns(Note, match=f"{data.name}: field 'passage' not read: 1"):
        found = measure_drift(model, model, settings)
    assert [probe.rows for probe in found.probes] == [1]


def test_a_result_of_another_pair_of_models_is_not_overwritten(tiny_model: ModelFactory, tmp_path: Path) -> None:
    data, place = tmp_path / "rows.jsonl", tmp_path / "out" / "drift.json"
    data.write_text('{"prompt": "ab cd", "completion": "ef gh"}\n')
    model, settings = tiny_model(), {"dialogues": 0, "rows": str(data)}
    found = measure_drift(model, model, settings, tmp_path / "out")
    assert measure_drift(model, model, settings, tmp_path / "out") == found
    for text in ('{"mine": 1}', found.model_copy(update={"tuned": "another"}).model_dump_json()):
        place.write_text(text)
        with pytest.raises(InputError, match="would be overwritten"):
            measure_drift(model, model, settings, tmp_path / "out")
        assert place.read_text() == text
