from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensieve.config import ScoreSettings
from tokensieve.data.dataset import in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.models import LoadedModel, from_memory
from tokensieve.scoring import lm_head, lm_head_tiles, score
from tokensieve.scoring.backbone import open_backbone
from tokensieve.scoring.backend import Measures
from tokensieve.scoring.hf import open_backend
from tokensieve.scoring.lm_head import TiledHead
from tokensieve.scoring.lm_head_tiles import OnlineSoftmax
from tokensieve.types import Tokens, bools, ints

ModelFactory = Callable[..., LoadedModel]
Plain = Callable[[LoadedModel, list[int]], tuple[list[float], list[float], list[int]]]


def _head_and_hidden(positions: int, vocabulary: int, width: int, size: float) -> tuple[TiledHead, torch.Tensor]:
    generator = torch.Generator().manual_seed(positions * 7919 + vocabulary)
    weight_VD = torch.randn(vocabulary, width, generator=generator) * size
    hidden_ND = torch.randn(positions, width, generator=generator)
    return TiledHead(weight_VD, None, 1.0, None, torch.float32), hidden_ND


def _plain(logits_NV: torch.Tensor, targets_N: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    log_p_NV = logits_NV.double().log_softmax(1)
    nll_N = -log_p_NV.gather(1, targets_N[:, None])[:, 0]
    entropy_N = -torch.where(log_p_NV == -torch.inf, 0.0, log_p_NV.exp() * log_p_NV).sum(1)
    return nll_N, entropy_N, (logits_NV > logits_NV.gather(1, targets_N[:, None])).sum(1)


@pytest.mark.parametrize("tile", [(2, 3), (40, 75)])
def test_vocabulary_entries_of_probability_zero_change_no_measure(
    monkeypatch: pytest.MonkeyPatch, tile: tuple[int, int]
) -> None:
    """Models give the padding of their vocabulary logits of -inf."""
    monkeypatch.setattr(lm_head, "_CPU_TILE", tile)
    head, hidden_ND = _head_and_hidden(5, 20, 8, 1.0)
    bias_V = torch.where(torch.arange(20) % 7 < 4, 0.0, -torch.inf)
    targets_N = torch.tensor([0, 1, 2, 3, 7])
    found = replace(head, bias_V=bias_V).measure(hidden_ND, targets_N, Measures(entropy=True, rank=True, top_k=15))
    nll_N, entropy_N, rank_N = _plain(hidden_ND @ head.weight_VD.T + bias_V, targets_N)
    assert found.entropy_N is not None
    assert found.rank_N is not None
    assert found.top_entropy_N is not None
    torch.testing.assert_close(found.nll_N, nll_N.float())
    torch.testing.assert_close(found.entropy_N, entropy_N.float())
    torch.testing.assert_close(found.rank_N, rank_N.float())
    torch.testing.assert_close(found.top_entropy_N, entropy_N.float())  # all that are possible are among the 15
    impossible = replace(head, bias_V=bias_V).measure(hidden_ND, torch.tensor([4, 5, 6, 11, 12]), Measures())
    assert impossible.nll_N.tolist() == [torch.inf] * 5


@settings(max_examples=40, deadline=None)
@given(
    positions=st.integers(1, 40),
    vocabulary=st.integers(1, 70),
    tile=st.tuples(st.integers(1, 45), st.integers(1, 75)),
    size=st.sampled_from([0.1, 1.0, 20.0]),
    scale=st.sampled_from([1.0, 0.3, 4.0]),
    softcap=st.sampled_from([None, 3.0, 30.0]),
    biased=st.booleans(),
    top_k=st.integers(2, 80),
)
def test_tiles_of_any_size_give_the_plain_result(
    positions: int,
    vocabulary: int,
    tile: tuple[int, int],
    size: float,
    scale: float,
    softcap: float | None,
    biased: bool,
    top_k: int,
) -> None:
    head, hidden_ND = _head_and_hidden(positions, vocabulary, 8, size)
    bias_V = torch.linspace(-2, 2, vocabulary) if biased else None
    head = replace(head, bias_V=bias_V, scale=scale, softcap=softcap)
    targets_N = torch.arange(positions) * 31 % vocabulary
    logits_NV = hidden_ND @ head.weight_VD.T
    logits_NV = (logits_NV + (0 if bias_V is None else bias_V)) * scale
    logits_NV = logits_NV if softcap is None else softcap * (logits_NV / softcap).tanh()
    nll_N, entropy_N, rank_N = _plain(logits_NV, targets_N)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lm_head, "_CPU_TILE", tile)
        found = head.measure(hidden_ND, targets_N, Measures(entropy=True, rank=True, top_k=top_k))
    assert found.entropy_N is not None
    assert found.rank_N is not None
    assert found.top_entropy_N is not None
    top_log_p_NK = logits_NV.double().topk(min(top_k, vocabulary)).values.log_softmax(1)
    top_entropy_N = -torch.where(top_log_p_NK == -torch.inf, 0.0, top_log_p_NK.exp() * top_log_p_NK).sum(1)
    torch.testing.assert_close(found.top_entropy_N.double(), top_entropy_N, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(found.nll_N.double(), nll_N, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.entropy_N.double(), entropy_N, atol=2e-5, rtol=1e-5)
    # Where a soft cap squeezes logits together, float rounding decides their order; elsewhere ranks are exact.
    gaps_N = (logits_NV - logits_NV.gather(1, targets_N[:, None])).abs()
    near_N = ((gaps_N < 1e-4 * (1 + logits_NV.abs())) & (gaps_N > 0)).any(1)
    torch.testing.assert_close(found.rank_N[~near_N].long(), rank_N[~near_N])


def test_a_token_never_outranks_itself() -> None:
    head, hidden_ND = _head_and_hidden(500, 900, 64, 1.0)
    best_N = head.logits(hidden_ND).argmax(1)
    found = head.measure(hidden_ND, best_N, Measures(rank=True))
    assert found.rank_N is not None
    assert found.rank_N.eq(0).all()


def test_logits_far_apart_neither_overflow_nor_vanish() -> None:
    weight_VD = torch.tensor([[0.0], [500.0], [-500.0], [500.0]])
    head = TiledHead(weight_VD, None, 1.0, None, torch.float32)
    found = head.measure(torch.ones(4, 1), torch.arange(4), Measures(entropy=True, rank=True))
    assert found.entropy_N is not None
    torch.testing.assert_close(found.nll_N, torch.tensor([500.0, 0.0, 1000.0, 0.0]) + np.log(2))
    torch.testing.assert_close(found.entropy_N, torch.full((4,), float(np.log(2))))


@pytest.mark.parametrize("tile", [(2, 3), (40, 75)])
def test_sums_that_write_into_nothing_are_those_that_reuse_memory(
    monkeypatch: pytest.MonkeyPatch, tile: tuple[int, int]
) -> None:
    """Whole tiles of impossible entries, a first target among them, and top-k entropies merged without looking."""
    monkeypatch.setattr(lm_head, "_CPU_TILE", tile)
    head, hidden_ND = _head_and_hidden(5, 20, 8, 1.0)
    bias_V = torch.where(torch.arange(20) < 7, -torch.inf, 0.0)
    head = replace(head, bias_V=bias_V)
    targets_N, measures = torch.tensor([2, 7, 8, 12, 19]), Measures(entropy=True, rank=True, top_k=4)
    expected = head.measure(hidden_ND, targets_N, measures)
    monkeypatch.setattr(lm_head_tiles, "_merge_changed", lm_head_tiles._merge_all)
    found = replace(head, step=lm_head_tiles.add_functional).measure(hidden_ND, targets_N, measures)
    assert expected.nll_N.isinf().tolist() == [True, False, False, False, False]
    for name in ("nll_N", "entropy_N", "rank_N", "top_entropy_N"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
    nll_N, entropy_N, _ = _plain(hidden_ND @ head.weight_VD.T + bias_V, targets_N)
    torch.testing.assert_close(found.nll_N, nll_N.float())
    torch.testing.assert_close(found.entropy_N, entropy_N.float())


def test_no_position_no_result() -> None:
    head, hidden_ND = _head_and_hidden(3, 9, 8, 1.0)
    found = head.measure(hidden_ND[:0], torch.zeros(0, dtype=torch.long), Measures(entropy=True, rank=True))
    assert found.nll_N.shape == (0,)


def test_memory_does_not_hold_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """128 k entries by 1 k positions would be half a GiB; a tile is 2 MiB."""
    import psutil

    head, hidden_ND = _head_and_hidden(1024, 128_000, 4, 1.0)
    process = psutil.Process()
    before = process.memory_info().rss
    peak = 0

    def watched(block: OnlineSoftmax, tile: int, logits_NV: torch.Tensor, work_NV: torch.Tensor) -> None:
        nonlocal peak
        peak = max(peak, process.memory_info().rss)
        add(block, tile, logits_NV, work_NV)

    add = OnlineSoftmax.add
    monkeypatch.setattr(OnlineSoftmax, "add", watched)
    head.measure(hidden_ND, torch.zeros(1024, dtype=torch.long), Measures(entropy=True, rank=True))
    assert peak - before < 120 * 2**20


def test_a_bfloat16_model_is_scored_with_a_float32_head(tiny_model: ModelFactory) -> None:
    loaded = tiny_model()
    loaded.model.to(torch.bfloat16)
    loaded = from_memory(loaded.model, loaded.tokenizer)
    exact = open_backend(loaded, ScoreSettings())
    own = open_backend(loaded, ScoreSettings(head_dtype="model"))
    assert (exact.identity.dtype, exact.identity.head_dtype) == ("bfloat16", "float32")
    assert own.identity.head_dtype == "bfloat16"
    hidden_ND = torch.randn(64, 32, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    head = exact.backbone.head
    assert isinstance(head, TiledHead)
    torch.testing.assert_close(head.logits(hidden_ND), hidden_ND.float() @ head.weight_VD.float().T)


@pytest.mark.parametrize(
    ("weights", "hidden", "precision"),
    [
        (torch.bfloat16, torch.bfloat16, "medium"),
        (torch.float16, torch.float16, "highest"),
        (torch.bfloat16, torch.float32, "highest"),
        (torch.float32, torch.float32, "highest"),
    ],
)
def test_fast_units_are_used_only_where_they_lose_nothing(
    weights: torch.dtype, hidden: torch.dtype, precision: str
) -> None:
    """Held against a float64 product: the same small error whatever units the machine has."""
    head, hidden_ND = _head_and_hidden(64, 2048, 384, 0.3)
    head = replace(head, weight_VD=head.weight_VD.to(weights))
    hidden_ND = hidden_ND.to(hidden)
    assert head._precision(hidden_ND) == precision
    targets_N = torch.arange(64) * 31
    logits_NV = hidden_ND.double() @ head.weight_VD.double().T
    expected_N = logits_NV.logsumexp(1) - logits_NV.gather(1, targets_N[:, None])[:, 0]
    found = head.measure(hidden_ND, targets_N, Measures(entropy=True, rank=True))
    assert expected_N.std() > 1
    torch.testing.assert_close(found.nll_N.double(), expected_N, atol=2e-5, rtol=0)


def test_tf32_is_said_only_where_there_is_tf32(tiny_model: ModelFactory) -> None:
    assert open_backbone(tiny_model(), ScoreSettings(head_dtype="tf32")).head_dtype == "float32"


def test_the_process_keeps_its_own_precision() -> None:
    with lm_head.matmul_precision("high"):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_head_with_an_adapter_is_left_to_the_model(tiny_model: ModelFactory, plain_scores: Plain) -> None:
    from peft import LoraConfig, get_peft_model

    loaded = tiny_model(seed=3)
    adapted = get_peft_model(loaded.model, LoraConfig(r=2, target_modules=["lm_head", "q_proj"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.5)
    loaded = from_memory(adapted, loaded.tokenizer)
    split = open_backbone(loaded, ScoreSettings())
    assert split.head_path == "own"
    assert "head" in split.notes[0]
    ids = [5, 9, 200, 31, 7, 7, 80]
    rows = [Tokens("r", ints(ids), bools([True] * 7), bools([False] * 7))]
    settings = ScoreSettings(entropy_top_k=5)
    scored = score(in_memory(rows, Manifest(stage="tokens")), loaded, settings)
    assert scored.manifest.facts["head_path"] == "own"
    scores = next(iter(scored)).scores["base"]
    nll, entropy, rank = plain_scores(loaded, ids)
    assert scores.entropy_T is not None
    assert scores.rank_T is not None
    np.testing.assert_allclose(scores.nll_T[1:], nll, atol=1e-5)
    np.testing.assert_allclose(scores.entropy_T[1:], entropy, atol=1e-5)
    np.testing.assert_array_equal(scores.rank_T[1:], rank)


def test_roundings_of_16_bit_layers_are_told_from_mistakes() -> None:
    """Compiled and eager bfloat16 layers of SmolLM2 are a fifth apart at single positions, 0.03 on average."""
    generator = torch.Generator().manual_seed(0)
    states_ND = torch.randn(40, 64, generator=generator)
    noisy_ND = states_ND + 0.02 * torch.randn(40, 64, generator=generator)
    noisy_ND[7] += 0.2 * torch.randn(64, generator=generator)
    assert lm_head.same_states(noisy_ND, states_ND, torch.bfloat16)
    assert not lm_head.same_states(noisy_ND, states_ND, torch.float32)
    wrong_ND = states_ND.clone()
    wrong_ND[20:] += 0.3 * torch.randn(20, 64, generator=generator)
    assert not lm_head.same_states(wrong_ND, states_ND, torch.bfloat16)
