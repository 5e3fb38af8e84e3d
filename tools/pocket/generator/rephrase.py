"""Rephrase problems: the reference is in another style, the answer in the model's own."""

import re
from collections.abc import Callable
from random import Random

from tools.pocket.generator import arithmetic, choice, words
from tools.pocket.generator.code_styles import familiar_style, write_in_style
from tools.pocket.generator.programs import compose, describe, reference_code
from tools.pocket.generator.queries import FORM_WEIGHTS, PLAIN, Conventions, draw_question, plain_literal
from tools.pocket.generator.schemas import Column, Value, draw_schema
from tools.pocket.generator.seeding import Draft
from tools.pocket.generator.sql import shown

from tokensieve.tasks.pocket import rephrase_text


def draw(rng: Random, choice: Callable[[Random], Draft] = choice.draw) -> Draft:
    """A rephrase problem of one of the skills; the answer follows the reference in the model's own style."""
    kind = rng.random()
    if kind < 0.5:
        return _python(rng)
    if kind < 0.75:
        return _sql(rng)
    if kind < 0.9:
        draft = arithmetic.draw(rng, rng.randint(1, 4))
        reference = _retold(rng, draft.gold)
    else:
        draft = choice(rng) if rng.random() < 0.5 else words.draw(rng, rng.randint(2, 6))
        reference = f"{rng.choice(('The answer is', 'It must be', 'Result:'))} {draft.gold.rsplit('Answer: ', 1)[1]}."
    return Draft(draft.key, rephrase_text(draft.prompt, reference), draft.gold)


def _python(rng: Random) -> Draft:
    program = compose(rng, rng.randint(1, 4))
    prompt = describe(program, rng)
    key = "; ".join(step.code for step in program.steps)
    return Draft(key, rephrase_text(prompt, write_in_style(program, familiar_style(rng), rng)), reference_code(program))


def _retold(rng: Random, gold: str) -> str:
    """The worked steps as another person puts them."""
    *lines, final = gold.splitlines()
    glue = rng.choice(("; ", ". Then ", ", so "))
    steps = glue.join(line.replace(" = ", rng.choice((" is ", " gives ", "="))) for line in lines)
    return f"{steps}. {rng.choice(('The answer is', 'That leaves', 'In all'))} {final.removeprefix('#### ')}."


def _sql(rng: Random) -> Draft:
    """A reference under conventions of its own, in other casing; the answer keeps the reference's literals."""
    schema = draw_schema(rng)
    conventions = PLAIN if rng.random() < 0.3 else _odd_conventions(rng)
    seed = rng.random()
    # The same draws under both conventions: one question, its query as the reference's author writes it.
    question, _ = draw_question(Random(seed), schema, FORM_WEIGHTS, PLAIN)  # noqa: S311
    _, query = draw_question(Random(seed), schema, FORM_WEIGHTS, conventions)  # noqa: S311
    listed = shown(schema, PLAIN if rng.random() < 0.5 else conventions)
    prompt = f"{listed}\n{question}"
    return Draft(prompt, rephrase_text(prompt, _recased(rng, query)), query)


def _odd_conventions(rng: Random) -> Conventions:
    """Names with a drawn ending, amounts in other units, dates and states encoded, sometimes one more condition."""
    letters = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(2))
    ending = rng.choice(("", f"_{letters}", "_tab", "_v2"))
    unit, offset = rng.choice((1, 10, 100, 1000)), rng.randint(0, 9)
    encoded = rng.random() < 0.5

    def literal(column: Column, value: Value) -> str:
        if column.kind == "money" and isinstance(value, int):
            return str(value * unit)
        if encoded and column.kind == "date":
            return str(value).replace("-", "")
        if encoded and column.kind == "state" and isinstance(value, str):
            return str(column.values.index(value) + offset)
        return plain_literal(column, value)

    always = rng.choice(("", f"{{at}}{letters} = {offset}", "{at}deleted = 0", "{at}live = 1"))
    start = rng.choice(("", "", f"{letters[0]}_"))
    return Conventions(lambda name: f"{name}{ending}", lambda column: f"{start}{column.name}", literal, always)


def _recased(rng: Random, query: str) -> str:
    """The query as another person types it: small keywords, line breaks, no semicolon."""
    if rng.random() < 0.6:
        query = re.sub(r"\b[A-Z]{2,}\b", lambda found: found.group().lower(), query)
    if rng.random() < 0.4:
        query = re.sub(r" (FROM|WHERE|GROUP|ORDER|from|where|group|order)\b", r"\n\1", query)
    return query.rstrip(";") if rng.random() < 0.5 else query
