"""The choice of anchors by drift and at random."""

import math

import pytest

from tokensieve.errors import InputError
from tokensieve.training.anchor_choice import choose

DRIFTS = [0.1, 0.9, math.nan, 0.5, 0.9, 0.0, 0.3, 0.2]


def test_without_a_random_share_the_highest_drifts_are_taken() -> None:
    chosen = choose(DRIFTS, 3, 0.0, seed=0)
    assert [one.index for one in chosen] == [1, 3, 4]
    assert not any(one.at_random for one in chosen)


def test_a_random_share_comes_from_the_rest() -> None:
    seen = set()
    for seed in range(50):
        chosen = choose(DRIFTS, 4, 0.5, seed=seed)
        assert [one.index for one in chosen if not one.at_random] == [1, 4]
        drawn = [one.index for one in chosen if one.at_random]
        assert len(set(drawn)) == 2
        seen |= set(drawn)
    assert seen == {0, 3, 5, 6, 7}
    assert choose(DRIFTS, 4, 0.5, seed=3) == choose(DRIFTS, 4, 0.5, seed=3)


def test_no_more_than_there_are_and_never_one_without_a_drift() -> None:
    assert [one.index for one in choose(DRIFTS, 99, 0.3, seed=0)] == [0, 1, 3, 4, 5, 6, 7]
    assert all(one.at_random for one in choose(DRIFTS, 99, 1.0, seed=0))
    with pytest.raises(InputError, match="no candidate"):
        choose([math.nan], 1, 0.0, seed=0)
