"""Questions over a schema and the SQL that answers them, in plain conventions or in a house's own."""
# ruff: noqa: S608 - the queries are composed of our own names and values, for a private database

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from tokensieve.tasks.pocket.draw import joined, split_words, weighted
from tokensieve.tasks.pocket.schemas import Column, Date, Kind, Schema, Value, draw_value

_OPERATORS = {"=": "", ">": "above ", "<": "below ", ">=": "of at least ", "<=": "of at most "}
_MONTHS = split_words("January February March April May June July August September October November December")
_AGGREGATES = {"SUM": "total", "AVG": "average", "MAX": "highest", "MIN": "lowest"}


@dataclass(frozen=True, slots=True)
class Conventions:
    """How names and values are written down.

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
    """A comparison of a column with one value, or two for BETWEEN and IN; ``owner`` says whose column it is."""

    column: Column
    operator: str
    values: tuple[Value, ...]
    owner: bool = False


def plain_literal(_column: Column, value: Value) -> str:
    """A number as it is, anything else quoted."""
    return str(value) if isinstance(value, int) else f"'{value}'"


PLAIN = Conventions(table=lambda name: name, column=lambda column: column.name, literal=plain_literal)


def draw_question(
    rng: Random, schema: Schema, weights: dict[str, float], says: Conventions, more: int = 0
) -> tuple[str, str]:
    """A question in words and its SQL; ``more`` conditions than the form has at most and at least."""
    return _FORMS[weighted(rng, weights)](rng, _Writer(schema, says, more))


@dataclass(frozen=True, slots=True)
class _Writer:
    """The schema and its conventions, with the pieces of SQL that all forms share."""

    schema: Schema
    says: Conventions
    more: int = 0

    @property
    def event(self) -> str:
        return self.says.table(self.schema.event)

    @property
    def owner(self) -> str:
        return self.says.table(self.schema.owner)

    def column(self, name: str) -> str:
        return self.says.column(
            next(c for c in (*self.schema.event_columns, *self.schema.owner_columns) if c.name == name)
        )

    def of(self, *kinds: Kind) -> list[Column]:
        return [column for column in self.schema.event_columns if column.kind in kinds]

    def where(self, conditions: list[Condition], *, alias: bool = False) -> str:
        """The WHERE clause with a leading space, or nothing."""
        parts = []
        for condition in conditions:
            at = ("b." if condition.owner else "a.") if alias else ""
            values = [self.says.literal(condition.column, value) for value in condition.values]
            value = f"({', '.join(values)})" if condition.operator == "IN" else " AND ".join(values)
            parts.append(f"{at}{self.says.column(condition.column)} {condition.operator} {value}")
        if self.says.always:
            parts.append(self.says.always.format(at="a." if alias else ""))
        return f" WHERE {' AND '.join(parts)}" if parts else ""

    @property
    def join(self) -> str:
        link = self.says.column(self.schema.event_columns[1])
        key = self.says.column(self.schema.owner_columns[0])
        return f"FROM {self.event} a JOIN {self.owner} b ON b.{key} = a.{link}"


def _conditions(rng: Random, writer: _Writer, most: int = 2, least: int = 0) -> tuple[list[Condition], str]:
    """Up to ``most`` conditions on different event columns, and the words for them (with a leading space)."""
    columns = writer.of("money", "state", "date", "count", "label")
    chosen = rng.sample(columns, min(len(columns), rng.randint(least + writer.more, most + writer.more)))
    pairs = [_condition(rng, column) for column in chosen]
    return [condition for condition, _ in pairs], f" {joined([told for _, told in pairs])}" if pairs else ""


def _condition(rng: Random, column: Column) -> tuple[Condition, str]:
    """A condition on the column, and the words for it."""
    value = draw_value(rng, column, 6)
    if isinstance(value, Date):
        if rng.random() < 0.2:
            first, last = Date(value.year, value.month, 1), Date(value.year, value.month, 31)
            told = f"with {column.name} in {_MONTHS[value.month - 1]} {value.year}"
            return Condition(column, "BETWEEN", (first, last)), told
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
    conditions, told = _conditions(rng, writer, least=1)
    ask = rng.choice(("How many {} are there{}?", "Count the {}{}."))
    return ask.format(writer.schema.event, told), f"SELECT COUNT(*) FROM {writer.event}{writer.where(conditions)};"


def _rows(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, told = _conditions(rng, writer, least=1)
    columns = rng.sample([c for c in writer.schema.event_columns if c.kind != "link"], rng.randint(1, 2))
    ask = rng.choice(("Show the {1} of {0}{2}.", "List {0}{2}: {1}.", "What is the {1} of the {0}{2}?"))
    names = joined([column.name for column in columns])
    listed = ", ".join(writer.says.column(column) for column in columns)
    return ask.format(
        writer.schema.event, names, told
    ), f"SELECT {listed} FROM {writer.event}{writer.where(conditions)};"


def _aggregate(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, told = _conditions(rng, writer, least=1)
    function, column = rng.choice(sorted(_AGGREGATES)), rng.choice(writer.of("money", "count"))
    ask = f"What is the {_AGGREGATES[function]} {column.name} of {writer.schema.event}{told}?"
    return ask, f"SELECT {function}({writer.says.column(column)}) FROM {writer.event}{writer.where(conditions)};"


def _group(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, told = _conditions(rng, writer, most=1)
    by, named = rng.choice(writer.of("state", "label")), rng.choice(("each", "every"))
    key = writer.says.column(by)
    if rng.random() < 0.4:
        ask, value = f"How many {writer.schema.event}{told} are there for {named} {by.name}?", "COUNT(*)"
    else:
        function, column = rng.choice(sorted(_AGGREGATES)), rng.choice(writer.of("money", "count"))
        ask = (
            f"For {named} {by.name}, what is the {_AGGREGATES[function]} {column.name} of {writer.schema.event}{told}?"
        )
        value = f"{function}({writer.says.column(column)})"
    return ask, f"SELECT {key}, {value} FROM {writer.event}{writer.where(conditions)} GROUP BY {key};"


def _having(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, told = _conditions(rng, writer, most=1)
    by, n = rng.choice(writer.of("state", "label")), rng.randint(2, 6)
    key = writer.says.column(by)
    ask = f"Which {by.name} has more than {n} {writer.schema.event}{told}?"
    return ask, f"SELECT {key} FROM {writer.event}{writer.where(conditions)} GROUP BY {key} HAVING COUNT(*) > {n};"


def _top(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, told = _conditions(rng, writer, most=1)
    column, n, high = rng.choice(writer.of("money", "count", "date")), rng.randint(2, 5), rng.random() < 0.5
    words = ("latest" if high else "earliest") if column.kind == "date" else ("highest" if high else "lowest")
    order = f"{writer.says.column(column)}{' DESC' if high else ''}"
    key = writer.says.column(writer.schema.event_columns[0])
    ask = f"Show the id of the {n} {writer.schema.event}{told} with the {words} {column.name}, ties by id."
    return ask, f"SELECT {key} FROM {writer.event}{writer.where(conditions)} ORDER BY {order}, {key} LIMIT {n};"


def _joined(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, told = _conditions(rng, writer, most=1)
    column, label = rng.choice(writer.of("money", "count", "date")), writer.schema.owner_columns[2]
    value = draw_value(rng, label, 6)
    conditions.append(Condition(label, "=", (value,), owner=True))
    owners = writer.schema.owner
    ask = f"What is the {column.name} of {writer.schema.event}{told} of {owners} with {label.name} {value}?"
    return ask, f"SELECT a.{writer.says.column(column)} {writer.join}{writer.where(conditions, alias=True)};"


def _per_owner(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, told = _conditions(rng, writer, most=1)
    by = writer.schema.owner_columns[rng.choice((1, 1, 2))]
    key = f"b.{writer.says.column(by)}"
    one = writer.schema.owner[:-1]
    if rng.random() < 0.4:
        ask, value = f"How many {writer.schema.event}{told} has each {one} {by.name}?", "COUNT(*)"
    else:
        function, column = rng.choice(sorted(_AGGREGATES)), rng.choice(writer.of("money", "count"))
        named = f"{_AGGREGATES[function]} {column.name}"
        ask = f"What is the {named} of {writer.schema.event}{told} for each {one} {by.name}?"
        value = f"{function}(a.{writer.says.column(column)})"
    return ask, f"SELECT {key}, {value} {writer.join}{writer.where(conditions, alias=True)} GROUP BY {key};"


def _names(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, told = _conditions(rng, writer, least=1)
    name = writer.says.column(writer.schema.owner_columns[1])
    ask = f"Which {writer.schema.owner} have {writer.schema.event}{told}? Give each name once."
    return ask, f"SELECT DISTINCT b.{name} {writer.join}{writer.where(conditions, alias=True)};"


def _above_mean(rng: Random, writer: _Writer) -> tuple[str, str]:
    column, above = rng.choice(writer.of("money", "count")), rng.random() < 0.5
    key, name = writer.says.column(writer.schema.event_columns[0]), writer.says.column(column)
    where = writer.where([])
    ask = f"Show the id of {writer.schema.event} with {column.name} {'above' if above else 'below'} the average."
    start = f"{where} AND" if where else " WHERE"
    mean = f"(SELECT AVG({name}) FROM {writer.event}{where})"
    return ask, f"SELECT {key} FROM {writer.event}{start} {name} {'>' if above else '<'} {mean};"


def _without(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, told = _conditions(rng, writer, most=1)
    name = writer.says.column(writer.schema.owner_columns[1])
    key, link = writer.says.column(writer.schema.owner_columns[0]), writer.says.column(writer.schema.event_columns[1])
    ask = f"Name the {writer.schema.owner} without {writer.schema.event}{told}."
    linked = f"SELECT {link} FROM {writer.event}{writer.where(conditions)}"
    return ask, f"SELECT {name} FROM {writer.owner} WHERE {key} NOT IN ({linked});"


def _best_owners(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, told = _conditions(rng, writer, most=1)
    column, n = rng.choice(writer.of("money", "count")), rng.randint(2, 3)
    function, words = rng.choice((("SUM", "total"), ("MAX", "highest"), ("AVG", "average")))
    name = f"b.{writer.says.column(writer.schema.owner_columns[1])}"
    value = f"{function}(a.{writer.says.column(column)})"
    ask = f"Which {n} {writer.schema.owner} have the largest {words} {column.name} of {writer.schema.event}{told}?"
    where = writer.where(conditions, alias=True)
    return ask, f"SELECT {name} {writer.join}{where} GROUP BY {name} ORDER BY {value} DESC, {name} LIMIT {n};"


def _share(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, told = _conditions(rng, writer, most=1, least=1)
    value = f"100.0 * COUNT(*) / (SELECT COUNT(*) FROM {writer.event}{writer.where([])})"
    ask = f"What percentage of the {writer.schema.event} are those{told}?"
    return ask, f"SELECT {value} FROM {writer.event}{writer.where(conditions)};"


def _twice_mean(rng: Random, writer: _Writer) -> tuple[str, str]:
    conditions, told = _conditions(rng, writer, most=1, least=1)
    column, (words, factor) = rng.choice(writer.of("money", "count")), rng.choice((("twice", "2"), ("half", "0.5")))
    name, where = writer.says.column(column), writer.where(conditions)
    events = writer.schema.event
    ask = f"How many {events}{told} have a {column.name} above {words} the average of such {events}?"
    mean = f"(SELECT AVG({name}) FROM {writer.event}{where})"
    return ask, f"SELECT COUNT(*) FROM {writer.event}{where} AND {name} > {factor} * {mean};"


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
