"""HumanEval: complete a Python function from its signature and docstring, judged by running its tests."""

import re
from collections.abc import Iterator
from pathlib import Path

from tokensieve.tasks.answer_code import function_body, unclosed_block
from tokensieve.tasks.benchmark_io import Row, find_file, from_hub, read_lines, require_split
from tokensieve.tasks.execution import judge_program
from tokensieve.tasks.task import Task
from tokensieve.types import JSON, Message, Outcome, Problem, Verdict

_INSTRUCTION = "Complete this Python function. Answer with the whole function, code only."


def load(split: str, folder: Path | None) -> Iterator[Problem]:
    """The 164 problems, in their order; there is one split."""
    require_split("humaneval", split, ("test",))
    if folder is None:
        rows = from_hub("openai/openai_humaneval", "test")
    else:
        rows = read_lines(find_file(folder, "humaneval", "HumanEval.jsonl"))
    for row in rows:
        yield _problem(row)


def check(problem: Problem, answer: str) -> Verdict:
    """Run the prompt, the answer's code, and the benchmark's ``check`` on the function, in the sandbox.

    An answer that does not define the function is taken as its body, to be put behind the prompt.
    """
    prompt, name = str(problem.facts["prompt"]), str(problem.facts["entry_point"])
    tests = [f"{problem.facts['test']}\n\ncheck({name})\n"]
    if not re.search(rf"\bdef {re.escape(name)}\b", answer):
        program = function_body(prompt, answer, name)
        if program is None and not unclosed_block(answer):
            return Verdict(Outcome.NO_ANSWER, reason=f"neither {name} nor its body in the answer")
        answer = program or f"{prompt}{answer}"
    # The prompt is a program by itself: its imports and helpers stay, its empty function is then replaced.
    return judge_program(answer, names=[name], before=[prompt], tests=tests)


def _problem(row: Row) -> Problem:
    prompt = row.text("prompt")
    facts: dict[str, JSON] = {"prompt": prompt, "entry_point": row.text("entry_point"), "test": row.text("test")}
    turn: Message = {"role": "user", "content": f"{_INSTRUCTION}\n\n```python\n{prompt}```"}
    return Problem(row.text("task_id"), "humaneval", (turn,), prompt + row.text("canonical_solution"), facts)


HUMANEVAL_TASKS = {
    "humaneval": Task("humaneval", "HumanEval: Python functions, run against their tests", ("test",), load, check),
}
