"""From a file, a folder or a Hub data set to examples, whatever the form of its rows."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path

from tokensieve.config import DataSettings
from tokensieve.data.dedup import Fingerprints
from tokensieve.data.formats.fields import Record
from tokensieve.data.formats.hub import HubName, held
from tokensieve.data.formats.rows import FORMATS, build, columns_of, recognise, renamed
from tokensieve.data.formats.sources import Located, may_be_on_hub, records
from tokensieve.data.row_counts import Tally
from tokensieve.errors import InputError
from tokensieve.types import Example

__all__ = ["FORMATS", "example_of", "pinned", "read_examples", "recognise"]

EMPTY_RESPONSE = "empty response"
NO_ASSISTANT = "no assistant turn"
NUL_CHARACTER = "NUL character"


def read_examples(source: str | Path, settings: DataSettings, tally: Tally) -> Iterator[Example]:
    """The examples of a data set, one at a time and in its order.

    A row that is malformed is an error with its place; a row that is sound but teaches nothing (an empty
    response, no assistant turn) is dropped and counted.

    Args:
        source: a file (``.jsonl``, ``.json``, ``.parquet``, ``.csv``, the text ones also with ``.gz``), a folder
            (a stage's examples, a data set's ``save_to_disk``, or such files), or a Hub name (``owner/name``, with
            ``:config`` and ``@revision`` where they matter).
        settings: the rows' form, the names of columns, the split, the limit.
        tally: counts rows in and dropped, and is told the recognised form.

    Raises:
        InputError: the source is missing, damaged or empty, its form is not recognised, or a row is not of that
            form; with file and line.
        EnvironmentProblem: a Hub data set cannot be fetched.
    """
    name = _name(source)
    seen = Fingerprints()
    columns: Mapping[str, str] | None = None
    empty = True
    for located in islice(records(source, settings), settings.limit):
        empty = False
        tally.take()
        if isinstance(located, Example):
            tally.format = "examples"
            yield located
            continue
        if columns is None:
            columns = _decide(located, settings, tally)
        example = _example(located, name, columns, tally)
        if example is not None:
            yield _unique(example, seen, located.index, tally)
    if empty and settings.limit != 0:
        raise InputError("the data set holds no rows", where=str(source))


def pinned(source: str | Path) -> str | Path:
    """The source as it is, but a Hub data set's name held to the commit that it means now.

    Raises:
        InputError: no such data set or revision on the Hub, or no access to it.
        EnvironmentProblem: the Hub cannot be reached.
    """
    return str(held(HubName.parse(str(source)))) if may_be_on_hub(source) else source


def example_of(record: Record, *, id: str, format: str, where: str) -> Example | None:  # noqa: A002 - the field's name
    """One row as an example; None where it is sound but holds nothing to learn.

    Args:
        record: the row's fields, under our names.
        id: the id where the row has none of its own.
        format: one of ``FORMATS``.
        where: the row's place, for errors.

    Raises:
        InputError: a field is missing or of the wrong type.
    """
    draft = build(record, format, where)
    if not any(message["role"] == "assistant" for message in draft.messages):
        return None
    return Example(
        id=draft.id or id,
        messages=draft.messages,
        task=draft.task,
        origin=draft.origin,
        sampled_ids=draft.sampled_ids,
        tools=draft.tools,
    )


def _name(source: str | Path) -> str:
    """What the ids of rows without an id begin with: a file's name, or a Hub data set's without its revision."""
    if may_be_on_hub(source):
        return str(replace(HubName.parse(str(source)), revision=None))
    return Path(source).name


def _decide(first: Located, settings: DataSettings, tally: Tally) -> Mapping[str, str]:
    """Settle the form, told to the tally, and the names of columns by the first row; they hold for all others."""
    record = renamed(first.record, settings.columns, first.where)
    tally.format = recognise(record, first.where) if settings.format == "auto" else settings.format
    return columns_of(first.record, tally.format, settings.columns)


def _example(located: Located, name: str, columns: Mapping[str, str], tally: Tally) -> Example | None:
    record = renamed(located.record, columns, located.where)
    fallback_id = f"{name}/{located.index}"
    example = example_of(record, id=fallback_id, format=tally.format, where=located.where)
    if example is None:
        tally.drop(NO_ASSISTANT, fallback_id)
        return None
    reason = _nothing_to_learn(example)
    if reason is not None:
        tally.drop(reason, example.id)
        return None
    return example


def _nothing_to_learn(example: Example) -> str | None:
    """Why a sound row is left out all the same; None where it is kept."""
    for message in example.messages:
        content = message["content"] or ""
        if "\0" in content:
            return NUL_CHARACTER
        says = content.strip() or message.get("tool_calls") or message.get("reasoning_content")
        if message["role"] == "assistant" and not says and example.sampled_ids is None:
            return EMPTY_RESPONSE
    return None


def _unique(example: Example, seen: Fingerprints, index: int, tally: Tally) -> Example:
    """The example under an id that no row before it has: public data sets repeat theirs."""
    if seen.is_new(hash(example.id)):
        return example
    tally.note("repeated id, row number added to it")
    unique = f"{example.id}#{index}"
    seen.is_new(hash(unique))
    return Example(unique, example.messages, example.task, example.origin, example.sampled_ids, example.tools)
