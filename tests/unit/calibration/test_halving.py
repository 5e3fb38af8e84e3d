"""Which candidates go on, and which one is chosen."""

import pytest

from tokensieve.calibration.halving import Candidate, Trial, choose, halve, ranked, tied


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


def test_accuracy_ranks_first_and_nll_breaks_ties() -> None:
    trials = [trial(0.50, 0.9), trial(0.10, 0.1), trial(0.52, 1.2), trial(0.90, 3.0)]
    assert [(one.accuracy, one.nll) for one in ranked(trials)] == [(0.90, 3.0), (0.50, 0.9), (0.52, 1.2), (0.10, 0.1)]


@pytest.mark.parametrize(
    ("finalists", "expected"),
    [
        ([trial(0.60, 1.0, 0.50), trial(0.57, 1.1, 0.05), trial(0.20, 0.5, 0.0)], 1),  # tied, and less drift
        ([trial(0.60, 1.0, 0.50), trial(0.40, 1.1, 0.05)], 0),  # clearly better
        ([trial(0.0, 1.00, 0.50), trial(0.0, 1.01, 0.30), trial(0.0, 1.5, 0.0)], 1),  # by nll where all are 0
        ([trial(None, 1.00, 0.50), trial(None, 1.01, 0.30), trial(None, 1.5, 0.0)], 1),
    ],
)
def test_the_least_drift_that_cannot_be_told_from_the_best_is_chosen(finalists: list[Trial], expected: int) -> None:
    assert choose(finalists) is finalists[expected]


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
        return trial(accuracy, 1.0 / candidate.learning_rate, policy=candidate.policy, rate=candidate.learning_rate)

    rungs = halve(candidates, (0.25, 0.5, 1.0), run)
    assert [len(rung) for rung in rungs] == [9, 6, 3]
    second = [one.candidate.name for one in rungs[1]]
    assert "share:0.1 at 0.0004" in second, "its policy's best goes on though its rank is low"
    assert [one.candidate.name for one in rungs[2]] == ["plain at 0.0004", "plain at 0.0002", "plain at 0.0001"]
    assert len(asked) == len(set(asked)) == 18
