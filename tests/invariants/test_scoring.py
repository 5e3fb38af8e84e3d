"""What must not change a score: batch size, order, padding, packing, company, or where the work runs."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensieve.config import ScoreSettings
from tokensieve.data.dataset import in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.models import LoadedModel
from tokensieve.scoring import score
from tokensieve.types import FloatArray, Tokens, bools, ints

ModelFactory = Callable[..., LoadedModel]

CLASSES: dict[str, dict[str, object]] = {
    "LlamaConfig": {},
    "Gemma2Config": {"head_dim": 8, "final_logit_softcapping": 5.0, "sliding_window": 8},
    "Qwen3MoeConfig": {"head_dim": 8, "moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2},
}

rows_of_tokens = st.lists(
    st.tuples(st.lists(st.integers(0, 261), min_size=1, max_size=40), st.integers(0, 40)), min_size=1, max_size=12
)


def _tokens(drawn: list[tuple[list[int], int]]) -> list[Tokens]:
    return [
        Tokens(f"r{i}", ints(ids), bools([t >= start for t in range(len(ids))]), bools([False] * len(ids)))
        for i, (ids, start) in enumerate(drawn)
    ]


def _nll(rows: list[Tokens], loaded: LoadedModel, **changes: object) -> dict[str, FloatArray]:
    options = ScoreSettings(use_store=False, entropy=False, rank=False).model_copy(update=changes)
    scored = score(in_memory(rows, Manifest(stage="tokens")), loaded, options)
    return {row.tokens.id: row.nll_T() for row in scored}


@pytest.fixture(scope="module", params=CLASSES)
def loaded(request: pytest.FixtureRequest, tiny_model: ModelFactory) -> LoadedModel:
    return tiny_model(request.param, **CLASSES[request.param])


@settings(max_examples=25, deadline=None)
@given(
    drawn=rows_of_tokens,
    budget=st.sampled_from([1, 16, 64, 4096]),
    shard_rows=st.integers(1, 12),
    order=st.randoms(use_true_random=False),
)
def test_a_score_depends_on_its_row_alone(
    loaded: LoadedModel, drawn: list[tuple[list[int], int]], budget: int, shard_rows: int, order: object
) -> None:
    """Alone, one row at a time; and in any company, order, batch and shard: the same to 1e-5 nats."""
    rows = _tokens(drawn)
    alone = _nll(rows, loaded, token_budget=1)
    shuffled = list(rows)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    together = _nll(shuffled, loaded, token_budget=budget, shard_rows=shard_rows)
    for row in rows:
        np.testing.assert_allclose(together[row.id], alone[row.id], atol=1e-5, rtol=0)


@settings(max_examples=25, deadline=None)
@given(drawn=rows_of_tokens, threshold=st.floats(0.1, 6.0))
def test_a_selection_changes_only_within_rounding_of_the_threshold(
    loaded: LoadedModel, drawn: list[tuple[list[int], int]], threshold: float
) -> None:
    rows = _tokens(drawn)
    alone, together = _nll(rows, loaded, token_budget=1), _nll(rows, loaded, token_budget=4096)
    for row in rows:
        clear_T = np.abs(alone[row.id] - threshold) > 1e-5
        np.testing.assert_array_equal((alone[row.id] <= threshold)[clear_T], (together[row.id] <= threshold)[clear_T])


@settings(max_examples=25, deadline=None)
@given(ids=st.lists(st.integers(0, 261), min_size=2, max_size=40), data=st.data())
def test_what_comes_later_does_not_change_a_score(loaded: LoadedModel, ids: list[int], data: st.DataObject) -> None:
    cut = data.draw(st.integers(2, len(ids)))
    whole = _nll(_tokens([(ids, 0)]), loaded)["r0"]
    part = _nll(_tokens([(ids[:cut], 0)]), loaded)["r0"]
    np.testing.assert_allclose(part, whole[:cut], atol=1e-5, rtol=0)


@settings(max_examples=25, deadline=None)
@given(ids=st.lists(st.integers(0, 261), min_size=2, max_size=40), wanted=st.sets(st.integers(0, 39)))
def test_the_places_asked_for_do_not_change_each_other(loaded: LoadedModel, ids: list[int], wanted: set[int]) -> None:
    none = bools([False] * len(ids))
    everything = Tokens("r", ints(ids), bools([True] * len(ids)), none)
    some = Tokens("r", ints(ids), bools([t in wanted for t in range(len(ids))]), none)
    all_T, some_T = _nll([everything], loaded)["r"], _nll([some], loaded)["r"]
    asked_T = np.isin(np.arange(len(ids)), sorted(wanted)) & (np.arange(len(ids)) > 0)
    np.testing.assert_array_equal(~np.isnan(some_T), asked_T)
    np.testing.assert_allclose(some_T[asked_T], all_T[asked_T], atol=1e-5, rtol=0)
