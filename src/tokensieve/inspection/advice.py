"""Advice on a selection; every piece names the experiment in docs/log.md that backs it, and there is none without."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from tokensieve.inspection.results import Advice, OwnAnswers, SourceProfile
from tokensieve.inspection.survey import Survey
from tokensieve.selection.policy import Traits
from tokensieve.types import Origin

_MUCH_LEFT_OUT: Final = 0.1
"""Share of the response tokens from which on the advice on new tasks is given."""
_FAR_ABOVE: Final = 2.0
"""Ratio of sentence perplexities, data to own answers, from which on own answers are recommended."""


@dataclass(frozen=True, slots=True)
class Facts:
    """Grounds of an advice.

    Attributes:
        survey: of the rows.
        traits: of the policy.
        own_answers: beside the model's own answers; None where none were given.
    """

    survey: Survey
    traits: Traits
    own_answers: OwnAnswers | None


@dataclass(frozen=True, slots=True)
class Rule:
    """One piece of advice.

    Attributes:
        text: what to do, and what was measured.
        entry: section and entry of docs/log.md.
        applies: why it applies to given facts, in words; empty where it does not.
    """

    text: str
    entry: str
    applies: Callable[[Facts], str]


def advise(facts: Facts) -> tuple[Advice, ...]:
    """The advice that applies, in a fixed order."""
    given = ((rule, rule.applies(facts)) for rule in RULES)
    return tuple(Advice(text=rule.text, reason=reason, entry=rule.entry) for rule, reason in given if reason)


def _new_or_known(facts: Facts) -> str:
    trained = facts.survey.whole.trained_pooled
    left_out = 0.0 if trained is None else 1 - trained
    if facts.traits.control or facts.traits.trains_all or left_out < _MUCH_LEFT_OUT:
        return ""
    return f"the policy leaves out {left_out:.1%} of the response tokens"


def _control(facts: Facts) -> str:
    return "the policy is a control" if facts.traits.control else ""


def _own_answers(facts: Facts) -> str:
    own = facts.own_answers
    if own is None or own.data_median is None or own.own_median is None:
        return ""
    if own.data_median < _FAR_ABOVE * own.own_median:
        return ""
    return f"the data's median sentence perplexity is {own.data_median:.2f}, that of own answers {own.own_median:.2f}"


def _dialogues(facts: Facts) -> str:
    if not any(_is_dialogue(source) for source in facts.survey.sources):
        return ""
    return "the data holds dialogues of the model with itself"


def _is_dialogue(source: SourceProfile) -> bool:
    return source.source.partition("/")[0] == Origin.SELF_DIALOGUE


RULES: Final = (
    Rule(
        text="Evaluate the base model on this task before you train. On pocket at a rate of 2e-4, STM 2.5 kept 46 % of"
        " a task of which the base solves 56 % (plain fine-tuning 1 %), and learnt nothing of a task of which the base"
        " solves none: there the lesson lies in the tokens that STM leaves out.",
        entry="2026-11-27, evening · At twice the rate the paper's picture appears",
        applies=_new_or_known,
    ),
    Rule(
        text="Let tokensieve calibrate find out whether the lesson lies in those tokens. On pocket its pilot took 83 %"
        " of the unlikely tokens' nll of a new task, on rows that it had not seen, and 20 % in a foreign hand.",
        entry="2026-12-01 · Calibration's own choices",
        applies=_new_or_known,
    ),
    Rule(
        text="Where the task is new, train all tokens and hold the model to its base on anchors (tokensieve anchors)."
        " On pocket's house conventions at 2e-4 that ended at 70 % and a BWT of -4.9 %, plain fine-tuning at 81 % and"
        " -21.9 %, on validation problems and with one seed.",
        entry="2026-12-01 · More steps, not higher rates",
        applies=_new_or_known,
    ),
    Rule(
        text="Train a control for comparison only. On pocket's foreign hand at 2e-4, as many tokens left out at random"
        " ended at 2 %, where STM 2.5 ended at 46 %.",
        entry="2026-11-27, evening · At twice the rate the paper's picture appears",
        applies=_control,
    ),
    Rule(
        text="Try the model's own checked answers in place of the data's, where the task has a checker. On pocket's"
        " foreign hand at 2e-4, Self-Output ended at 58 %, STM 2.5 at 46 %, plain fine-tuning at 1 % (one seed).",
        entry="2026-11-27, evening · At twice the rate the paper's picture appears",
        applies=_own_answers,
    ),
    Rule(
        text="Do not count on mixed-in dialogues alone to keep other skills. On pocket's house conventions at 1e-4, a"
        " share of 0.3 left BWT at -22.0 %, where it was -21.4 % without them.",
        entry="2026-11-27, evening · Rehearsal by self-dialogue helps little on pocket",
        applies=_dialogues,
    ),
)
"""All advice there is."""
