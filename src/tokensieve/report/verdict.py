"""The verdict in words, computed from the numbers and their intervals and from nothing else.

What an interval does not settle is called open. The headline speaks of the first arm of the recipe whose policy leaves
tokens out or weights them, never of the one that came out best.
"""

from dataclasses import dataclass
from enum import StrEnum

from tokensieve.metrics import Estimate
from tokensieve.report import number_format
from tokensieve.report.caveats import caveats
from tokensieve.report.results_schema import FrontierPoint
from tokensieve.report.schema import REFERENCE_ARM, ArmReport, Report, TargetReport
from tokensieve.selection import parse_policy


class Finding(StrEnum):
    """Relation of one number to another."""

    HIGHER = "higher"
    LOWER = "lower"
    OPEN = "open"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class ArmVerdict:
    """One arm against the base model: what it did, in words, and the numbers behind them."""

    arm: str
    words: str
    numbers: str


@dataclass(frozen=True, slots=True)
class TargetVerdict:
    """Verdict on one target.

    Attributes:
        title: of the target.
        headline: the first arm with a policy against plain.
        arms: each arm against the base model.
        control: the same arm against a control; empty where the study has none.
        rates: the learning rate of each arm, and what differs at plain's; empty where each has one rate.
    """

    title: str
    headline: str
    arms: tuple[ArmVerdict, ...]
    control: str
    rates: str = ""


@dataclass(frozen=True, slots=True)
class StudyVerdict:
    """Verdict on a study, and its caveats."""

    targets: tuple[TargetVerdict, ...]
    caveats: tuple[str, ...]


_HEADLINES = {
    (Finding.HIGHER, Finding.HIGHER): "{arm} {more} than plain fine-tuning and forgets less.",
    (Finding.OPEN, Finding.HIGHER): "{arm} forgets less than plain fine-tuning; which of the two {more} is open.",
    (Finding.LOWER, Finding.HIGHER): "{arm} forgets less than plain fine-tuning, but {less}.",
    (Finding.HIGHER, Finding.OPEN): "{arm} {more} than plain fine-tuning; which of the two forgets more is open.",
    (Finding.OPEN, Finding.OPEN): "{arm} and plain fine-tuning cannot be told apart here.",
    (Finding.LOWER, Finding.OPEN): "{arm} {less} than plain fine-tuning, and no gain in what is kept is shown.",
    (Finding.HIGHER, Finding.LOWER): "{arm} {more} than plain fine-tuning, but forgets more.",
    (Finding.OPEN, Finding.LOWER): "{arm} forgets more than plain fine-tuning; which of the two {more} is open.",
    (Finding.LOWER, Finding.LOWER): "{arm} {less} than plain fine-tuning and forgets more.",
}


_ZERO_PERCENT, _ZERO_NATS = 0.05, 0.0005
"""Changes below which the page shows 0: no sentence makes more of them, however narrow the interval."""


def judge(report: Report) -> StudyVerdict:
    """Put a study's numbers into words."""
    return StudyVerdict(tuple(_judge_target(target) for target in report.targets), caveats(report))


def against(arm: ArmReport, reference: ArmReport) -> tuple[Finding, Finding]:
    """Relation of an arm's gain on the target and its backward transfer to the reference's.

    By the paired difference where it was taken, else by whether the two intervals are apart, which is the stricter
    test of the two.
    """
    paired = arm.against_reference if reference.name == REFERENCE_ARM else None
    gain = _sign(paired.target_points) if paired else Finding.UNKNOWN
    transfer = _sign(paired.backward_transfer, _ZERO_PERCENT) if paired else Finding.UNKNOWN
    if gain is Finding.UNKNOWN:
        gain = _apart(arm.target_points, reference.target_points)
    if transfer is Finding.UNKNOWN:
        transfer = _apart(arm.backward_transfer, reference.backward_transfer)
    return gain, transfer


def _judge_target(target: TargetReport) -> TargetVerdict:
    title = target.title or target.task
    plain = target.reference
    first = next((arm for arm in target.arms if _is_treatment(arm)), None)
    arms = tuple(_judge_arm(target, arm) for arm in target.arms)
    return TargetVerdict(
        title, _headline(target, first, plain), arms, _control_sentence(target, first), _rates_sentence(target, first)
    )


