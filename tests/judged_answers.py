"""Answers judged against what a person says of them."""

from collections.abc import Mapping, Sequence

from tokensieve.tasks import TASKS
from tokensieve.types import JSON, Problem, Verdict


def misjudged(
    name: str, facts: dict[str, JSON], answers: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str], Verdict]:
    """The verdicts of a task's checker that are not those of a person, by expected outcome and answer.

    Args:
        name: of the task.
        facts: what its checker knows of the problem.
        answers: by the outcome that a person gives them.
    """
    problem = Problem(f"{name}/1", name, ({"role": "user", "content": "?"},), "", facts)
    judged = {(outcome, text): TASKS[name].check(problem, text) for outcome, texts in answers.items() for text in texts}
    return {key: verdict for key, verdict in judged.items() if verdict.outcome.value != key[0]}
