"""Questions over a schema and the SQL that answers them, under given naming and value conventions."""
# ruff: noqa: S608 - the queries are composed of our own names and values, for a private database

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tools.pocket.generator.schemas import Column, Date, Kind, Schema, Value, draw_value
from tools.pocket.generator.seeding import joined, split_words, weighted

_OPERATORS = {"=": "", ">": "above ", "<": "below ", ">=": "of at least ", "<=": "of at most "}
_MONTHS = split_words("January February March April May June July August September October November December")
_AGGREGATES = {"SUM": "total", "AVG": "average", "MAX": "highest", "MIN": "lowest"}


@dataclass(frozen=True, slots=True)
class Conventions:
    """Naming and value conventions of a database.

    Attributes:
        table: the name of a table, from its plain one.
        column: the name of a column.
        literal: a value of a column as SQL.
        always: a condition every query on the event table has, with ``{at}`` for the alias and its dot; or none.
    """

    table: Callable[[str], str]
    column: Callable[[Column], str]
    literal: Callable[[Column, Value], str]
    always: str = ""


@dataclass(frozen=True, slots=True)
class Condition:
    """Comparison of a column with one value (two for BETWEEN and IN); ``owner``: a column of the owner table."""

    column: Column
    operator: str
    values: tuple[Value, ...]
    owner: bool = False


def plain_literal(_column: Column, value: Value) -> str:
    """A number as it is, anything else quoted."""
    return str(value) if isinstance(value, int) else f"'{value}'"


PLAIN = Conventions(table=lambda name: name, column=lambda column: column.name, literal=plain_literal)


def draw_question(
    rng: Random, schema: Schema, weights: dict[str, float], conventions: Conventions, more: int = 0
) -> tuple[str, str]:
    """A question in words and its SQL; ``more`` conditions than the form has at most and at least."""
    return _FORMS[weighted(rng, weights)](rng, _Writer(schema, conventions, more))


@dataclass(frozen=True, slots=True)
class _Writer:
    """The schema and its conventions, with the pieces of SQL that all forms share."""

    schema: Schema
    rules: Conventions
    more: int = 0

    @property
    def event(self) -> str:
        return self.rules.table(self.schema.event)

    @property
    def owner(self) -> str:
        return self.rules.table(self.schema.owner)

    def column(self, name: str) -> str:
        return self.rules.column(
            next(c for c in (*self.schema.event_columns, *self.schema.owner_columns) if c.name == name)
        )

    def of(self, *kinds: Kind) -> list[Column]:
        return [column for column in self.schema.event_columns if column.kind in kinds]

    def where(self, conditions: list[Condition], *, alias: bool = False) -> str:
        """The WHERE clause with a leading space, or nothing."""
        parts = []
        for condition in conditions:
            at = ("b." if condition.owner else "a.") if alias else ""
            values = [self.rules.literal(condition.column, value) for value in condition.values]
            value = f"({', '.join(values)})" if condition.operator == "IN" else " AND ".join(values)
            parts.append(f"{at}{self.rules.column(condition.column)} {condition.operator} {value}")
        if self.rules.always:
            parts.append(self.rules.always.format(at="a." if alias else ""))
        return f" WHERE {' AND '.join(parts)}" if parts else ""

    @property
    def join(self) -> str:
        link = self.rules.column(self.schema.event_columns[1])
        key = self.rules.column(self.schema.owner_columns[0])
        return f"FROM {self.event} a JOIN {self.owner} b ON b.{key} = a.{link}"


def _conditions(rng: Random, writer: _Writer, most: int = 2, least: int = 0) -> tuple[list[Condition], str]:
    """Up to ``most`` conditions on different event columns, and the words for them (with a leading space)."""
    columns = writer.of("money", "state", "date", "count", "label")
    chosen = rng.sample(columns, min(len(columns), rng.randint(least + writer.more, most + writer.more)))
    pairs = [_condition(rng, column) for column in chosen]
    return [condition for condition, _ in pairs], f" {joined([phrase for _, phrase in pairs])}" if pairs else ""


