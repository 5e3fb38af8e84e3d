"""Small database schemas: their tables, columns, values and the rows that queries are judged on."""

from dataclasses import dataclass
from random import Random
from typing import Literal

from tools.pocket.generator.seeding import split_words
from tools.pocket.generator.vocabulary import CITIES, COLOURS, PEOPLE

Kind = Literal["id", "link", "name", "label", "state", "money", "count", "date"]

_EVENTS = split_words(
    "orders invoices tickets rentals bookings loans repairs shipments sales claims visits trips lessons "
    "deliveries returns payments contracts parcels events jobs"
)
_OWNERS = split_words("customers members clients owners suppliers shops guests drivers teachers patients")
_MONEY = ("amount", "price", "fee", "cost", "total", "charge", "deposit")
_QUALITIES = ("net", "gross", "unit", "base", "extra")
_DATES = ("day", "due", "sent", "opened", "created", "starts", "ends")
_STATES = {
    "status": ("open", "closed", "paid", "late"),
    "state": ("new", "active", "done", "failed"),
    "stage": ("draft", "ready", "shipped", "lost"),
    "phase": ("planned", "running", "stopped", "over"),
}
_COUNTS = ("items", "units", "hours", "pages", "seats", "weight", "points", "rooms")
_LABELS = {
    "city": CITIES,
    "colour": COLOURS,
    "region": ("north", "south", "east", "west"),
    "level": ("basic", "silver", "gold", "trial"),
    "branch": ("harbor", "market", "station", "airport"),
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its name, what it holds, and for text the values it may take."""

    name: str
    kind: Kind
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Schema:
    """An event table whose rows each belong to a row of an owner table."""

    event: str
    event_columns: tuple[Column, ...]
    owner: str
    owner_columns: tuple[Column, ...]

    @property
    def link(self) -> str:
        """The event table's column that names the owner."""
        return f"{self.owner[:-1]}_id"


@dataclass(frozen=True, slots=True)
class Date:
    """A day; plain SQL writes it ``'2021-05-03'``."""

    year: int
    month: int
    day: int

    def __str__(self) -> str:
        return f"{self.year}-{self.month:02}-{self.day:02}"


Value = int | str | Date
"""A literal: a number, a text, or a day."""


def draw_schema(rng: Random) -> Schema:
    """A schema with names drawn from the pools."""
    event, owner = rng.choice(_EVENTS), rng.choice(_OWNERS)
    state, label, owner_label = rng.choice(sorted(_STATES)), *rng.sample(sorted(_LABELS), 2)
    owned = [Column(_money(rng), "money"), Column(state, "state", _STATES[state]), Column(rng.choice(_DATES), "date")]
    if rng.random() < 0.6:
        owned.append(Column(rng.choice(_COUNTS), "count"))
    if rng.random() < 0.6:
        owned.append(Column(label, "label", _LABELS[label]))
    rng.shuffle(owned)
    columns = (Column("id", "id"), Column(f"{owner[:-1]}_id", "link"), *owned)
    owners = (Column("id", "id"), Column("name", "name", PEOPLE), Column(owner_label, "label", _LABELS[owner_label]))
    return Schema(event, columns, owner, owners)


def _money(rng: Random) -> str:
    return f"{rng.choice(_QUALITIES)}_{rng.choice(_MONEY)}" if rng.random() < 0.3 else rng.choice(_MONEY)


def draw_value(rng: Random, column: Column, owners: int) -> Value:
    """A value of the column; links point to one of ``owners`` rows."""
    if column.kind == "money":
        return rng.randint(2, 60) * 5
    if column.kind == "count":
        return rng.randint(1, 20)
    if column.kind == "date":
        return Date(rng.randint(2020, 2023), rng.randint(1, 12), rng.randint(1, 28))
    if column.kind == "link":
        return rng.randint(1, owners)
    return rng.choice(column.values)


def draw_rows(rng: Random, schema: Schema) -> tuple[list[list[Value]], list[list[Value]]]:
    """Rows of the event table and of the owner table; a few owners have no event."""
    owners = rng.randint(5, 7)
    events = rng.randint(18, 26)
    names = rng.sample(PEOPLE, owners)
    owned: list[list[Value]] = [
        [
            at + 1,
            *(
                names[at] if column.kind == "name" else draw_value(rng, column, owners)
                for column in schema.owner_columns[1:]
            ),
        ]
        for at in range(owners)
    ]
    rows: list[list[Value]] = [
        [at + 1, *(draw_value(rng, column, owners - 1) for column in schema.event_columns[1:])] for at in range(events)
    ]
    return rows, owned
