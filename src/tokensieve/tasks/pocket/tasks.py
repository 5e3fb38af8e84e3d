"""What each of pocket's tasks draws, and how hard: set so that the shipped model has something to lose and to gain."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

from tokensieve.sandbox import Limits
from tokensieve.tasks.benchmark_io import texts
from tokensieve.tasks.pocket import arithmetic, choice, sql, words
from tokensieve.tasks.pocket.code_styles import any_hand, by_hand
from tokensieve.tasks.pocket.draw import Draft, seeded, weighted
from tokensieve.tasks.pocket.load import problems
from tokensieve.tasks.pocket.programs import Program, assertions, compose, described, written
from tokensieve.tasks.pocket.queries import FORM_WEIGHTS, PLAIN
from tokensieve.tasks.pocket.sql_conventions import HOUSE, HOUSE_FLAG, HOUSE_REMARK
from tokensieve.tasks.program import judge_program
from tokensieve.tasks.queries import Comparison, judge_query
from tokensieve.types import JSON, Problem, Verdict

_ARITHMETIC_STEPS = {2: 0.2, 3: 0.3, 4: 0.3, 5: 0.2}
_PYTHON_DEPTHS = {"train": {3: 0.4, 4: 0.4, 5: 0.2}, "validation": {5: 0.4, 6: 0.6}, "test": {5: 0.4, 6: 0.6}}
"""Steps of a function by split: what is trained on is shorter, so that a study takes minutes."""
_CHOICE_KINDS = {**choice.KIND_WEIGHTS, "lookup": 0.5, "sequence": 0.5}
_QUERY_FORMS = {**FORM_WEIGHTS}
_MORE_CONDITIONS = {0: 0.4, 1: 0.6}
_OPERATIONS = {
    **words.OPERATIONS, "count_letter": 1.0, "neighbour": 0.3, "swap": 0.5, "having": 0.5,
    "last_first": 0.5, "sort": 0.3,
}  # fmt: skip
_PROGRAM_LIMITS = Limits(wall_s=10.0, cpu_s=2.0)


def load_arithmetic(split: str, folder: Path | None) -> Iterator[Problem]:
    """Stories of two to five events."""
    return problems(
        "pocket_arithmetic", split, folder, lambda rng: arithmetic.draw(rng, weighted(rng, _ARITHMETIC_STEPS))
    )


def load_choice(split: str, folder: Path | None) -> Iterator[Problem]:
    """Questions with four options."""
    return problems("pocket_choice", split, folder, lambda rng: choice.draw(rng, _CHOICE_KINDS))


def load_words(split: str, folder: Path | None) -> Iterator[Problem]:
    """Operations on words and letters."""
    return problems("pocket_words", split, folder, lambda rng: words.draw(rng, rng.randint(4, 6), _OPERATIONS))


def load_sql(split: str, folder: Path | None) -> Iterator[Problem]:
    """Questions over a schema in plain conventions, with a database whose answer is not empty."""

    def draw(rng: Random) -> Draft:
        return sql.draw_judged(rng, _QUERY_FORMS, PLAIN, more=weighted(rng, _MORE_CONDITIONS))

    return problems("pocket_sql", split, folder, draw)


def load_house(split: str, folder: Path | None) -> Iterator[Problem]:
    """Questions as in ``pocket_sql``, answered and judged in the house's conventions, which the prompt names only."""

    def draw(rng: Random) -> Draft:
        return sql.draw_judged(rng, _QUERY_FORMS, HOUSE, remark=HOUSE_REMARK, flag=HOUSE_FLAG)

    return problems("pocket_sql_house", split, folder, draw)


def load_python(split: str, folder: Path | None) -> Iterator[Problem]:
    """Functions to write, with the tests they must pass; the gold is in the model's own style."""
    return problems("pocket_python", split, folder, lambda rng: _python(rng, split)[1])


def load_foreign(split: str, folder: Path | None) -> Iterator[Problem]:
    """The problems of ``pocket_python``, each with a gold in some other person's hand."""
    return problems("pocket_python_foreign", split, folder, lambda rng: _foreign(rng, split), stream="pocket_python")


def _python(rng: Random, split: str) -> tuple[Program, Draft]:
    """A program, and its draft, which is finished with tests that tell the function from a constant."""
    program = compose(rng, weighted(rng, _PYTHON_DEPTHS[split]))
    key = "; ".join(step.code for step in program.steps)

    def finish(rng: Random) -> Mapping[str, JSON] | None:
        asked = assertions(program, rng)
        return {"tests": list(asked)} if len({test.split(" == ", 1)[1] for test in asked}) > 2 else None

    return program, Draft(key, described(program, rng), written(program), {"name": program.name}, finish)


def _foreign(rng: Random, split: str) -> Draft:
    program, draft = _python(rng, split)
    # A generator of its own: the hand must not shift which problems the shared stream draws.
    hand = seeded("hand", draft.prompt)
    return replace(draft, gold=by_hand(program, any_hand(hand), hand))


def check_python(problem: Problem, answer: str) -> Verdict:
    """Run the answer's code and each test in the sandbox."""
    names = (str(problem.facts["name"]),)
    asked = texts(problem.facts["tests"], "tests", problem.id)
    return judge_program(answer, names=names, tests=asked, limits=_PROGRAM_LIMITS)


def check_sql(problem: Problem, answer: str) -> Verdict:
    """Compare the rows of the answer's query with those of the gold query, equal rows counted."""
    script = str(problem.facts["database"])
    return judge_query(answer, problem.gold, script=script, comparison=Comparison.MULTISET)
