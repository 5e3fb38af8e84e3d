"""Choosing one answer a prompt."""

import math

import pytest

from tokensieve.generation.choose import choose, correct_ones, want_correct, wrong_ones
from tokensieve.types import Outcome, Sample, Verdict


def sample(index: int, outcome: Outcome | None = Outcome.CORRECT, text: str = "x", *, finished: bool = True) -> Sample:
    verdict = None if outcome is None else Verdict(outcome)
    return Sample("p", "toy", index, text, ids=(7,) * (9 - index), finished=finished, verdict=verdict)


def test_what_was_cut_off_or_is_empty_or_unjudged_is_neither_correct_nor_wrong() -> None:
    samples = [
        sample(0),
        sample(1, finished=False),
        sample(2, text="  \n"),
        sample(3, None),
        sample(4, Outcome.CUT_OFF, finished=False),
        sample(5, Outcome.WRONG),
        sample(6, Outcome.NO_ANSWER),
        sample(7, Outcome.NOT_JUDGED),
    ]
    assert [s.index for s in correct_ones(samples)] == [0]
    assert [s.index for s in wrong_ones(samples)] == [5, 6]


def test_rules() -> None:
    samples = [sample(index) for index in range(4)]
    nll = {0: 0.5, 1: 0.2, 2: 0.2, 3: math.nan}
    assert choose(samples, "lowest-perplexity", 0, nll) == samples[1]
    assert choose(samples[3:], "lowest-perplexity", 0, nll) == samples[3]
    assert choose([samples[3], samples[0]], "lowest-perplexity", 0, nll) == samples[0]
    assert choose(samples, "shortest", 0, {}) == samples[3]
    assert choose(samples[::-1], "first", 0, {}) == samples[0]
    assert choose([], "first", 0, {}) is None


def test_random_choice_depends_on_the_seed_and_the_prompt_alone() -> None:
    samples = [sample(index) for index in range(8)]
    chosen = {choose(samples, "random", seed, {}) for seed in range(40)}
    assert len(chosen) > 4
    assert choose(samples, "random", 3, {}) == choose(samples[::-1], "random", 3, {})


BOTH, GOOD, BAD, NONE = (True, True), (True, False), (False, True), (False, False)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.8, 1.0])
def test_mixes_reach_the_share_where_every_prompt_has_both(share: float) -> None:
    available = {f"p{number}": BOTH for number in range(20)}
    assert sum(want_correct(available, share, 0).values()) == round(share * 20)


def test_prompts_with_one_kind_give_that_kind_in_a_mix() -> None:
    available = {"g1": GOOD, "g2": GOOD, "b1": BAD, "x1": BOTH, "x2": BOTH, "x3": BOTH, "n": NONE}
    wanted = want_correct(available, 0.5, 0)
    assert wanted["g1"]
    assert wanted["g2"]
    assert not wanted["b1"]
    assert sum(wanted[key] for key in ("x1", "x2", "x3")) == 1
    assert want_correct(available, 1.0, 0) == dict.fromkeys(available, True)
    assert want_correct(available, 0.0, 0) == dict.fromkeys(available, False)
