"""The verdict: what the intervals say and not a word more, for wins and for losses alike."""

import pytest
from tests.swept_report import likelihood_report
from tests.synthetic_report import synthetic_report

from tokensieve.data.manifest import ModelIdentity
from tokensieve.report import (
    ArmReport,
    Estimate,
    EvaluatedSubset,
    Outcomes,
    ReferenceComparison,
    Report,
    TargetReport,
    TaskResult,
)
from tokensieve.report.verdict import Finding, TargetVerdict, against, judge


def around(value: float, half: float = 3.0) -> Estimate:
    return Estimate(value=value, low=value - half, high=value + half)


def arm(
    name: str, gain: float, transfer: float, policy: str = "plain", versus: tuple[float, float] | None = None
) -> ArmReport:
    """An arm whose intervals are 3 wide to either side."""
    comparison = versus and ReferenceComparison(target_points=around(versus[0]), backward_transfer=around(versus[1]))
    return ArmReport(
        name=name,
        policy=policy,
        rows_in=10,
        rows_out=10,
        target_improvement=around(2 * gain),
        target_points=around(gain),
        backward_transfer=around(transfer),
        against_reference=comparison or None,
    )


def verdict(*arms: ArmReport) -> TargetVerdict:
    base = TaskResult(task="t", accuracy=around(0.5, 0.1), outcomes=Outcomes(correct=5, wrong=5))
    target = TargetReport(task="t", others=("o",), base=(base,), arms=arms)
    return judge(Report(name="n", model=ModelIdentity(name="m"), targets=(target,))).targets[0]


@pytest.mark.parametrize(
    ("versus", "expected"),
    [
        ((9, 9), "STM learns more than plain fine-tuning and forgets less."),
        ((0, 9), "STM forgets less than plain fine-tuning; which of the two learns more is open."),
        ((-9, 9), "STM forgets less than plain fine-tuning, but learns less."),
        ((9, 0), "STM learns more than plain fine-tuning; which of the two forgets more is open."),
        ((0, 0), "STM and plain fine-tuning cannot be told apart here."),
        ((-9, 0), "STM learns less than plain fine-tuning, and no gain in what is kept is shown."),
        ((9, -9), "STM learns more than plain fine-tuning, but forgets more."),
        ((0, -9), "STM forgets more than plain fine-tuning; which of the two learns more is open."),
        ((-9, -9), "STM learns less than plain fine-tuning and forgets more."),
    ],
)
def test_the_headline_follows_the_paired_differences(versus: tuple[float, float], expected: str) -> None:
    found = verdict(arm("plain", 10, -20), arm("STM", 10, -20, "stm:2.5", versus))
    assert found.headline == expected


def test_a_loss_on_the_target_is_said_in_the_headline() -> None:
    headline = verdict(arm("plain", 40, -20), arm("STM", -9, 0, "stm:2.5", (-49, 20))).headline
    assert "but learns less." in headline
    assert headline.endswith("On the target STM ends below the base model.")


def test_where_plain_forgets_nothing_there_is_nothing_to_win() -> None:
    assert "forgot nothing" in verdict(arm("plain", 40, 1), arm("STM", 40, 1, "stm:2.5", (0, 0))).headline


def test_without_a_paired_difference_intervals_must_be_apart() -> None:
    plain = arm("plain", 10, -20)
    assert against(arm("a", 15, -15, "stm:2"), plain) == (Finding.OPEN, Finding.OPEN)
    assert against(arm("a", 17, -13, "stm:2"), plain) == (Finding.HIGHER, Finding.HIGHER)
    assert against(arm("a", 3, -27, "stm:2"), plain) == (Finding.LOWER, Finding.LOWER)


def test_the_headline_speaks_of_the_first_stm_arm_not_of_the_best() -> None:
    first, better = arm("STM 2.5", 0, 0, "stm:2.5", (-9, 9)), arm("STM 10", 30, 0, "stm:10", (9, 9))
    assert verdict(arm("plain", 10, -20), first, better).headline.startswith("STM 2.5 forgets less")


@pytest.mark.parametrize(
    ("gain", "transfer", "words"),
    [
        (9, -9, "learns and forgets"),
        (9, 0, "learns and forgets nothing measurable"),
        (0, 0, "neither learns nor forgets measurably"),
        (-9, -9, "gets worse at its own target and forgets"),
        (0, 9, "learns nothing measurable and gets better at the other skills"),
    ],
)
def test_each_arm_against_the_base(gain: float, transfer: float, words: str) -> None:
    assert verdict(arm("plain", gain, transfer)).arms[0].words == words


def test_undefined_ti_is_told_in_points() -> None:
    zero = arm("plain", 9, -9).model_copy(update={"target_improvement": Estimate()})
    assert "gain +9.0\u202fpoints (+6.0 to +12.0) · no TI over a base of 0" in verdict(zero).arms[0].numbers


