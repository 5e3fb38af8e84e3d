"""Compositions of steps: the description, the function in the model's own style, and tests of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import cast

from tools.pocket.generator.seeding import split_words
from tools.pocket.generator.steps import ON_INTS, ON_TEXT, ON_WORDS, Shape, Step, filled
from tools.pocket.generator.vocabulary import WORDS

SEQUENCES = {"ints": "xs", "words": "ws", "text": "s"}
ELEMENTS = {"ints": "x", "words": "w", "text": "c"}
_NAMES = split_words(
    "solve run work pick make find build count_up collect convert reduce_all process select combine "
    "extract measure compute prepare reshape filter_all arrange evaluate summarise inspect gather sift "
    "tally derive"
)


@dataclass(frozen=True, slots=True)
class Program:
    """A function to be reference_code.

    Attributes:
        name: its name.
        takes: shape of its argument.
        has_k: whether it takes a second argument, the whole number ``k``.
        steps: what it does, in order; the last may end it with one value.
    """

    name: str
    takes: Shape
    has_k: bool
    steps: tuple[Step, ...]

    @property
    def parameters(self) -> str:
        """The parameter list."""
        return SEQUENCES[self.takes] + (", k" if self.has_k else "")


def compose(rng: Random, depth: int) -> Program:
    """A program of ``depth`` steps drawn at random; at most one of them uses ``k``."""
    takes: Shape = rng.choice(("ints", "ints", "ints", "words", "words", "text"))
    steps: list[Step] = []
    shape: Shape = takes
    ends = rng.random() < 0.65
    while len(steps) < depth:
        last = len(steps) == depth - 1
        step = filled(rng, _any_step(rng, shape, end=ends and last))
        if _clashes(steps, step):
            continue
        steps.append(step)
        shape = step.gives
    has_k = any(_uses_k(step) for step in steps)
    return Program(rng.choice(_NAMES), takes, has_k, tuple(steps))


def _any_step(rng: Random, shape: Shape, *, end: bool) -> Step:
    if shape == "text":
        return rng.choice(ON_TEXT if not end else ON_TEXT[:3]) if rng.random() < 0.5 else rng.choice(ON_TEXT[:3])
    tables = ON_INTS if shape == "ints" else ON_WORDS
    if end:
        return rng.choice(tables["end"])
    return rng.choice(tables[rng.choice(("filter", "filter", "map", "map", "whole"))])


def _uses_k(step: Step) -> bool:
    return step.code.endswith((" k", "k == 0")) or " k " in step.code


def _clashes(steps: Sequence[Step], step: Step) -> bool:
    """True where the step repeats one before it, would be the second to use k, or may fail on what they leave."""
    if any(step.code == other.code or (_uses_k(step) and _uses_k(other)) for other in steps):
        return True
    # An empty word has no first letter: nothing indexes into words that a step, or a split text, may have emptied.
    if any(place in step.code for place in ("{v}[0]", "{v}[-1]", "w[-1]")) and any(map(_may_empty, steps)):
        return True
    split = any(other.takes == "text" for other in steps)
    if split and step.takes == "words" and step.kind != "whole" and ("[0]" in step.code or "[-1]" in step.code):
        return True
    changed = split or any(other.kind == "map" and other.gives == "words" for other in steps)
    return changed and step.code.startswith("sorted({v}, key=lambda w")


def _may_empty(step: Step) -> bool:
    return step.kind == "map" and any(part in step.code for part in ("[1:]", "[:-1]", "''"))


def describe(program: Program, rng: Random) -> str:
    """The request in words."""
    *first, last = (step.wording for step in program.steps)
    ends = program.steps[-1].kind not in ("filter", "map", "whole")
    sentences = [*first, f"return {last}" if ends else last]
    subject = {"ints": "a list of numbers", "words": "a list of words", "text": "a text"}[program.takes]
    if not ends:
        sentences.append("return the result")
    style = rng.randrange(3)
    head = f"Write a Python function {program.name}({program.parameters}) that takes {subject}"
    head += " and a number." if program.has_k else "."
    if style == 0 or len(sentences) < 3:
        return f"{head} {_sentence(', then '.join(sentences))}"
    if style == 1:
        return f"{head} {' '.join(_sentence(step) for step in sentences)}"
    parts = (f"first {sentences[0]}", f"then {', '.join(sentences[1:-1])}", f"finally {sentences[-1]}")
    return f"{head} {' '.join(_sentence(part) for part in parts)}"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def reference_code(program: Program) -> str:
    """The function in the model's own style: a comprehension for each filter, map or both, a return at the end."""
    lines = [f"def {program.name}({program.parameters}):"]
    name = SEQUENCES[program.takes]
    for index, expression, gives in expressions(program):
        result = SEQUENCES.get(gives, "")
        if index == len(program.steps) - 1:
            lines.append(f"    return {expression.format(v=name)}")
        else:
            lines.append(f"    {result} = {expression.format(v=name)}")
            name = result
    return "\n".join(lines)


def expressions(program: Program) -> list[tuple[int, str, Shape]]:
    """Index of the last step it covers, the expression over the sequence ``{v}``, and its shape, one a line.

    A filter waits for the next step: a map or a second filter takes its condition along or leaves it a line of its own.
    """
    made: list[tuple[int, str, Shape]] = []
    waiting: Step | None = None
    for index, step in enumerate(program.steps):
        if waiting is not None and step.kind != "map":
            made.append((index - 1, _each(waiting, ELEMENTS[waiting.takes], waiting), waiting.gives))
            waiting = None
        if step.kind == "filter":
            waiting = step
        elif step.kind == "map":
            made.append((index, _each(step, step.code.format(v=ELEMENTS[step.takes]), waiting), step.gives))
            waiting = None
        elif step.kind in ("whole", "value"):
            made.append((index, step.code, step.gives))
        else:
            element = ELEMENTS[step.takes]
            fold = "sum" if step.kind in ("sum", "count") else step.kind
            made.append((index, f"{fold}({step.code.format(v=element)} for {element} in {{v}})", step.gives))
    if waiting is not None:
        made.append((len(program.steps) - 1, _each(waiting, ELEMENTS[waiting.takes], waiting), waiting.gives))
    return made


def _each(step: Step, result: str, condition: Step | None) -> str:
    """A comprehension over the sequence, with the condition of a filter where there is one."""
    element = ELEMENTS[step.takes]
    suffix = f" if {condition.code.format(v=element)}" if condition is not None else ""
    return f"[{result} for {element} in {{v}}{suffix}]"


def assertions(program: Program, rng: Random, count: int = 6) -> list[str]:
    """Assertions on drawn arguments; the expected values come from running the function in the model's own style."""
    space: dict[str, object] = {}
    exec(reference_code(program), space)  # noqa: S102 - our own text, composed from the tables of _steps alone
    function = cast("Callable[..., object]", space[program.name])
    lines = []
    for _ in range(count):
        arguments: list[object] = [_argument(rng, program.takes)]
        if program.has_k:
            arguments.append(rng.randint(2, 6))
        call = ", ".join(repr(argument) for argument in arguments)
        lines.append(f"assert {program.name}({call}) == {function(*arguments)!r}")
    return lines


def _argument(rng: Random, shape: Shape) -> object:
    if shape == "ints":
        return [rng.randint(-12, 45) for _ in range(rng.randint(5, 9))]
    words = [rng.choice(WORDS) for _ in range(rng.randint(5, 8))]
    if shape == "words":
        return words
    return (",".join if rng.random() < 0.3 else " ".join)(words)
