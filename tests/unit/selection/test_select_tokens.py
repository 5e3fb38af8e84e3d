"""Policies: what each leaves out, what it never touches, and what it refuses."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensieve.config import SelectSettings
from tokensieve.errors import InputError
from tokensieve.selection import Rule, fit, parse_policy, select_tokens
from tokensieve.types import Scored, Scores, Selected, Tokens, bools, ints

LN_2_5 = math.log(2.5)


def row(nlls: Sequence[float], name: str = "r", prompt: int = 2) -> Scored:
    """Two prompt tokens, a response with the given scores; its last token ends the turn."""
    length = prompt + len(nlls)
    in_response_T = np.arange(length) >= prompt
    ends_turn_T = np.arange(length) == length - 1
    nll_T = np.full(length, np.nan, dtype=np.float32)
    nll_T[prompt:] = nlls
    tokens = Tokens(name, ints(range(length)), in_response_T, ends_turn_T)
    return Scored(tokens, {"base": Scores(nll_T)})


def choose(rows: Sequence[Scored], policy: str, *, paper_exact: bool = False, seed: int = 0) -> list[Selected]:
    rule = fit(SelectSettings(policy=policy, paper_exact=paper_exact, seed=seed), lambda: rows)
    return [select_tokens(r, rule) for r in rows]


def left_out(selected: Selected) -> list[int]:
    return [int(t) for t in np.flatnonzero(selected.tokens.in_response_T & ~selected.train_T)]


def test_stm_leaves_out_strictly_above_the_threshold_in_nats() -> None:
    at_threshold = np.nextafter(np.float32(LN_2_5), np.float32(0))
    above = np.nextafter(np.float32(LN_2_5), np.float32(2))
    (chosen,) = choose([row([0.1, float(at_threshold), float(above), 7.0, 0.0])], "stm:2.5")
    assert left_out(chosen) == [4, 5]
    assert not chosen.train_T[:2].any()


def test_end_of_turn_is_protected_unless_the_paper_is_followed_to_the_letter() -> None:
    rows = [row([0.1, 9.0])]
    assert left_out(choose(rows, "stm:2.5")[0]) == []
    assert left_out(choose(rows, "stm:2.5", paper_exact=True)[0]) == [3]


def test_share_pools_over_rows_and_leaves_end_of_turn_out_of_the_pool() -> None:
    rows = [row([5.0, 4.0, 0.1, 99.0], "a"), row([0.2, 0.3, 3.0, 99.0], "b")]
    chosen = choose(rows, "share:0.34")  # a pool of six: two go
    assert [left_out(c) for c in chosen] == [[2, 3], []]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.999, 1.0])
def test_share_takes_as_many_as_asked_and_never_more(share: float) -> None:
    rng = np.random.default_rng(3)
    rows = [row(list(rng.exponential(size=40)), str(i)) for i in range(25)]
    count = sum(len(left_out(c)) for c in choose(rows, f"share:{share}"))
    assert count == math.floor(share * 25 * 39 + 1e-9)


def test_share_keeps_ties_at_the_threshold() -> None:
    chosen = choose([row([1.0, 1.0, 1.0, 1.0, 0.0])], "share:0.5")
    assert left_out(chosen[0]) == []


@pytest.mark.parametrize("policy", ["random", "lowest"])
def test_matched_policies_leave_out_as_many_per_row_as_the_rule_they_match(policy: str) -> None:
    rng = np.random.default_rng(5)
    rows = [row(list(rng.exponential(size=30)), str(i)) for i in range(20)]
    by_rule = [len(left_out(c)) for c in choose(rows, "stm:2.5")]
    matched = choose(rows, f"{policy}:stm:2.5")
    assert [len(left_out(c)) for c in matched] == by_rule
    assert sum(by_rule) > 0
    assert all(c.train_T[-1] for c in matched)


def test_lowest_leaves_out_the_most_likely_tokens() -> None:
    (chosen,) = choose([row([0.5, 0.1, 3.0, 2.0, 0.0])], "lowest:stm:2.5")
    assert left_out(chosen) == [2, 3]


def test_random_depends_on_seed_and_row_id_and_on_nothing_else() -> None:
    rows = [row([2.0] * 10 + [0.1] * 10, name) for name in ("a", "b")]
    first = [left_out(c) for c in choose(rows, "random:stm:2.5")]
    again = [left_out(c) for c in reversed(choose(rows[::-1], "random:stm:2.5"))]
    other = [left_out(c) for c in choose(rows, "random:stm:2.5", seed=1)]
    assert first == again
    assert first[0] != first[1]
    assert first != other


def test_soft_weights_fall_with_perplexity_and_train_every_response_token() -> None:
    (chosen,) = choose([row([0.0, math.log(5.0), 9.0])], "soft:2.5")
    assert chosen.weight_T is not None
    assert chosen.weight_T[2:].tolist() == pytest.approx([1.0, 0.5, 1.0])
    assert left_out(chosen) == []


def test_plain_needs_no_scores() -> None:
    tokens = Tokens("r", ints([1, 2]), bools([False, True]), bools([False, True]))
    rule = fit(SelectSettings(policy="plain"), list)
    assert select_tokens(Scored(tokens, {}), rule).train_T.tolist() == [False, True]


def test_a_response_token_without_a_score_is_an_error_that_names_the_row() -> None:
    rows = [row([0.1, float("nan"), 0.1], "row-7")]
    with pytest.raises(InputError, match=r"row row-7.*token 3 has no score"):
        choose(rows, "stm:2.5")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smt:2.5", "did you mean 'stm'"),
        ("stm", "perplexity of at least 1"),
        ("stm:0.5", "perplexity of at least 1"),
        ("stm:nan", "perplexity of at least 1"),
        ("share:10", "between 0 and 1"),
        ("random:2.5", "unknown policy"),
        ("random", "whose number"),
        ("lowest:plain", "leaves no token out"),
        ("plain:3", "takes no value"),
    ],
)
def test_a_wrong_policy_is_refused_with_what_would_be_right(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_policy(text)


@settings(max_examples=60, deadline=None)
@given(
    nlls=st.lists(st.lists(st.floats(0, 30, width=32), min_size=1, max_size=12), min_size=1, max_size=6),
    policy=st.sampled_from(["plain", "stm:2.5", "share:0.3", "random:stm:2.5", "lowest:share:0.3", "soft:2.5"]),
    paper_exact=st.booleans(),
)
def test_no_policy_ever_trains_outside_the_response(nlls: list[list[float]], policy: str, paper_exact: bool) -> None:
    rows = [row(values, str(i)) for i, values in enumerate(nlls)]
    for chosen in choose(rows, policy, paper_exact=paper_exact):
        assert not (chosen.train_T & ~chosen.tokens.in_response_T).any()


def test_the_share_threshold_is_the_exact_order_statistic() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)  # negative ones too
    rule: Rule = fit(SelectSettings(policy="share:0.25", paper_exact=True), lambda: [row(list(values), prompt=1)])
    assert rule.threshold_nats == float(np.sort(values)[749])
