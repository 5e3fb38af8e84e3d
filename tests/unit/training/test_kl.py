"""KL on anchors: the value, its gradient, and which anchors a step uses."""

from collections import Counter

import numpy as np
import pytest
import torch

from tokensieve.config import KlSettings
from tokensieve.errors import InputError
from tokensieve.training.kl import AnchorSchedule, collate, kl_to_base, next_weight
from tokensieve.types import Anchor, Tokens

V = 50


def _top(log_p_MV: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    top = log_p_MV.topk(k, dim=-1)
    return top.indices, top.values


def _exact(base_MV: torch.Tensor, logits_MV: torch.Tensor) -> torch.Tensor:
    return (base_MV.exp() * (base_MV - logits_MV.log_softmax(-1))).sum(-1)


def test_with_all_entries_value_and_gradient_are_the_exact_kl() -> None:
    torch.manual_seed(0)
    base_MV = (3 * torch.randn(7, V)).log_softmax(-1)
    logits_MV = (3 * torch.randn(7, V)).requires_grad_()
    found_M = kl_to_base(logits_MV, *_top(base_MV, V))
    torch.testing.assert_close(found_M, _exact(base_MV, logits_MV), rtol=1e-5, atol=1e-6)
    (gradient_MV,) = torch.autograd.grad(found_M.sum(), logits_MV)
    torch.testing.assert_close(gradient_MV, logits_MV.detach().softmax(-1) - base_MV.exp(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [1, 4, 16])
def test_fewer_entries_never_exceed_the_exact_kl_and_more_come_closer(k: int) -> None:
    torch.manual_seed(1)
    base_MV = (3 * torch.randn(64, V)).log_softmax(-1)
    logits_MV = 3 * torch.randn(64, V)
    exact_M = _exact(base_MV, logits_MV)
    found_M, finer_M = (kl_to_base(logits_MV, *_top(base_MV, size)) for size in (k, 2 * k))
    assert bool((found_M <= exact_M + 1e-4).all())
    assert bool((found_M <= finer_M + 1e-4).all())
    assert bool((found_M >= -1e-5).all())


def test_the_base_itself_has_no_kl_and_no_gradient_even_where_it_is_certain() -> None:
    logits_MV = torch.zeros(2, V)
    logits_MV[0, 3] = 60.0  # all mass on one entry: nothing is left for the rest
    logits_MV.requires_grad_()
    found_M = kl_to_base(logits_MV, *_top(logits_MV.detach().log_softmax(-1), 5))
    (gradient_MV,) = torch.autograd.grad(found_M.sum(), logits_MV)
    assert bool(gradient_MV.isfinite().all())
    torch.testing.assert_close(found_M.detach(), torch.zeros(2), rtol=0, atol=1e-5)
    torch.testing.assert_close(gradient_MV, torch.zeros(2, V), rtol=0, atol=1e-5)


def _anchor(name: str, length: int, start: int) -> Anchor:
    in_response_T = np.arange(length) >= start
    ids_T = np.arange(length, dtype=np.int32)
    tokens = Tokens(name, ids_T, in_response_T, np.zeros(length, dtype=np.bool_))
    places = int(in_response_T[1:].sum())
    return Anchor(tokens, np.ones((places, 2), dtype=np.int32), np.full((places, 2), -1.0, dtype=np.float32))


def test_a_batch_points_at_the_outputs_before_the_response_tokens() -> None:
    batch = collate([_anchor("a", 5, 3), _anchor("b", 3, 0)], padding_id=9, device=torch.device("cpu"))
    assert batch.ids_BT.tolist() == [[0, 1, 2, 3, 4], [0, 1, 2, 9, 9]]
    assert batch.attention_BT.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]
    assert batch.rows_M.tolist() == [0, 0, 1, 1]
    assert batch.sources_M.tolist() == [2, 3, 0, 1]
    assert batch.top_ids_MK.shape == (4, 2)


def test_every_pass_uses_every_anchor_once_and_depends_on_the_step_alone() -> None:
    anchors = [_anchor(str(n), 4, 2) for n in range(5)] + [_anchor("empty", 4, 4)]
    schedule = AnchorSchedule(anchors, rows=3, seed=1)
    names = [anchor.tokens.id for step in range(10) for anchor in schedule.at(step)]
    assert Counter(names) == {str(n): 6 for n in range(5)}
    assert names[:5] != names[5:10]
    again = AnchorSchedule(anchors, rows=3, seed=1)
    assert [anchor.tokens.id for anchor in again.at(7)] == names[21:24]
    with pytest.raises(InputError, match="no response token"):
        AnchorSchedule(anchors[5:], rows=1, seed=0)


@pytest.mark.parametrize(
    ("weight", "drift", "settings", "expected"),
    [
        (5.0, 0.2, KlSettings(weight=5.0), 5.0),
        (5.0, 0.1, KlSettings(weight=5.0, budget=0.1), 5.0),
        (5.0, 0.2, KlSettings(weight=5.0, budget=0.1), 5.0 * np.exp(0.1)),
        (5.0, 0.0, KlSettings(weight=5.0, budget=0.1), 5.0 * np.exp(-0.1)),
        (79.9, 9.0, KlSettings(weight=5.0, budget=0.1), 80.0),
        (0.32, 0.0, KlSettings(weight=5.0, budget=0.1), 0.3125),
        (0.0, 9.0, KlSettings(weight=0.0, budget=0.1), 0.0),
    ],
)
def test_the_weight_follows_the_budget_within_its_range(
    weight: float, drift: float, settings: KlSettings, expected: float
) -> None:
    assert next_weight(weight, drift, settings) == pytest.approx(expected)