def _headline(target: TargetReport, stm: ArmReport | None, plain: ArmReport | None) -> str:
    if stm is None or plain is None:
        missing = "arm whose policy leaves tokens out" if stm is None else "plain arm"
        return f"The study has no {missing}, so there is nothing to hold the others against."
    if stm.not_trained or plain.not_trained:
        return f"{(stm if stm.not_trained else plain).name} was not trained, so the two cannot be compared."
    gain, transfer = against(stm, plain)
    text = _HEADLINES.get((gain, transfer), "{arm} and plain fine-tuning lack the numbers for a comparison.")
    # Who gained nothing did not learn more than another who lost: it only ends better.
    ours = _learnt(target, stm)
    learnt = Finding.HIGHER in (ours, _learnt(target, plain))
    more, less = ("learns more", "learns less") if learnt else ("ends better on the target", "ends worse on the target")
    text = text.format(arm=stm.name, more=more, less=less)
    kept = _sign(plain.backward_transfer, _ZERO_PERCENT)
    if kept is Finding.OPEN:
        text += " Plain fine-tuning itself forgot nothing that can be measured."
    elif kept is Finding.HIGHER:
        text += " Plain fine-tuning itself forgot nothing: its other skills rose."
    start = "the model that it went on from" if stm.start else "the base model"
    if ours is Finding.LOWER:
        text += f" On the target {stm.name} ends below {start}."
    elif ours is Finding.OPEN:
        text += f" On the target {stm.name} shows no clear change against {start}."
    return text


def _judge_arm(target: TargetReport, arm: ArmReport) -> ArmVerdict:
    if arm.not_trained:
        return ArmVerdict(arm.name, f"was not trained: {arm.not_trained}", "")
    gain, transfer = _learnt(target, arm), _sign(arm.backward_transfer, _ZERO_PERCENT)
    learns = {
        Finding.HIGHER: "learns",
        Finding.LOWER: "gets worse at its own target",
        Finding.OPEN: "learns nothing measurable",
        Finding.UNKNOWN: "has no interval on the target",
    }[gain]
    forgets = {
        Finding.HIGHER: "gets better at the other skills",
        Finding.LOWER: "forgets",
        Finding.OPEN: "forgets nothing measurable",
        Finding.UNKNOWN: "has no interval on the other skills",
    }[transfer]
    words = f"{learns} and {forgets}"
    if gain is transfer is Finding.OPEN:
        words = "neither learns nor forgets measurably"
    return ArmVerdict(arm.name, words, _numbers(target, arm))


def _numbers(target: TargetReport, arm: ArmReport) -> str:
    base, after = arm.started_at(target.task) or target.base_result(target.task), arm.result(target.task)
    parts = []
    if base and after and target.by_likelihood:
        before, then = (number_format.number(result.nll.value, 3) for result in (base, after))
        parts.append(f"nll {before} → {then} nats per token")
    elif base and after:
        before = number_format.number(None if base.accuracy.value is None else 100 * base.accuracy.value)
        parts.append(f"accuracy {before} → {number_format.percent(after.accuracy.value)}")
    if target.gain_unit != "%":
        word = "fall" if target.by_likelihood else "gain"
        parts.append(f"{word} {number_format.change(target.gain(arm), target.gain_unit)}")
    if arm.target_improvement.value is not None and not target.by_likelihood:
        parts.append(f"TI {number_format.change(arm.target_improvement, '%')}")
    elif target.gain_unit == "points":
        parts.append("no TI over a base of 0")
    parts.append(f"BWT {number_format.change(arm.backward_transfer, '%')}")
    return " · ".join(parts)


