"""Tasks measured by likelihood in a study: their value, and the nats of likely and unlikely tokens."""

import math

import pytest

from tokensieve.study.step_results import mean_value, nats_change, nats_of, value_of
from tokensieve.types import Sample

LOG2, LOG4 = math.log(2), math.log(4)


def text(name: str, *nll: float, own: bool = True) -> Sample:
    ids = tuple(range(len(nll)))
    mean = sum(nll) / len(nll) if nll else math.nan
    return Sample(name, "t", 0, "", ids, nll=mean, token_nll=tuple(nll) if own else ())


def test_the_value_is_the_geometric_mean_of_probabilities() -> None:
    assert value_of(text("a", LOG2, 3 * LOG2)) == pytest.approx(1 / 4)
    assert value_of(text("a")) == 0
    mean = mean_value([text("a", LOG2), text("a", LOG4), text("b", 0.0)])
    assert mean.value == pytest.approx((0.375 + 1) / 2)


def test_nats_are_pooled_and_split_by_the_base() -> None:
    base = [text("a", LOG2, LOG4), text("b", 3.0)]
    after = [text("a", 1.0, 2.0), text("b", 6.0), text("a", 3.0, 4.0), text("b", 8.0)]
    found = {name: estimate.value for name, estimate in nats_of(after, base).items()}
    assert found == {"all": pytest.approx(24 / 6), "likely": pytest.approx(2.0), "unlikely": pytest.approx(5.0)}


def test_without_the_tokens_own_values_there_is_the_mean_alone() -> None:
    plain = [text("a", 1.0, 2.0, own=False)]
    assert list(nats_of(plain, plain)) == ["all"]


def test_changes_are_paired_by_text_and_leave_out_what_a_model_could_not_score() -> None:
    base = [text("a", LOG2, LOG4), text("b", 3.0), text("c", 1.0)]
    runs = [
        [text("a", 1.0, 2.0), text("b", 6.0), text("c")],
        [text("a", 3.0, 4.0), text("b", 8.0), text("c", 1.0)],
    ]
    found = nats_change(runs, base)
    assert found["all"].value == pytest.approx((3 + 6 + 7 + 8) / 2 / 3 - (3 * LOG2 + 3) / 3)
    assert found["likely"].value == pytest.approx(2.0 - LOG2)
    assert found["unlikely"].value == pytest.approx((2 + 6 + 4 + 8) / 4 - (LOG4 + 3) / 2)
    assert found["all"].interval is not None
    assert nats_change([[text("z", 1.0)]], base) == {}


def test_the_change_is_against_the_models_that_the_runs_went_on_from() -> None:
    base = [text("a", 1.0, 1.0), text("b", 1.0)]
    starts = [[text("a", 2.0, 2.0), text("b", 2.0)], [text("a", 4.0, 4.0), text("b", 4.0)]]
    after = [[text("a", 2.0, 2.0), text("b", 2.0)], [text("a", 3.0, 3.0), text("b", 3.0)]]
    assert nats_change(after, base)["all"].value == pytest.approx(1.5)
    assert nats_change(after, base, starts)["all"].value == pytest.approx(2.5 - 3.0)
