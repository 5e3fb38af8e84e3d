"""Prompts about the same thing fall into one cluster."""

import numpy as np

from tokensieve.anchors.clusters import cluster


def test_prompts_of_different_words_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    common = np.array([1, 2, 3], dtype=np.int32)
    kinds = [rng.choice(np.arange(100 * kind, 100 * kind + 12), size=(20, 8)).astype(np.int32) for kind in (1, 2, 3)]
    prompts = [np.concatenate([common, one]) for kind in kinds for one in kind]
    found = cluster(prompts, 3)
    assert sorted(index for one in found for index in one.members) == list(range(60))
    assert sorted(sorted(one.members) for one in found) == [list(range(n, n + 20)) for n in (0, 20, 40)]
    assert all(len(one.typical) == 3 and set(one.typical) <= set(one.members) for one in found)


def test_equal_prompts_no_prompts_and_one_prompt() -> None:
    same = [np.array([5, 6], dtype=np.int32)] * 4
    assert sorted(index for one in cluster(same, 3) for index in one.members) == [0, 1, 2, 3]
    assert cluster([], 3) == []
    assert [one.members for one in cluster(same[:1], 3)] == [(0,)]