def _condition(rng: Random, column: Column) -> tuple[Condition, str]:
    """A condition on the column, and the words for it."""
    value = draw_value(rng, column, 6)
    if isinstance(value, Date):
        if rng.random() < 0.2:
            first, last = Date(value.year, value.month, 1), Date(value.year, value.month, 31)
            phrase = f"with {column.name} in {_MONTHS[value.month - 1]} {value.year}"
            return Condition(column, "BETWEEN", (first, last)), phrase
        operator = rng.choice((">", "<", "="))
        when = {">": "after", "<": "before", "=": "on"}[operator]
        return Condition(column, operator, (value,)), f"with {column.name} {when} {value}"
    if isinstance(value, int):
        if rng.random() < 0.15:
            high = value + rng.randint(1, 10) * (5 if column.kind == "money" else 1)
            return Condition(column, "BETWEEN", (value, high)), f"with {column.name} from {value} to {high}"
        operator = rng.choice(sorted(_OPERATORS))
        return Condition(column, operator, (value,)), f"with {column.name} {_OPERATORS[operator]}{value}"
    kind = rng.random()
    if kind < 0.15:
        return Condition(column, "<>", (value,)), f"with {column.name} other than {value}"
    if kind < 0.3:
        one, two = rng.sample(column.values, 2)
        return Condition(column, "IN", (one, two)), f"with {column.name} {one} or {two}"
    return Condition(column, "=", (value,)), f"with {column.name} {value}"


