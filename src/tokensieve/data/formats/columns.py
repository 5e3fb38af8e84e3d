"""Columns of a data set: its form by the first row, the names that the user gave, the fields that were not read."""

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from tokensieve.data.formats.fields import Fields, Record, as_list
from tokensieve.data.formats.turns import is_turns
from tokensieve.errors import InputError

_PROMPTS: Final = ("prompt", "instruction", "question", "query", "problem", "input")
_RESPONSES: Final = ("completion", "response", "answer", "output", "solution")

_PAIRS: Final = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "response"),
    ("question", "answer"),
    ("query", "response"),
    ("input", "output"),
    ("problem", "solution"),
)
"""Well-known pairs, the first choice among the names above."""

MORE_OF_THE_PROMPT: Final = ("input", "context")
"""Text that belongs behind the instruction: Alpaca's ``input``, Dolly's ``context``."""

LABELS: Final = ("label", "kto_tag")
"""KTO's flags (TRL and ms-swift; LLaMA-Factory): false is an answer as it should not be."""

ROW_FLAGS: Final = ("loss", "train", "training", "trainable")
ROW_WEIGHTS: Final = ("weight", "loss_weight", "loss_scale")

_OF_ALL: Final = (
    "id", "system", "system_prompt", "tools", "functions", "mask_history", "loss_mask", *LABELS, *ROW_FLAGS,
    *ROW_WEIGHTS,
)  # fmt: skip

_OF_TURNS: Final = ("messages", "conversations", "conversation", *_OF_ALL)

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    "messages": _OF_TURNS,
    "sharegpt": _OF_TURNS,
    "alpaca": ("instruction", "input", "context", "output", "history", *_OF_ALL),
    "prompt_completion": ("prompt", "input", "context", "completion", "history", *_OF_ALL),
    "examples": ("messages", "origin", "sampled_ids", "task", *_OF_ALL),
}
"""Our names of the fields that rows of each form may have."""


def renamed(record: Record, columns: Mapping[str, str], where: str) -> Record:
    """The record with the data set's own column names replaced by ours.

    Args:
        record: the row.
        columns: the data set's name for each of ours; an empty name is a field of ours that is not to be read.
        where: the row's place, for errors.

    Raises:
        InputError: a named column is not there.
    """
    if not columns:
        return record
    absent = [theirs for theirs in columns.values() if theirs and theirs not in record]
    if absent:
        raise InputError(f"no column {absent[0]!r}; there are: {', '.join(map(str, record)) or 'none'}", where=where)
    taken = set(columns.values())
    kept = {name: value for name, value in record.items() if name not in taken and name not in columns}
    return {**kept, **{ours: record[theirs] for ours, theirs in columns.items() if theirs}}


def unread(fields: Fields, record: Record, columns: Mapping[str, str]) -> list[str]:
    """Names, as the data set has them, of the fields of a row that hold something and were not read.

    Args:
        fields: the row under our names, read.
        record: the row under its own names.
        columns: the data set's name for each of ours.
    """
    replaced = [ours for ours in columns if ours not in columns.values() and Fields(record).holds(ours)]
    return [*(columns.get(name, name) for name in fields.unread()), *replaced]


def check_columns(columns: Mapping[str, str], known: Iterable[str], form: str = "any form") -> None:
    """Refuse names of ours that rows do not have, such as misspelt ones, and one column under two names.

    Raises:
        InputError: names the nearest that is right.
    """
    known = tuple(dict.fromkeys(known))
    by_theirs: dict[str, str] = {}
    for ours, theirs in columns.items():
        if theirs and by_theirs.setdefault(theirs, ours) != ours:
            raise InputError(
                f"the column {theirs!r} is given for two fields, {by_theirs[theirs]!r} and {ours!r}",
                where=f"columns.{ours}",
                fix="name another column for one of them",
            )
    for ours, theirs in columns.items():
        if ours not in known:
            near = difflib.get_close_matches(ours, known, n=1)
            raise InputError(
                f"rows of {form} have no field {ours!r}"
                + (f"; did you mean {near[0]!r}?" if near else f"; they have: {', '.join(known)}"),
                where=f"columns.{ours}",
                fix=f"--columns.{near[0]} {theirs}" if near else "one of these names, or another --format",
            )


def recognise(record: Record, where: str = "data", columns: Mapping[str, str] = MappingProxyType({})) -> str:
    """The form of a data set, told by the fields of its first row.

    Args:
        record: the row under our names.
        where: its place, for errors.
        columns: the data set's names that the user gave; a prompt or completion among them decides.

    Raises:
        InputError: the fields fit no form; lists them.
    """
    names = set(record)
    if {"prompt", "completion"} & set(columns) and prompt_and_response(names):
        return "prompt_completion"
    turns = as_list(record.get("messages", record.get("conversations", record.get("conversation"))))
    if "messages" in names and names & {"origin", "sampled_ids"}:
        return "examples"
    if turns and isinstance(turns[0], Mapping):
        return "sharegpt" if "from" in turns[0] else "messages"
    if "messages" in names:
        return "messages"
    if "conversations" in names:
        return "sharegpt"
    if {"instruction", "output"} <= names:
        return "alpaca"
    if prompt_and_response(names):
        return "prompt_completion"
    if {"chosen", "rejected"} <= names:
        raise preference_error(record, where)
    raise InputError(
        f"the form of the rows is not recognised; their fields are: {', '.join(map(str, record)) or 'none'}",
        where=where,
        fix="name the columns, e.g. --columns.prompt question --columns.completion answer",
    )


def columns_of(record: Record, format: str, columns: Mapping[str, str]) -> Mapping[str, str]:  # noqa: A002
    """The column names that hold for a whole data set, told by its first row: the user's, else well-known pairs.

    Raises:
        InputError: a name of ours that rows of this form do not have.
    """
    check_columns(columns, FIELDS[format], f"the form {format}")
    if format != "prompt_completion":
        return columns
    named = set(record) - set(columns.values())
    pair = prompt_and_response(named | {ours for ours in columns if ours in ("prompt", "completion")}) or (
        "prompt",
        "completion",
    )
    found = zip(("prompt", "completion"), pair, strict=True)
    return {**{ours: theirs for ours, theirs in found if ours not in columns and ours != theirs}, **columns}


def preference_error(record: Record, where: str) -> InputError:
    """The error for chosen and rejected answers, with the option that trains the chosen ones."""
    response = "messages" if is_turns(as_list(record.get("chosen"))) and not prompt_field(record) else "completion"
    return InputError(
        "chosen and rejected answers are preference data; only one answer a row can be trained",
        where=where,
        fix=f"--columns.{response} chosen trains the chosen ones",
    )


def prompt_field(record: Record) -> str | None:
    """Name of the field that holds the prompt; None where there is none."""
    return next((name for name in _PROMPTS if name in record), None)


def prompt_and_response(names: set[str]) -> tuple[str, str] | None:
    """The columns of prompt and response, by their names: a well-known pair, else any prompt beside any response."""
    well_known = next((pair for pair in _PAIRS if set(pair) <= names), None)
    prompt = next((name for name in _PROMPTS if name in names), None)
    response = next((name for name in _RESPONSES if name in names), None)
    return well_known or ((prompt, response) if prompt and response else None)
