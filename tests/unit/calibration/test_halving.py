"""Which candidates go on, and which one is chosen."""

import pytest

from tokensieve.calibration.halving import Candidate, Trial, choose, halve, nll_tells, parse_candidates, ranked, tied
from tokensieve.errors import InputError


def trial(
    accuracy: float | None, nll: float, drift: float = 0.1, *, policy: str = "plain", rate: float = 1e-4
) -> Trial:
    candidate = Candidate(policy=policy, anchors=False, learning_rate=rate)
    return Trial(
        candidate=candidate, share=1.0, accuracy=accuracy, problems=100, nll=nll, drift=drift, wall_s=1.0
    )  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [(0.50, 0.54, True), (0.50, 0.56, False), (0.0, 0.0, True), (0.0, 0.02, False), (None, None, True)],
)
def test_accuracies_within_one_standard_error_are_tied(one: float | None, other: float | None, expected: bool) -> None:
    assert tied(trial(one, 1.0), trial(other, 1.0)) is expected


def test_accuracy_ranks_first_and_nll_breaks_ties_where_it_tells() -> None:
    trials = [trial(0.50, 0.9), trial(0.10, 2.0), trial(0.52, 1.2), trial(0.90, 0.1)]
    assert [(one.accuracy, one.nll) for one in ranked(trials)] == [(0.90, 0.1), (0.50, 0.9), (0.52, 1.2), (0.10, 2.0)]


def test_nll_that_falls_while_accuracy_does_breaks_no_ties() -> None:
    trials = [trial(0.50, 0.9), trial(0.10, 0.1), trial(0.52, 1.2), trial(0.90, 3.0)]
    assert not nll_tells(trials)
    assert [one.accuracy for one in ranked(trials)] == [0.90, 0.52, 0.50, 0.10]


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


@pytest.mark.parametrize(
    ("finalists", "expected"),
    [
        ([trial(0.60, 1.0, 0.50), trial(0.57, 1.02, 0.05), trial(0.20, 1.5, 0.0)], 1),  # tied, as low a nll, less drift
        ([trial(0.60, 1.0, 0.50), trial(0.57, 1.3, 0.05), trial(0.20, 1.5, 0.0)], 0),  # tied, but has learnt less
        ([trial(0.60, 1.5, 0.50), trial(0.57, 1.8, 0.05), trial(0.20, 0.5, 0.0)], 1),  # nll does not tell
        ([trial(0.60, 1.0, 0.50), trial(0.40, 1.1, 0.05)], 0),  # clearly better
        ([trial(0.0, 1.00, 0.50), trial(0.0, 1.05, 0.30), trial(0.0, 1.5, 0.0)], 1),  # by nll where all are 0
        ([trial(None, 1.00, 0.50), trial(None, 1.05, 0.30), trial(None, 1.5, 0.0)], 1),
    ],
)
def test_the_least_drift_of_those_that_learnt_as_much_is_chosen(finalists: list[Trial], expected: int) -> None:
    assert choose(finalists, base_nll=2.0) is finalists[expected]


def test_half_goes_on_and_of_every_policy_the_best() -> None:
    candidates = [
        Candidate(policy=policy, anchors=False, learning_rate=rate)
        for policy in ("plain", "stm:2.5", "share:0.1")
        for rate in (1e-4, 2e-4, 4e-4)
    ]
    asked: list[tuple[str, float]] = []

    def run(candidate: Candidate, share: float) -> Trial:
        asked.append((candidate.name, share))
        accuracy = {"plain": 0.8, "stm:2.5": 0.4, "share:0.1": 0.1}[candidate.policy]
        return trial(
            accuracy, (1 - accuracy) / candidate.learning_rate, policy=candidate.policy, rate=candidate.learning_rate
        )

    rungs = halve(candidates, (0.25, 0.5, 1.0), run)
    assert [len(rung) for rung in rungs] == [9, 6, 3]
    second = [one.candidate.name for one in rungs[1]]
    assert "share:0.1 at 0.0004" in second, "its policy's best goes on though its rank is low"
    assert [one.candidate.name for one in rungs[2]] == ["plain at 0.0004", "plain at 0.0002", "plain at 0.0001"]
    assert len(asked) == len(set(asked)) == 18
