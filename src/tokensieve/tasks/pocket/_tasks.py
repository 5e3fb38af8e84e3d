"""What each of pocket's tasks draws, and how hard: set so that the shipped model has something to lose and to gain."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from random import Random

from tokensieve.tasks._program import judge_program
from tokensieve.tasks._queries import Comparison, judge_query
from tokensieve.tasks._sandbox import Limits
from tokensieve.tasks._source import texts
from tokensieve.tasks.pocket import _arithmetic, _choice, _sql, _words
from tokensieve.tasks.pocket._draw import Draft, seeded, weighted
from tokensieve.tasks.pocket._hands import any_hand, by_hand
from tokensieve.tasks.pocket._house import HOUSE, HOUSE_FLAG, HOUSE_REMARK
from tokensieve.tasks.pocket._load import problems
from tokensieve.tasks.pocket._programs import Program, assertions, compose, described, written
from tokensieve.tasks.pocket._queries import FORM_WEIGHTS, PLAIN
from tokensieve.types import JSON, Problem, Verdict

_ARITHMETIC_STEPS = {3: 0.2, 4: 0.3, 5: 0.3, 6: 0.2}
_PYTHON_DEPTHS = {3: 0.4, 4: 0.35, 5: 0.25}
_CHOICE_KINDS = {**_choice.KIND_WEIGHTS}
_QUERY_FORMS = {**FORM_WEIGHTS}
_WORD_COUNTS = {4: 0.2, 5: 0.3, 6: 0.3, 7: 0.2}
_PROGRAM_LIMITS = Limits(wall_s=10.0, cpu_s=2.0)


def load_arithmetic(split: str, folder: Path | None) -> Iterator[Problem]:
    """Stories of three to six events."""
    return problems(
        "pocket_arithmetic", split, folder, lambda rng: _arithmetic.draw(rng, weighted(rng, _ARITHMETIC_STEPS))
    )


def load_choice(split: str, folder: Path | None) -> Iterator[Problem]:
    """Questions with four options."""
    return problems("pocket_choice", split, folder, lambda rng: _choice.draw(rng, _CHOICE_KINDS))


def load_words(split: str, folder: Path | None) -> Iterator[Problem]:
    """Operations on words and letters."""
    return problems("pocket_words", split, folder, lambda rng: _words.draw(rng, weighted(rng, _WORD_COUNTS)))


def load_sql(split: str, folder: Path | None) -> Iterator[Problem]:
    """Questions over a schema in plain conventions, with a database whose answer is not empty."""
    return problems("pocket_sql", split, folder, lambda rng: _sql.draw_judged(rng, _QUERY_FORMS, PLAIN))


def load_house(split: str, folder: Path | None) -> Iterator[Problem]:
    """Questions as in ``pocket_sql``, answered and judged in the house's conventions, which the prompt names only."""

    def draw(rng: Random) -> Draft:
        return _sql.draw_judged(rng, _QUERY_FORMS, HOUSE, remark=HOUSE_REMARK, flag=HOUSE_FLAG)

    return problems("pocket_sql_house", split, folder, draw)


def load_python(split: str, folder: Path | None) -> Iterator[Problem]:
    """Functions to write, with the tests they must pass; the gold is in the model's own style."""
    return problems("pocket_python", split, folder, lambda rng: _python(rng)[1])


def load_foreign(split: str, folder: Path | None) -> Iterator[Problem]:
    """The problems of ``pocket_python``, each with a gold in some other person's hand."""
    return problems("pocket_python_foreign", split, folder, _foreign, stream="pocket_python")


def _python(rng: Random) -> tuple[Program, Draft]:
    """A program, and its draft, which is finished with tests that tell the function from a constant."""
    program = compose(rng, weighted(rng, _PYTHON_DEPTHS))
    key = "; ".join(step.code for step in program.steps)

    def finish(rng: Random) -> Mapping[str, JSON] | None:
        asked = assertions(program, rng)
        return {"tests": list(asked)} if len({test.split(" == ", 1)[1] for test in asked}) > 2 else None

    return program, Draft(key, described(program, rng), written(program), {"name": program.name}, finish)


def _foreign(rng: Random) -> Draft:
    program, draft = _python(rng)
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