def test_a_ti_without_an_interval_is_told_beside_the_points() -> None:
    low_base = arm("plain", 9, -9).model_copy(update={"target_improvement": Estimate(value=1800.0)})
    numbers = verdict(low_base).arms[0].numbers
    assert "gain +9.0\u202fpoints (+6.0 to +12.0) · TI +1\u202f800\u202f% · BWT" in numbers


@pytest.mark.parametrize(
    ("stm_gain", "plain_gain", "versus", "words"),
    [
        (-1, -40, 39, "STM ends better on the target than plain fine-tuning and forgets less."),
        (-40, -1, -39, "STM forgets less than plain fine-tuning, but ends worse on the target."),
        (0, 40, -40, "STM forgets less than plain fine-tuning, but learns less."),
        (0, 0, 0, "which of the two ends better on the target is open"),
    ],
)
def test_nobody_is_said_to_learn_more_who_learnt_nothing(
    stm_gain: float, plain_gain: float, versus: float, words: str
) -> None:
    found = verdict(arm("plain", plain_gain, -20), arm("STM", stm_gain, 0, "stm:2.5", (versus, 20)))
    assert words in found.headline


@pytest.mark.parametrize(
    ("gain", "transfer", "words"),
    [
        (20, 20, "which tokens are left out matters"),
        (0, 0, "is not shown"),
        (20, 0, "gains more on the target and shows no clear difference"),
        (0, -20, "keeps less of the other skills."),
    ],
)
def test_the_random_control_tells_choice_from_number(gain: float, transfer: float, words: str) -> None:
    control = arm("random", 0, 0, "random:stm:2.5")
    assert words in verdict(arm("plain", 0, 0), arm("STM", gain, transfer, "stm:2.5"), control).control


def test_missing_and_untrained_arms_are_said() -> None:
    assert "no arm whose policy leaves tokens out" in verdict(arm("plain", 1, 1)).headline
    assert "no plain arm" in verdict(arm("STM", 1, 1, "stm:2.5")).headline
    untrained = arm("STM", 1, 1, "stm:2.5").model_copy(update={"not_trained": "no rows were left"})
    found = verdict(arm("plain", 1, 1), untrained)
    assert found.headline == "STM was not trained, so the two cannot be compared."
    assert found.arms[1].words == "was not trained: no rows were left"


def test_numbers_without_intervals_settle_nothing() -> None:
    bare = ArmReport(name="STM", policy="stm:2.5", rows_in=1, rows_out=1, backward_transfer=Estimate(value=5.0))
    found = verdict(arm("plain", 1, 1), bare)
    assert "lack the numbers" in found.headline
    assert found.arms[1].words == "has no interval on the target and has no interval on the other skills"


def test_caveats_name_what_weakens_the_numbers() -> None:
    few = arm("Self-Output", 1, 1).model_copy(update={"rows_out": 3})
    target = TargetReport(
        task="t", others=("o", "z"), dropped_from_transfer=("z",), base=(), arms=(arm("plain", 1, 1), few)
    )
    report = Report(
        name="n",
        model=ModelIdentity(name="m"),
        targets=(target,),
        subsets=(
            EvaluatedSubset(task="t", evaluated=10, available=20),
            EvaluatedSubset(task="o", evaluated=10, available=20),
            EvaluatedSubset(task="z", evaluated=20, available=20),
        ),
    )
    told = "\n".join(judge(report).caveats)
    for words in (
        "One seed",
        "10 of 20 (test) each of t, o.",
        "z is left out of BWT",
        "3 of 10 rows",
        "paired comparison",
    ):
        assert words in told
    few_seeds = judge(report.model_copy(update={"seeds": (0, 1, 2)}))
    assert any("3 seeds. That is too few" in caveat for caveat in few_seeds.caveats)
    more_seeds = judge(report.model_copy(update={"seeds": (0, 1, 2, 3, 4)}))
    assert not any("seed" in caveat for caveat in more_seeds.caveats)


def test_a_change_that_is_told_as_zero_is_none_however_narrow_its_interval() -> None:
    report = synthetic_report()
    target = report.targets[0]
    tiny = Estimate(value=-0.01, low=-0.02, high=-0.001)
    arms = tuple(arm.model_copy(update={"backward_transfer": tiny}) for arm in target.arms)
    found = judge(report.model_copy(update={"targets": (target.model_copy(update={"arms": arms}),)}))
    assert all("forgets nothing measurable" in arm.words or "neither" in arm.words for arm in found.targets[0].arms)
    assert "forgot nothing that can be measured" in found.targets[0].headline


def test_the_fall_of_the_nll_decides_whether_a_target_in_nats_is_learnt() -> None:
    told = judge(likelihood_report()).targets[0]
    assert {arm.arm: arm.words.split(" and ")[0] for arm in told.arms}["share 10 %"].startswith("learns")
    assert told.arms[0].words.startswith("gets worse at its own target")