def _control_sentence(target: TargetReport, stm: ArmReport | None) -> str:
    """A sentence on whether the choice of tokens matters, or only their number: the arm against a random control."""
    control = next((arm for arm in target.arms if _is_random_control(arm)), None)
    if stm is None or control is None or control.not_trained or stm.not_trained:
        return ""
    gain, transfer = against(stm, control)
    lead = f"Against the control that leaves out as many tokens at random ({control.name}), {stm.name}"
    words = {
        Finding.HIGHER: ("gains more on the target", "keeps more of the other skills"),
        Finding.LOWER: ("gains less on the target", "keeps less of the other skills"),
        Finding.OPEN: ("shows no clear difference on the target", "none in what it keeps of the other skills"),
        Finding.UNKNOWN: ("has nothing to compare on the target", "has nothing to compare on the other skills"),
    }
    told = f"{lead} {words[gain][0]} and {words[transfer][1]}"
    if transfer is Finding.OPEN and gain is not Finding.OPEN:
        told = f"{lead} {words[gain][0]} and shows no clear difference in what it keeps of the other skills"
    if transfer is Finding.HIGHER:
        return f"{told}: which tokens are left out matters, not only how many."
    if transfer is Finding.OPEN:
        return f"{told}: that the choice of tokens matters for forgetting, and not only their number, is not shown."
    return f"{told}."


def _rates_sentence(target: TargetReport, stm: ArmReport | None) -> str:
    """The arms' own rates, and the arm with a policy against plain at plain's rate where its own is another."""
    rates = {one.arm: one.chosen.learning_rate for one in target.frontier if one.chosen is not None}
    if not rates:
        return ""
    own = ", ".join(f"{arm} at {number_format.learning_rate(rate)}" for arm, rate in rates.items())
    told = f"Each arm is told at its own best learning rate on validation: {own}."
    frontier = None if stm is None else target.frontier_of(stm.name)
    point = None if frontier is None else frontier.at_plain_rate
    if stm is None or point is None or point.chosen or REFERENCE_ARM not in rates:
        return told
    gain = {
        Finding.HIGHER: "ends better on the target than plain",
        Finding.LOWER: "ends worse on the target than plain",
        Finding.OPEN: "shows no clear difference to plain on the target",
        Finding.UNKNOWN: "has nothing to compare on the target",
    }[_sign(point.points_against_plain)]
    keeps = {
        Finding.HIGHER: "keeps more of the other skills",
        Finding.LOWER: "keeps less of the other skills",
        Finding.OPEN: "shows no clear difference in what it keeps of the other skills",
        Finding.UNKNOWN: "has nothing to compare on the other skills",
    }[_sign(point.transfer_against_plain, _ZERO_PERCENT)]
    rate = number_format.learning_rate(point.learning_rate)
    points = number_format.change(point.points_against_plain, "points")
    if target.by_likelihood:
        points = f"{number_format.signed(_nll_against_plain(target, point), 3)} nats of nll"
    transfer = number_format.change(point.transfer_against_plain, "%")
    return (
        f"{told} At plain’s rate, {rate}, {stm.name} {gain} and {keeps}: "
        f"the difference is {points} on the target and {transfer} in BWT."
    )


def _nll_against_plain(target: TargetReport, point: FrontierPoint) -> float | None:
    plain = target.frontier_of(REFERENCE_ARM)
    theirs = None if plain is None or plain.chosen is None else plain.chosen.target_nll.value
    return None if theirs is None or point.target_nll.value is None else point.target_nll.value - theirs


def _learnt(target: TargetReport, arm: ArmReport) -> Finding:
    """Sign of an arm's gain on the target: of the fall of its nll where it is measured by likelihood."""
    return _sign(target.gain(arm), _ZERO_NATS) if target.by_likelihood else _sign(arm.target_points)


def _sign(estimate: Estimate, zero: float = 0.0) -> Finding:
    """Sign of a change whose whole interval lies above or below 0; one below ``zero`` is none."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return Finding.UNKNOWN
    if abs(estimate.value) < zero:
        return Finding.OPEN
    if estimate.low > 0:
        return Finding.HIGHER
    return Finding.LOWER if estimate.high < 0 else Finding.OPEN


def _apart(one: Estimate, other: Estimate) -> Finding:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Finding.UNKNOWN
    if one.low > other.high:
        return Finding.HIGHER
    return Finding.LOWER if one.high < other.low else Finding.OPEN


def _is_random_control(arm: ArmReport) -> bool:
    traits = parse_policy(arm.policy).traits
    return traits.control and traits.seeded


def _is_treatment(arm: ArmReport) -> bool:
    """An arm whose policy leaves tokens out, or weights them, by its own rule."""
    traits = parse_policy(arm.policy).traits
    return not (traits.trains_all or traits.control)
