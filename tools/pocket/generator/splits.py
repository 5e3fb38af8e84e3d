"""The splits of pocket's tasks: how each task draws a problem, how hard it is, and the problems of a split in order."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random

from tools.pocket.generator import arithmetic, choice, sql, words
from tools.pocket.generator.code_styles import any_style, write_in_style
from tools.pocket.generator.programs import Program, assertions, compose, describe, reference_code
from tools.pocket.generator.queries import FORM_WEIGHTS, PLAIN
from tools.pocket.generator.seeding import Draft, Part, part_of, seeded, weighted
from tools.pocket.generator.sql import HOUSE, HOUSE_FLAG, HOUSE_REMARK

from tokensieve.types import JSON

SIZES: dict[Part, int] = {"train": 400, "validation": 100, "test": 200}
"""Problems in each shipped split."""

_ARITHMETIC_STEPS = {2: 0.2, 3: 0.3, 4: 0.3, 5: 0.2}
_PYTHON_DEPTHS: dict[Part, dict[int, float]] = {
    "train": {3: 0.4, 4: 0.4, 5: 0.2},
    "validation": {5: 0.4, 6: 0.6},
    "test": {5: 0.4, 6: 0.6},
}
"""Steps of a function by split; training problems are shorter, so that a study takes minutes."""
_CHOICE_KINDS = {**choice.KIND_WEIGHTS, "lookup": 0.5, "sequence": 0.5}
_QUERY_FORMS = {**FORM_WEIGHTS}
_MORE_CONDITIONS = {0: 0.4, 1: 0.6}
_OPERATIONS = {
    **words.OPERATIONS, "count_letter": 1.0, "neighbour": 0.3, "swap": 0.5, "having": 0.5,
    "last_first": 0.5, "sort": 0.3,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class GeneratedProblem:
    """A problem as it is shipped.

    Attributes:
        id: ``TASK/SPLIT/NUMBER``, numbers from 0.
        key: text that no two problems share within or across splits: the prompt, or the composition behind it.
        prompt: the user's turn.
        gold: the reference response.
        facts: what the checker needs.
    """

    id: str
    key: str
    prompt: str
    gold: str
    facts: Mapping[str, JSON]


def generate(task: str, split: Part, count: int | None = None) -> Iterator[GeneratedProblem]:
    """The first problems of a split, the same on every machine, no key twice.

    A larger count extends the split: the problems of a smaller one come first, unchanged.

    Args:
        task: name of the task.
        split: train, validation or test.
        count: number of problems; None is the shipped size.
    """
    draw = TASK_DRAWS[task]
    # The two Python tasks share their stream, and so their problems.
    stream = "pocket_python" if task == "pocket_python_foreign" else task
    rng = seeded(stream, split)
    keys: set[str] = set()
    while len(keys) < (SIZES[split] if count is None else count):
        draft = draw(rng, split)
        if part_of(draft.key) != split or draft.key in keys:
            continue
        # A random stream of its own: what finishing draws must not change which problems come after.
        rest = draft.finish(seeded(stream, split, draft.key)) if draft.finish else {}
        if rest is None:
            continue
        problem_id = f"{task}/{split}/{len(keys)}"
        keys.add(draft.key)
        yield GeneratedProblem(problem_id, draft.key, draft.prompt, draft.gold, {**draft.facts, **rest})


def _arithmetic(rng: Random, _split: Part) -> Draft:
    return arithmetic.draw(rng, weighted(rng, _ARITHMETIC_STEPS))


def _choice(rng: Random, _split: Part) -> Draft:
    return choice.draw(rng, _CHOICE_KINDS)


def _words(rng: Random, _split: Part) -> Draft:
    return words.draw(rng, rng.randint(4, 6), _OPERATIONS)


def _sql(rng: Random, _split: Part) -> Draft:
    """A question in plain conventions, with a database on which the gold query returns rows."""
    return sql.draw_judged(rng, _QUERY_FORMS, PLAIN, more=weighted(rng, _MORE_CONDITIONS))


def _house_sql(rng: Random, _split: Part) -> Draft:
    """A question as in ``pocket_sql``, answered in the house's conventions, which the prompt does not state."""
    return sql.draw_judged(rng, _QUERY_FORMS, HOUSE, remark=HOUSE_REMARK, flag=HOUSE_FLAG)


def _python(rng: Random, split: Part) -> Draft:
    return _program(rng, split)[1]


def _foreign_python(rng: Random, split: Part) -> Draft:
    """A problem of ``pocket_python`` with its gold in another person's code style."""
    program, draft = _program(rng, split)
    # A random stream of its own: the style must not change which problems the shared stream draws.
    style_rng = seeded("hand", draft.prompt)
    return replace(draft, gold=write_in_style(program, any_style(style_rng), style_rng))


def _program(rng: Random, split: Part) -> tuple[Program, Draft]:
    """A program and its draft, whose tests tell the function from one that returns a constant."""
    program = compose(rng, weighted(rng, _PYTHON_DEPTHS[split]))
    key = "; ".join(step.code for step in program.steps)

    def finish(rng: Random) -> Mapping[str, JSON] | None:
        tests = assertions(program, rng)
        return {"tests": list(tests)} if len({test.split(" == ", 1)[1] for test in tests}) > 2 else None

    return program, Draft(key, describe(program, rng), reference_code(program), {"name": program.name}, finish)


TASK_DRAWS: dict[str, Callable[[Random, Part], Draft]] = {
    "pocket_arithmetic": _arithmetic,
    "pocket_python": _python,
    "pocket_sql": _sql,
    "pocket_choice": _choice,
    "pocket_words": _words,
    "pocket_python_foreign": _foreign_python,
    "pocket_sql_house": _house_sql,
}
"""Each task's function that draws one draft; the draft's key decides which split it belongs to."""
