"""Text-to-SQL: drafts over small schemas, and the database each is judged on."""
# ruff: noqa: S608 - the queries are composed of our own names and values, for a private database

import sqlite3
from collections.abc import Mapping
from random import Random

from tokensieve.tasks.pocket.draw import Draft
from tokensieve.tasks.pocket.queries import FORM_WEIGHTS, PLAIN, Conventions, draw_question
from tokensieve.tasks.pocket.schemas import Column, Date, Schema, Value, draw_rows, draw_schema
from tokensieve.types import JSON

_MANNERS = (
    "Answer with SQL.",
    "Write one SQLite query.",
    "Use the plain names.",
    "Standard rules apply.",
    "Shop rules apply.",
    "Common rules apply.",
)


def draw(rng: Random, weights: dict[str, float] | None = None, *, manner: bool = False) -> Draft:
    """A question over a drawn schema in plain conventions; ``manner`` puts an idle remark before some."""
    schema = draw_schema(rng)
    question, query = draw_question(rng, schema, weights or FORM_WEIGHTS, PLAIN)
    remark = f"{rng.choice(_MANNERS)} " if manner and rng.random() < 0.2 else ""
    prompt = f"{shown(schema, PLAIN)}\n{remark}{question}"
    return Draft(key=prompt, prompt=prompt, gold=query)


def draw_judged(
    rng: Random, weights: dict[str, float], says: Conventions, *, remark: str = "", flag: str = "", more: int = 0
) -> Draft:
    """A draft that is finished with a database on which the gold query finds something.

    The prompt shows the schema in plain conventions whatever ``says`` is; ``flag`` is a column that the event table
    has beside those that the prompt shows; ``more`` conditions than pretraining's questions have.
    """
    schema = draw_schema(rng)
    question, query = draw_question(rng, schema, weights, says, more)

    def finish(rng: Random) -> Mapping[str, JSON] | None:
        database = script(rng, schema, says, (flag,) if flag else ())
        finds = any(value not in (None, 0) for row in _run_trusted(database, query) for value in row)
        return {"database": database} if finds else None

    prompt = f"{shown(schema, PLAIN)}\n{remark}{question}"
    return Draft(key=prompt, prompt=prompt, gold=query, finish=finish)


def shown(schema: Schema, says: Conventions) -> str:
    """The schema as the prompt lists it, a table a line."""
    tables = ((schema.event, schema.event_columns), (schema.owner, schema.owner_columns))
    return "\n".join(f"{says.table(name)}({', '.join(says.column(c) for c in columns)})" for name, columns in tables)


def script(rng: Random, schema: Schema, says: Conventions, extra: tuple[str, ...] = ()) -> str:
    """The database as statements that make and fill it; each column of ``extra`` is 1 in a third of the rows."""
    events, owners = draw_rows(rng, schema)
    lines = []
    tables = ((schema.event, schema.event_columns, events, extra), (schema.owner, schema.owner_columns, owners, ()))
    for name, columns, rows, flags in tables:
        table = says.table(name)
        defined = [f"{says.column(column)} {_type(column, says)}" for column in columns] + [
            f"{flag} INTEGER" for flag in flags
        ]
        lines.append(f"CREATE TABLE {table} ({', '.join(defined)});")
        for row in rows:
            values = [says.literal(column, value) for column, value in zip(columns, row, strict=True)]
            values += [str(int(rng.random() < 0.33)) for _ in flags]
            lines.append(f"INSERT INTO {table} VALUES ({', '.join(values)});")
    return "\n".join(lines)


def _type(column: Column, says: Conventions) -> str:
    samples: dict[str, Value] = {"date": Date(2020, 1, 1), "state": (*column.values, "")[0], "label": "", "name": ""}
    return "TEXT" if says.literal(column, samples.get(column.kind, 1)).startswith("'") else "INTEGER"


def _run_trusted(database: str, query: str) -> list[tuple[object, ...]]:
    """The rows of one of our own queries on one of our own databases; answers go through the sandbox instead."""
    with sqlite3.connect(":memory:") as connection:
        connection.executescript(database)
        return [tuple(row) for row in connection.execute(query)]
