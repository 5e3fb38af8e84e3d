"""Judging an answer that is Python code: find the code, run it and its tests in the sandbox, say what happened."""

from collections.abc import Sequence

from tokensieve.sandbox import Limits, run_parts
from tokensieve.tasks import answer_code
from tokensieve.types import Outcome, Verdict

PROGRAM_LIMITS = Limits(wall_s=30.0, cpu_s=8.0)
"""For the published benchmarks: one reference (mbpp/123) takes two seconds, and four on a busy machine."""


def judge_program(
    answer: str,
    *,
    names: Sequence[str],
    before: Sequence[str] = (),
    before_tests: Sequence[str] = (),
    tests: Sequence[str],
    limits: Limits = PROGRAM_LIMITS,
    own_equality: bool = False,
) -> Verdict:
    """Run an answer's code with its tests.

    Args:
        answer: the raw response.
        names: functions that the code is to define, to find it by.
        before: parts that run before the answer's code.
        before_tests: parts that run between it and the tests.
        tests: the tests, one part each; all must run to their end.
        limits: limits of the whole program.
        own_equality: whether an object of the answer's own class may decide that it equals what a test compares it
            with; it passes every test if it wants to.

    Raises:
        EnvironmentProblem: the sandbox cannot run here.
    """
    source = answer_code.code(answer, names)
    if source is None:
        return Verdict(Outcome.NO_ANSWER, reason="no Python code in the answer")
    if answer_code.unclosed_block(answer) and not answer_code.parses(source):
        return Verdict(Outcome.CUT_OFF, source, "the code block is never closed and does not parse")
    run = run_parts(
        [*before, source, *before_tests, *tests], limits, checks_from=len(before) + 1, own_equality=own_equality
    )
    if run.ok:
        return Verdict(Outcome.CORRECT, source)
    first_test = len(before) + 1 + len(before_tests)
    if run.reached >= first_test:
        place = f"test {run.reached - first_test + 1} of {len(tests)}: "
    else:
        place = "before the tests: " if run.reached > len(before) else ""
    return Verdict(Outcome.WRONG, source, place + run.reason)
