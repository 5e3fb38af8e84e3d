"""Made-up problems and judged answers for synthetic reports: every finding occurs, and some texts are hostile."""

from collections.abc import Mapping

from tokensieve.types import BoolArray, Outcome, Problem, Sample, Verdict

HOSTILE_ANSWER = "</script><script>alert('x')</script>"
PROBLEMS = 100


def problems_of(task: str) -> list[Problem]:
    """The problems of a task; the question's words are those of the training rows."""
    asked = "Write a function that returns the squares" if "python" in task else "how many orders came from Lisbon"
    turn = "By the house's conventions: {} number {}?"
    return [
        Problem(f"{task}/test/{n}", task, ({"role": "user", "content": turn.format(asked, n)},), gold=f"#### {n}")
        for n in range(PROBLEMS)
    ]


def answers_of(flags: Mapping[str, BoolArray]) -> dict[str, list[Sample]]:
    """One answer a problem: right where the flag says so, else wrong, without an answer, or cut off."""
    return {task: [_answer(task, n, bool(flag)) for n, flag in enumerate(own)] for task, own in flags.items()}


def _answer(task: str, n: int, correct: bool) -> Sample:
    failed = (Outcome.WRONG, Outcome.NO_ANSWER, Outcome.WRONG, Outcome.CUT_OFF)[n % 4]
    outcome = Outcome.CORRECT if correct else failed
    text = f"#### {n}" if correct else f"I think of {n + 1}. {HOSTILE_ANSWER if n % 5 == 0 else ''}"
    judged = None if outcome is Outcome.NO_ANSWER else str(n if correct else n + 1)
    return Sample(
        f"{task}/test/{n}", task, 0, text, finished=outcome is not Outcome.CUT_OFF, verdict=Verdict(outcome, judged)
    )
