"""Which candidates go on, and which one is chosen."""

import pytest

from tokensieve.calibration.halving import (
    Baseline,
    Candidate,
    Trial,
    halve,
    lengthen,
    nll_tells,
    parse_candidates,
    ranked,
    utilities,
)
from tokensieve.errors import InputError


def trial(
    accuracy: float | None, nll: float, drift: float = 0.1, *, policy: str = "plain", rate: float = 1e-4
) -> Trial:
    candidate = Candidate(policy=policy, anchors=False, learning_rate=rate)
    return Trial(
        candidate=candidate, share=1.0, accuracy=accuracy, problems=100, nll=nll, drift=drift, wall_s=1.0
    )  # fmt: skip


BASE = Baseline(accuracy=0.1, nll=2.0)


def test_the_best_gain_is_worth_one_less_the_price_and_the_base_nothing() -> None:
    trials = [trial(0.9, 0.2, 0.4), trial(0.7, 0.3, 0.1), trial(0.1, 2.0, 0.0)]
    assert utilities(trials, BASE, price=1.0) == pytest.approx([0.0, 0.6 / 0.8 - 0.25, 0.0])
    assert utilities(trials, BASE, price=0.0) == pytest.approx([1.0, 0.75, 0.0])
    assert ranked(trials, BASE, 1.0)[0] is trials[1]
    assert ranked(trials, BASE, 0.0)[0] is trials[0]


def test_a_gain_within_noise_is_no_whole_gain() -> None:
    base = Baseline(accuracy=0.5, nll=2.0)  # standard error of 100 problems: 0.05
    trials = [trial(0.51, 1.0, 0.4), trial(0.3, 0.5, 0.8)]
    assert utilities(trials, base, price=0.0) == pytest.approx([0.2, -4.0])


@pytest.mark.parametrize("accuracy", [None, 0.0])
def test_nll_is_the_gain_where_accuracy_says_nothing(accuracy: float | None) -> None:
    base = Baseline(accuracy=accuracy, nll=2.0)
    trials = [trial(accuracy, 1.0, 0.4), trial(accuracy, 1.5, 0.1)]
    assert utilities(trials, base, price=1.0) == pytest.approx([0.0, 0.25])


@pytest.mark.parametrize(
    ("trials", "expected"),
    [
        ([trial(None, 1.0), trial(None, 2.0)], True),  # nothing else is known
        ([trial(0.0, 1.0), trial(0.0, 2.0)], True),
        ([trial(0.5, 1.0), trial(0.2, 2.0)], True),
        ([trial(0.5, 2.0), trial(0.2, 1.0)], False),
        ([trial(0.5, 1.0), trial(0.5, 2.0)], False),  # no rank correlation
    ],
)
def test_nll_tells_where_a_lower_one_goes_with_a_higher_accuracy(trials: list[Trial], expected: bool) -> None:
    assert nll_tells(trials) is expected


def test_a_candidate_is_a_policy_a_loss_and_anchors() -> None:
    found = parse_candidates("stm:10 + dft + anchors", (1e-4, 2e-4))
    assert [one.learning_rate for one in found] == [1e-4, 2e-4]
    assert found[0].kind == ("stm:10", "dft", True)
    assert found[0].name == "stm:10 + dft + anchors at 0.0001"
    assert found[0].model_copy(update={"alpha": 0.5}).name == "stm:10 + dft + anchors at 0.0001, 0.5 of the update"


@pytest.mark.parametrize("text", ["plain + dft + eaft", "plain + anchors + anchors", "plain + anchor", "nonsense"])
def test_what_is_no_candidate_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        parse_candidates(text, (1e-4,))


def test_half_goes_on_and_of_every_policy_the_best_and_the_most_accurate() -> None:
    candidates = [
        Candidate(policy=policy, anchors=False, learning_rate=rate)
        for policy in ("plain", "stm:2.5", "share:0.1")
        for rate in (1e-4, 2e-4, 4e-4)
    ]
    asked: list[tuple[str, float]] = []

    def run(candidate: Candidate, share: float) -> Trial:
        asked.append((candidate.name, share))
        accuracy = {"plain": 0.8, "stm:2.5": 0.4, "share:0.1": 0.1}[candidate.policy] * (candidate.learning_rate / 4e-4)
        drift = {"plain": 1e4, "stm:2.5": 1e2, "share:0.1": 1e5}[candidate.policy] * candidate.learning_rate
        return trial(accuracy, 1 - accuracy, drift, policy=candidate.policy, rate=candidate.learning_rate)

    rungs = halve(candidates, (0.25, 0.5, 1.0), run, Baseline(accuracy=0.0, nll=1.0), 1.0)
    second = [one.candidate.name for one in rungs[1]]
    assert "plain at 0.0004" in second, "the most accurate goes on though its drift is high"
    assert "share:0.1 at 0.0001" in second, "its policy's best goes on though its rank is low"
    assert rungs[2][0].candidate.name == "stm:2.5 at 0.0004"
    assert "plain at 0.0004" in [one.candidate.name for one in rungs[2]]
    assert len(asked) == len(set(asked))


def test_the_best_of_every_kind_is_trained_longer_while_its_value_rises() -> None:
    accuracies = {
        ("plain", 1.0): 0.8,
        ("plain", 2.0): 0.78,
        ("stm:2.5", 1.0): 0.5,
        ("stm:2.5", 2.0): 0.6,
        ("stm:2.5", 4.0): 0.7,
    }
    asked: list[tuple[str, float]] = []

    def run(candidate: Candidate, share: float) -> Trial:
        assert share == 1.0
        assert candidate.learning_rate == 1e-4, "the best rate of the kind"
        asked.append((candidate.policy, candidate.epoch_factor))
        made = trial(accuracies[asked[-1]], 1.0, 0.01)
        return made.model_copy(update={"candidate": candidate})

    rung = [
        trial(0.8, 1.0, 0.01),
        trial(0.12, 1.0, 0.0, policy="soft:2.5"),
        trial(0.5, 1.0, 0.01, policy="stm:2.5"),
        trial(0.4, 1.0, 0.01, policy="stm:2.5", rate=2e-4),
    ]
    made = lengthen(rung, (2.0, 4.0), run, BASE, price=1.0)
    # the gain of soft:2.5 is noise
    assert sorted(asked) == [("plain", 2.0), ("stm:2.5", 2.0), ("stm:2.5", 4.0)]
    assert [one.candidate.epoch_factor for one in made if one.candidate.policy == "stm:2.5"] == [2.0, 4.0]
    assert made[0].candidate.model_copy(update={"alpha": 0.5}).name.endswith("2 times the epochs, 0.5 of the update")
