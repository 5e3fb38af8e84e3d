"""HumanEval: complete a Python function from its signature and docstring, judged by running its tests."""

import ast
import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from tokensieve.tasks.answer_blocks import blocks, unclosed_block
from tokensieve.tasks.answer_code import INVISIBLE, PROSE_LINES, bound_names, segment, syntax_tree
from tokensieve.tasks.benchmark_io import Row, find_file, from_hub, read_rows, require_split
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
        rows = read_rows(find_file(folder, "humaneval", "HumanEval.jsonl"))
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


def function_body(prompt: str, answer: str, name: str) -> str | None:
    """A program of a prompt that ends in a function's signature and an answer that is the function's body.

    The answer may be fenced; its first indent, or all of it, may be lost; prose may follow.

    Args:
        prompt: imports, helpers, and the function's signature with its docstring.
        answer: the body.
        name: the function's.

    Returns:
        The program; None where the answer is no body.
    """
    fenced = blocks(answer)
    body = fenced[-1].text if fenced else answer
    lines = body.translate(INVISIBLE).strip("\r\n").splitlines(keepends=True)
    # "Here is the body:", and then the body.
    prose = next((place for place, line in enumerate(lines) if line[:1] in " \t"), 0)
    return _with_body(prompt, lines, name) or _with_body(prompt, lines[prose:], name)


def _with_body(prompt: str, lines: Sequence[str], name: str) -> str | None:
    """The program of a prompt and the longest run of first lines that is its function's body; None without one."""
    begin = len(prompt.rstrip().splitlines())
    for end in range(len(lines), max(0, len(lines) - PROSE_LINES), -1):
        for shaped in _indented("".join(lines[:end])):
            program = f"{prompt}{shaped}"
            tree = syntax_tree(program)
            for place, node in enumerate(tree.body):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _goes_on(node, name, begin):
                    helpers = [segment(program, part) for part in tree.body[place + 1 :] if bound_names(part)]
                    return "".join(["".join(program.splitlines(keepends=True)[: node.end_lineno]), "\n", *helpers])
    return None


def _indented(body: str) -> list[str]:
    """The ways in which a function's body may have been meant whose indent was lost in part."""
    if not body.strip():
        return []
    if body[:1] in " \t":
        return [body, textwrap.indent(textwrap.dedent(body), "    ")]
    first = f"    {body}"
    whole = textwrap.indent(body, "    ")
    behind = [line for line in body.splitlines()[1:] if line.strip()]
    return [first, whole] if all(line[:1] in " \t" for line in behind) else [whole, first]


def _goes_on(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str, begin: int) -> bool:
    """True for the function of a name with statements behind a line that are more than a word."""
    added = [part for part in node.body if part.lineno > begin]
    words = [part for part in added if isinstance(part, ast.Expr) and isinstance(part.value, ast.Name | ast.Constant)]
    return node.name == name and len(words) < len(added)


def _problem(row: Row) -> Problem:
    prompt = row.text("prompt")
    facts: dict[str, JSON] = {"prompt": prompt, "entry_point": row.text("entry_point"), "test": row.text("test")}
    turn: Message = {"role": "user", "content": f"{_INSTRUCTION}\n\n```python\n{prompt}```"}
    return Problem(row.text("task_id"), "humaneval", (turn,), prompt + row.text("canonical_solution"), facts)


HUMANEVAL_TASKS = {
    "humaneval": Task("humaneval", "HumanEval: Python functions, run against their tests", ("test",), load, check),
}
