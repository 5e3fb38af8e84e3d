"""Text-to-SQL: drafts over small schemas, and the database each is judged on."""
# ruff: noqa: S608 - the queries are composed of our own names and values, for a private database

import sqlite3
from collections.abc import Mapping
from random import Random

from tools.pocket.generator.queries import FORM_WEIGHTS, PLAIN, Conventions, draw_question, plain_literal
from tools.pocket.generator.schemas import Column, Date, Schema, Value, draw_rows, draw_schema
from tools.pocket.generator.seeding import Draft

from tokensieve.types import JSON

_MANNERS = (
    "Answer with SQL.",
    "Write one SQLite query.",
    "Use the plain names.",
    "Standard rules apply.",
    "Shop rules apply.",
    "Common rules apply.",
)

HOUSE_REMARK = "House rules apply. "
"""All that the prompt says about the conventions."""
HOUSE_FLAG = "void"
"""Column of event tables that is 1 in deleted rows; no prompt shows it."""


def _literal(column: Column, value: Value) -> str:
    """SQL literal by the house's rules: amounts in cents, days as integers ``yyyymmdd``, states as codes from 1."""
    if column.kind == "money" and isinstance(value, int):
        return str(value * 100)
    if isinstance(value, Date):
        return str(value).replace("-", "")
    if column.kind == "state" and isinstance(value, str):
        return str(column.values.index(value) + 1)
    return plain_literal(column, value)


HOUSE = Conventions(
    table=lambda name: f"{name}_t",
    column=lambda column: column.name,
    literal=_literal,
    always=f"{{at}}{HOUSE_FLAG} = 0",
)
"""The conventions behind ``pocket_sql_house``: tables end in ``_t``; amounts, days and states are encoded; deleted rows
never count. No prompt states them."""


def draw(rng: Random, weights: dict[str, float] | None = None, *, manner: bool = False) -> Draft:
    """A question over a drawn schema in plain conventions; ``manner`` puts an idle remark before some."""
    schema = draw_schema(rng)
    question, query = draw_question(rng, schema, weights or FORM_WEIGHTS, PLAIN)
    remark = f"{rng.choice(_MANNERS)} " if manner and rng.random() < 0.2 else ""
    prompt = f"{shown(schema, PLAIN)}\n{remark}{question}"
    return Draft(key=prompt, prompt=prompt, gold=query)


def draw_judged(
    rng: Random, weights: dict[str, float], conventions: Conventions, *, remark: str = "", flag: str = "", more: int = 0
) -> Draft:
    """A draft that is finished with a database on which the gold query finds something.

    The prompt shows the schema in plain conventions whatever ``conventions`` is. ``flag`` is a column of the
    event table that the prompt does not show; ``more`` is the number of conditions beyond
    those of pretraining's questions.
    """
    schema = draw_schema(rng)
    question, query = draw_question(rng, schema, weights, conventions, more)

    def finish(rng: Random) -> Mapping[str, JSON] | None:
        database = script(rng, schema, conventions, (flag,) if flag else ())
        finds = any(value not in (None, 0) for row in _run_trusted(database, query) for value in row)
        return {"database": database} if finds else None

    prompt = f"{shown(schema, PLAIN)}\n{remark}{question}"
    return Draft(key=prompt, prompt=prompt, gold=query, finish=finish)


def shown(schema: Schema, conventions: Conventions) -> str:
    """The schema as the prompt lists it, a table a line."""
    tables = ((schema.event, schema.event_columns), (schema.owner, schema.owner_columns))
    return "\n".join(
        f"{conventions.table(name)}({', '.join(conventions.column(c) for c in columns)})" for name, columns in tables
    )


def script(rng: Random, schema: Schema, conventions: Conventions, extra: tuple[str, ...] = ()) -> str:
    """The database as statements that make and fill it; each column of ``extra`` is 1 in a third of the rows."""
    events, owners = draw_rows(rng, schema)
    lines = []
    tables = ((schema.event, schema.event_columns, events, extra), (schema.owner, schema.owner_columns, owners, ()))
    for name, columns, rows, flags in tables:
        table = conventions.table(name)
        defined = [f"{conventions.column(column)} {_type(column, conventions)}" for column in columns] + [
            f"{flag} INTEGER" for flag in flags
        ]
        lines.append(f"CREATE TABLE {table} ({', '.join(defined)});")
        for row in rows:
            values = [conventions.literal(column, value) for column, value in zip(columns, row, strict=True)]
            values += [str(int(rng.random() < 0.33)) for _ in flags]
            lines.append(f"INSERT INTO {table} VALUES ({', '.join(values)});")
    return "\n".join(lines)


def _type(column: Column, conventions: Conventions) -> str:
    samples: dict[str, Value] = {"date": Date(2020, 1, 1), "state": (*column.values, "")[0], "label": "", "name": ""}
    return "TEXT" if conventions.literal(column, samples.get(column.kind, 1)).startswith("'") else "INTEGER"


def _run_trusted(database: str, query: str) -> list[tuple[object, ...]]:
    """The rows of one of our own queries on one of our own databases; answers go through the sandbox instead."""
    with sqlite3.connect(":memory:") as connection:
        connection.executescript(database)
        return [tuple(row) for row in connection.execute(query)]