def _count(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, phrase = _conditions(rng, writer, least=1)
    question = rng.choice(("How many {} are there{}?", "Count the {}{}."))
    return question.format(
        writer.schema.event, phrase
    ), f"SELECT COUNT(*) FROM {writer.event}{writer.where(conditions)};"


def _rows(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, phrase = _conditions(rng, writer, least=1)
    columns = rng.sample([c for c in writer.schema.event_columns if c.kind != "link"], rng.randint(1, 2))
    question = rng.choice(("Show the {1} of {0}{2}.", "List {0}{2}: {1}.", "What is the {1} of the {0}{2}?"))
    names = joined([column.name for column in columns])
    listed = ", ".join(writer.rules.column(column) for column in columns)
    return question.format(
        writer.schema.event, names, phrase
    ), f"SELECT {listed} FROM {writer.event}{writer.where(conditions)};"


def _aggregate(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, phrase = _conditions(rng, writer, least=1)
    function, column = rng.choice(sorted(_AGGREGATES)), rng.choice(writer.of("money", "count"))
    question = f"What is the {_AGGREGATES[function]} {column.name} of {writer.schema.event}{phrase}?"
    return (
        question,
        f"SELECT {function}({writer.rules.column(column)}) FROM {writer.event}{writer.where(conditions)};",
    )


def _group(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, phrase = _conditions(rng, writer, most=1)
    by, named = rng.choice(writer.of("state", "label")), rng.choice(("each", "every"))
    key = writer.rules.column(by)
    if rng.random() < 0.4:
        question, value = f"How many {writer.schema.event}{phrase} are there for {named} {by.name}?", "COUNT(*)"
    else:
        function, column = rng.choice(sorted(_AGGREGATES)), rng.choice(writer.of("money", "count"))
        named_value = f"{_AGGREGATES[function]} {column.name}"
        question = f"For {named} {by.name}, what is the {named_value} of {writer.schema.event}{phrase}?"
        value = f"{function}({writer.rules.column(column)})"
    return question, f"SELECT {key}, {value} FROM {writer.event}{writer.where(conditions)} GROUP BY {key};"


def _having(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, phrase = _conditions(rng, writer, most=1)
    by, n = rng.choice(writer.of("state", "label")), rng.randint(2, 6)
    key = writer.rules.column(by)
    question = f"Which {by.name} has more than {n} {writer.schema.event}{phrase}?"
    return question, f"SELECT {key} FROM {writer.event}{writer.where(conditions)} GROUP BY {key} HAVING COUNT(*) > {n};"


def _top(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, phrase = _conditions(rng, writer, most=1)
    column, n, high = rng.choice(writer.of("money", "count", "date")), rng.randint(2, 5), rng.random() < 0.5
    words = ("latest" if high else "earliest") if column.kind == "date" else ("highest" if high else "lowest")
    order = f"{writer.rules.column(column)}{' DESC' if high else ''}"
    key = writer.rules.column(writer.schema.event_columns[0])
    question = f"Show the id of the {n} {writer.schema.event}{phrase} with the {words} {column.name}, ties by id."
    return question, f"SELECT {key} FROM {writer.event}{writer.where(conditions)} ORDER BY {order}, {key} LIMIT {n};"


def _joined(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, phrase = _conditions(rng, writer, most=1)
    column, label = rng.choice(writer.of("money", "count", "date")), writer.schema.owner_columns[2]
    value = draw_value(rng, label, 6)
    conditions.append(Condition(label, "=", (value,), owner=True))
    owners = writer.schema.owner
    question = f"What is the {column.name} of {writer.schema.event}{phrase} of {owners} with {label.name} {value}?"
    return (
        question,
        f"SELECT a.{writer.rules.column(column)} {writer.join}{writer.where(conditions, alias=True)};",
    )


def _per_owner(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, phrase = _conditions(rng, writer, most=1)
    by = writer.schema.owner_columns[rng.choice((1, 1, 2))]
    key = f"b.{writer.rules.column(by)}"
    one = writer.schema.owner[:-1]
    if rng.random() < 0.4:
        question, value = f"How many {writer.schema.event}{phrase} has each {one} {by.name}?", "COUNT(*)"
    else:
        function, column = rng.choice(sorted(_AGGREGATES)), rng.choice(writer.of("money", "count"))
        named = f"{_AGGREGATES[function]} {column.name}"
        question = f"What is the {named} of {writer.schema.event}{phrase} for each {one} {by.name}?"
        value = f"{function}(a.{writer.rules.column(column)})"
    return question, f"SELECT {key}, {value} {writer.join}{writer.where(conditions, alias=True)} GROUP BY {key};"


def _names(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, phrase = _conditions(rng, writer, least=1)
    name = writer.rules.column(writer.schema.owner_columns[1])
    question = f"Which {writer.schema.owner} have {writer.schema.event}{phrase}? Give each name once."
    return question, f"SELECT DISTINCT b.{name} {writer.join}{writer.where(conditions, alias=True)};"


def _above_mean(rng: Random, writer: _Writer) -> tuple[str, str]:
    column, above = rng.choice(writer.of("money", "count")), rng.random() < 0.5
    key, name = writer.rules.column(writer.schema.event_columns[0]), writer.rules.column(column)
    where = writer.where([])
    question = f"Show the id of {writer.schema.event} with {column.name} {'above' if above else 'below'} the average."
    start = f"{where} AND" if where else " WHERE"
    mean = f"(SELECT AVG({name}) FROM {writer.event}{where})"
    return question, f"SELECT {key} FROM {writer.event}{start} {name} {'>' if above else '<'} {mean};"


def _without(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, phrase = _conditions(rng, writer, most=1)
    name = writer.rules.column(writer.schema.owner_columns[1])
    key, link = (
        writer.rules.column(writer.schema.owner_columns[0]),
        writer.rules.column(writer.schema.event_columns[1]),
    )
    question = f"Name the {writer.schema.owner} without {writer.schema.event}{phrase}."
    linked = f"SELECT {link} FROM {writer.event}{writer.where(conditions)}"
    return question, f"SELECT {name} FROM {writer.owner} WHERE {key} NOT IN ({linked});"


def _best_owners(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, phrase = _conditions(rng, writer, most=1)
    column, n = rng.choice(writer.of("money", "count")), rng.randint(2, 3)
    function, words = rng.choice((("SUM", "total"), ("MAX", "highest"), ("AVG", "average")))
    name = f"b.{writer.rules.column(writer.schema.owner_columns[1])}"
    value = f"{function}(a.{writer.rules.column(column)})"
    question = (
        f"Which {n} {writer.schema.owner} have the largest {words} {column.name} of {writer.schema.event}{phrase}?"
    )
    where = writer.where(conditions, alias=True)
    return question, f"SELECT {name} {writer.join}{where} GROUP BY {name} ORDER BY {value} DESC, {name} LIMIT {n};"


def _share(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, phrase = _conditions(rng, writer, most=1, least=1)
    value = f"100.0 * COUNT(*) / (SELECT COUNT(*) FROM {writer.event}{writer.where([])})"
    question = f"What percentage of the {writer.schema.event} are those{phrase}?"
    return question, f"SELECT {value} FROM {writer.event}{writer.where(conditions)};"


def _twice_mean(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, phrase = _conditions(rng, writer, most=1, least=1)
    column, (words, factor) = rng.choice(writer.of("money", "count")), rng.choice((("twice", "2"), ("half", "0.5")))
    name, where = writer.rules.column(column), writer.where(conditions)
    events = writer.schema.event
    question = f"How many {events}{phrase} have a {column.name} above {words} the average of such {events}?"
    mean = f"(SELECT AVG({name}) FROM {writer.event}{where})"
    return question, f"SELECT COUNT(*) FROM {writer.event}{where} AND {name} > {factor} * {mean};"


_FORMS: dict[str, Callable[[Random, _Writer], tuple[str, str]]] = {
    "count": _count,
    "rows": _rows,
    "aggregate": _aggregate,
    "group": _group,
    "having": _having,
    "top": _top,
    "joined": _joined,
    "per_owner": _per_owner,
    "names": _names,
    "above_mean": _above_mean,
    "without": _without,
    "best_owners": _best_owners,
    "share": _share,
    "twice_mean": _twice_mean,
}
FORM_WEIGHTS = dict.fromkeys(_FORMS, 1.0)
