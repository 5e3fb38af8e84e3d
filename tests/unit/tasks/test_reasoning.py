"""Text behind a model's reasoning, for every checker."""

from pathlib import Path

import pytest

from tokensieve.tasks import TASKS, get_task
from tokensieve.tasks.reasoning import behind_reasoning
from tokensieve.types import Outcome, Problem

WRAPPED = [
    "<think>\n{wrong}\n</think>\n\n{right}",
    "<think>{wrong}</think>{right}",
    "{wrong}\n</think>\n\n{right}",  # the chat template opened it in the prompt
    "<thinking>\n{wrong}\n</thinking>\n{right}",
    "<Reasoning>\n{wrong}\n</Reasoning>\n{right}",
    "<thought>{wrong}</thought>\n{right}",
    "[THINK]{wrong}[/THINK]{right}",
    "<think>\n\n</think>\n\n{right}",
    "<think>{wrong}</think>\n<think>{wrong}</think>\n{right}",
    "<think>I shall close with `</think>`. {wrong}</think>\n{right}",
    "Let me see.\n<think>{wrong}</think>\n{right}",
    "<think>{wrong}</think><answer>{right}</answer>",
    "<think>{wrong}</think>\n\n<answer>\n{right}\n</answer>\n",
    "<|channel|>analysis<|message|>{wrong}<|end|><|start|>assistant<|channel|>final<|message|>{right}<|return|>",
    "<|channel|>analysis<|message|>{wrong}<|end|><|start|>assistant<|channel|>commentary<|message|>{wrong}<|end|>"
    "<|start|>assistant<|channel|>final<|message|>{right}",
    "analysis{wrong}assistantfinal{right}",
    "\u25c1think\u25b7{wrong}\u25c1/think\u25b7{right}",
    "<|begin_of_thought|>{wrong}<|end_of_thought|>\n<|begin_of_solution|>{right}<|end_of_solution|>",
    "<|START_THINKING|>{wrong}<|END_THINKING|><|START_RESPONSE|>{right}<|END_RESPONSE|>",
    "<|channel>thought\n{wrong}<channel|>{right}",
    "<seed:think>{wrong}</seed:think>{right}",
    "<unused94>thought\n{wrong}<unused95>{right}",
    "<|inner_prefix|>{wrong}<|inner_suffix|>{right}",
    "<rationale>{wrong}</rationale>\n{right}",
    "<think>{wrong}</think>\n<|begin_of_box|>{right}<|end_of_box|>",
    "{right}",
]
UNENDED = [
    "<think>\n{right}",
    "<think>\n{wrong}\n\n{right}",
    "Sure! <thinking>{right}",
    "[THINK]{right}",
    "<|channel|>analysis<|message|>{right}",
    "<think>{wrong}</think>\n<think>{right}",
]


def problem_of(name: str, **facts: object) -> Problem:
    return Problem(f"{name}/1", name, ({"role": "user", "content": "?"},), "", facts)  # type: ignore[arg-type]


CODE = {"tests": ["assert f(1) == 2"], "setup": "", "names": ["f"]}
CHOICES = {"answer": "B", "labels": ["A", "B"], "choices": ["sharks", "dogs"]}
CASES = [
    ("gsm8k", problem_of("gsm8k", answer="8"), "The answer is 5.", "It is 8."),
    ("gsm8k_paper", problem_of("gsm8k_paper", answer="8"), "#### 5", "#### 8"),
    ("math", problem_of("math", answer="8"), "\\boxed{5}", "\\boxed{8}"),
    ("math_boxed", problem_of("math_boxed", answer="8"), "\\boxed{5}", "\\boxed{8}"),
    ("arc_challenge", problem_of("arc_challenge", **CHOICES), "Sharks are fish (A).", "B"),
    ("arc_challenge_letter", problem_of("arc_challenge_letter", **CHOICES), "A", "B"),
    ("mbpp", problem_of("mbpp", **CODE), "```python\ndef f(x): return 1\n```", "```python\ndef f(x): return 2\n```"),
]


@pytest.mark.parametrize(("name", "problem", "wrong", "right"), CASES, ids=[case[0] for case in CASES])
def test_every_checker_judges_what_stands_behind_the_reasoning(
    name: str, problem: Problem, wrong: str, right: str, request: pytest.FixtureRequest
) -> None:
    if name == "mbpp":
        request.getfixturevalue("sandbox")
    task = TASKS[name]
    assert task.check(problem, wrong).outcome is Outcome.WRONG
    assert [w for w in WRAPPED if not task.check(problem, w.format(wrong=wrong, right=right)).correct] == []
    found = {w: task.check(problem, w.format(wrong=wrong, right=right)).outcome for w in UNENDED}
    assert set(found.values()) == {Outcome.NO_ANSWER}, found


def test_a_task_of_ones_own_gets_the_answer_without_reasoning(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"q": "Which?", "a": "Paris"}\n')
    (tmp_path / "own.yaml").write_text(
        "name: own\nrows: {test: rows.jsonl}\nprompt: '{{ q }}'\ngold: '{{ a }}'\n"
        "check: {kind: exact, answer: '{{ a }}'}\n"
    )
    task = get_task(str(tmp_path / "own.yaml"))
    problem = next(task.problems("test"))
    assert task.check(problem, "<think>Rome?</think>\n\nParis").correct
    assert task.check(problem, "<think>Paris").outcome is Outcome.NO_ANSWER


@pytest.mark.parametrize(
    "text",
    [
        "Put it in a '<think>' tag.",
        'x = re.sub(r"</think>", "", x)',
        "    return 1\n",
        "analysis of the data shows 5",
        "<answer>5</answer> and more",
        "",
    ],
)
def test_a_text_without_reasoning_stays_as_it_is(text: str) -> None:
    assert behind_reasoning(text) == text


def test_the_first_line_behind_reasoning_keeps_its_indent() -> None:
    assert behind_reasoning("<think>x</think>\n\n    return 1\n") == "    return 1\n"
