"""The next token: greedy, nucleus, and the right frequencies."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensieve.sampling.draw import pick


def test_greedy_takes_the_likeliest_whatever_the_random_number() -> None:
    logits_BV = torch.tensor([[0.0, 3.0, 1.0], [2.0, 0.0, 0.0]])
    for uniform_B in (None, torch.tensor([0.99, 0.0])):
        token_B, nll_B = pick(logits_BV, uniform_B, 0.0, 0.5)
        assert token_B.tolist() == [1, 0]
        torch.testing.assert_close(nll_B, -logits_BV.log_softmax(-1).amax(-1))


@pytest.mark.parametrize("top_p", [1.0, 0.9, 0.3])
def test_tokens_come_as_often_as_their_probability_says(top_p: float) -> None:
    logits_V = torch.tensor([2.0, 1.5, 0.0, -1.0, 1.0])
    draws = 20_000
    uniform_B = (torch.arange(draws) + 0.5) / draws
    token_B, _ = pick(logits_V.expand(draws, -1), uniform_B, 0.7, top_p)
    probability = torch.softmax(logits_V / 0.7, -1).double()
    value, order = probability.sort(descending=True)
    kept = order[(value.cumsum(0) - value) < top_p]
    expected = torch.zeros(5, dtype=torch.double)
    expected[kept] = probability[kept] / probability[kept].sum()
    counts = torch.bincount(token_B, minlength=5).double() / draws
    torch.testing.assert_close(counts, expected, atol=2e-4, rtol=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.05, 0.5, 0.95]), st.sampled_from([0.3, 1.0, 2.0]))
def test_a_wide_vocabulary_gives_what_sorting_all_of_it_gives(seed: int, top_p: float, temperature: float) -> None:
    rng = np.random.default_rng(seed)
    logits_BV = torch.from_numpy(rng.normal(size=(4, 500)) * rng.uniform(0.1, 4, (4, 1))).float()
    uniform_B = torch.from_numpy(rng.random(4)).float()
    token_B, _ = pick(logits_BV, uniform_B, temperature, top_p)
    value_BV, order_BV = torch.softmax(logits_BV / temperature, -1).double().sort(-1, descending=True)
    for row in range(4):
        inside = (value_BV[row].cumsum(0) - value_BV[row]) < top_p
        cumulated = (value_BV[row] * inside).cumsum(0)
        place = int((cumulated <= uniform_B[row].double() * cumulated[-1]).sum())
        near = order_BV[row, max(0, place - 1) : place + 2].tolist()  # a neighbour only where rounding decides
        assert int(token_B[row]) in near


def test_the_largest_random_number_stays_in_the_vocabulary() -> None:
    logits_BV = torch.zeros(1, 7)
    almost_one = torch.tensor([np.nextafter(np.float32(1), np.float32(0))])
    for top_p in (1.0, 0.5):
        token_B, _ = pick(logits_BV, almost_one, 1.0, top_p)
        assert 0 <= int(token_B) < 7
