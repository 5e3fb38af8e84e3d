"""The analysis against hand-made rows, a second way of computing each number."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokensieve.analysis import THRESHOLDS, Profile, profile
from tokensieve.errors import InputError
from tokensieve.types import Scored, Scores, Selected, Tokens, bools, ints


def row(
    name: str, nll: list[float], response: list[int], train: list[int] | None = None, weight: list[float] | None = None
) -> Selected:
    """A row of tokens 0, 1, 2 ...; the last response token ends the turn."""
    in_response_T = bools(bool(r) for r in response)
    ends_turn_T = np.zeros_like(in_response_T)
    if in_response_T.any():
        ends_turn_T[np.flatnonzero(in_response_T)[-1]] = True
    tokens = Tokens(name, ints(range(len(nll))), in_response_T, ends_turn_T)
    scored = Scored(tokens, {"base": Scores(np.asarray(nll, dtype=np.float32))})
    train_T = in_response_T if train is None else bools(bool(t) for t in train)
    return Selected(scored, train_T, None if weight is None else np.asarray(weight, dtype=np.float32))


NAN = math.nan
LN = math.log
FIRST = row("a", [NAN, 0.0, LN(10), LN(2), 0.0], [0, 1, 1, 1, 1], [0, 1, 0, 1, 1])
SECOND = row("b", [NAN, LN(100), 0.0], [0, 1, 1], [0, 0, 1])


def test_shares_are_named_pooled_or_mean_and_differ_where_rows_differ_in_length() -> None:
    found = profile([FIRST, SECOND], threshold_nats=LN(2.5))
    assert (found.rows, found.response_tokens, found.scored_tokens, found.trained_tokens) == (2, 6, 6, 4)
    assert found.trained_pooled == pytest.approx(4 / 6)
    assert found.trained_mean == pytest.approx((3 / 4 + 1 / 2) / 2)
    total = LN(10) + LN(2) + LN(100)
    assert found.nll_left_out == pytest.approx(LN(1000) / total)
    assert found.nll_per_token == pytest.approx(total / 6)
    assert found.nll_per_trained_token == pytest.approx(LN(2) / 4)
    at_two_and_a_half = next(share for share in found.shares if share.threshold == 2.5)
    assert at_two_and_a_half.tokens_pooled == pytest.approx(2 / 6)
    assert at_two_and_a_half.tokens_mean == pytest.approx((1 / 4 + 1 / 2) / 2)
    assert at_two_and_a_half.nll_pooled == pytest.approx(LN(1000) / total)


def test_sentence_perplexity_is_the_mean_over_rows_of_exp_of_mean_nll() -> None:
    expected = (math.exp(LN(20) / 4) + math.exp(LN(100) / 2)) / 2
    assert profile([FIRST, SECOND]).sentence_perplexity == pytest.approx(expected)


def test_above_is_strict_as_in_stm() -> None:
    on_the_line = row("a", [float(np.float32(LN(2.5)))], [1])
    exactly = math.exp(float(np.float32(LN(2.5))))
    shares = profile([on_the_line], thresholds=[exactly * (1 - 1e-9), exactly * (1 + 1e-9)]).shares
    assert [share.tokens_pooled for share in shares] == [1.0, 0.0]


def test_tokens_near_the_threshold_are_counted() -> None:
    close = row("a", [LN(2.5) + 0.01, LN(2.5) - 0.01, LN(2.5) + 0.03, 0.0], [1, 1, 1, 1])
    assert profile([close], threshold_nats=LN(2.5), band_nats=0.02).near_threshold == 2
    without = profile([close], threshold_nats=math.inf)
    assert (without.threshold, without.near_threshold, without.band) == (None, None, None)


def test_the_histogram_holds_every_scored_response_token_once() -> None:
    found = profile([FIRST, SECOND, row("c", [50.0], [1])])
    histogram = found.histogram
    assert sum(histogram.counts) == found.scored_tokens == 7
    assert histogram.counts[0] == 3  # perplexity 1
    assert histogram.counts[-1] == 1  # far beyond the last edge
    assert histogram.edges[0] == 1
    assert len(histogram.edges) == len(histogram.counts) + 1 == len(histogram.trained) + 1


@given(
    st.lists(st.lists(st.floats(0, 12, width=32), min_size=1, max_size=12), min_size=1, max_size=6),
    st.sampled_from(THRESHOLDS),
)
def test_against_a_plain_loop(nlls: list[list[float]], threshold: float) -> None:
    rows = []
    for index, nll in enumerate(nlls):
        train = [int(value <= LN(threshold)) for value in nll]
        rows.append(row(str(index), nll, [1] * len(nll), train))
    found = profile(rows, threshold_nats=LN(threshold), thresholds=[threshold])
    flat = [value for nll in nlls for value in nll]
    above = [value for value in flat if value > LN(threshold)]
    (share,) = found.shares
    assert found.trained_tokens == len(flat) - len(above)
    assert share.tokens_pooled == pytest.approx(len(above) / len(flat))
    if sum(flat) > 0:
        assert found.nll_left_out == pytest.approx(sum(above) / sum(flat), abs=1e-6)
        assert share.nll_pooled == pytest.approx(sum(above) / sum(flat), abs=1e-6)
    histogram = found.histogram
    assert sum(histogram.counts) == len(flat)
    assert all(t <= c for t, c in zip(histogram.trained, histogram.counts, strict=True))


def test_nothing_to_take_a_share_of_gives_none_not_zero() -> None:
    for rows in ([], [row("a", [NAN, NAN], [0, 0])], [row("a", [NAN, NAN], [0, 1])]):
        found = profile(rows, threshold_nats=LN(2.5))
        assert found.nll_left_out is None
        assert found.sentence_perplexity is None
        assert all(share.tokens_pooled is None for share in found.shares)
        Profile.model_validate_json(found.model_dump_json())


def test_unscored_response_tokens_count_as_response_only() -> None:
    found = profile([row("a", [NAN, NAN, 1.0], [0, 1, 1])])
    assert (found.response_tokens, found.scored_tokens) == (2, 1)


def test_soft_weights_leave_out_the_part_that_is_not_weighed() -> None:
    soft = row("a", [2.0, 2.0], [1, 1], [1, 1], [1.0, 0.25])
    found = profile([soft])
    assert found.trained_tokens == 2
    assert found.nll_left_out == pytest.approx(0.75 / 2)


def test_classes_are_counted_above_the_threshold_and_end_of_turn_is_special() -> None:
    pieces = ["x", "1", " for", "\n", "<end>"]
    found = profile([FIRST], threshold_nats=LN(2.5), piece=pieces.__getitem__)
    assert {share.token_class: (share.tokens, share.above) for share in found.classes} == {
        "number": (1, 0),
        "word": (1, 1),
        "line_end": (1, 0),
        "special": (1, 0),
    }


def test_user_mistakes_have_messages() -> None:
    with pytest.raises(InputError, match="above 0"):
        profile([FIRST], thresholds=[0.0])
    with pytest.raises(InputError, match="no scores by 'larger'"):
        profile([FIRST], scorer="larger")
