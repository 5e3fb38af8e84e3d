"""Reading of data sets in any known form, from files, folders, the Hub or memory, into examples."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from tokensieve.config import DataSettings
from tokensieve.data.formats.columns import FIELDS, check_columns, columns_of, recognise, renamed, unread
from tokensieve.data.formats.fields import Fields
from tokensieve.data.formats.files import Located
from tokensieve.data.formats.rows import FORMATS, build
from tokensieve.data.formats.sources import Source, find
from tokensieve.data.hashing import Fingerprints
from tokensieve.data.row_counts import Tally
from tokensieve.errors import InputError
from tokensieve.types import Example, is_trained

if TYPE_CHECKING:
    from tokensieve.data.formats.sources import Data

__all__ = ["FORMATS", "Source", "find", "read_examples", "recognise"]

EMPTY_RESPONSE: Final = "empty response"
NO_ASSISTANT: Final = "no assistant turn"
NUL_CHARACTER: Final = "NUL character"
_UNREAD_NAMED: Final = 50
_UNREAD_OTHERS: Final = "further fields not read"


def read_examples(data: "Data | Source", settings: DataSettings, tally: Tally) -> Iterator[Example]:
    """The examples of a data set, one at a time and in its order.

    A row that is malformed is an error with its place; a row that is sound but teaches nothing (an empty
    response, no assistant turn) is dropped and counted. A field that holds something and is not read is counted
    under its name.

    Args:
        data: a file (``.jsonl``, ``.json``, ``.parquet``, ``.csv``, the text ones also compressed), a folder (a
            stage's examples, a data set's ``save_to_disk``, one with LLaMA-Factory's ``dataset_info.json``, or such
            files), a Hub name (``owner/name``, with ``:config`` and ``@revision`` where they matter), an object of the
            datasets library, a table, rows as dicts, or a source that was found.
        settings: the rows' form, the names of columns, the split, the limit.
        tally: counts rows in and dropped, and is told the recognised form and the fields that are not read.

    Raises:
        InputError: the source is missing, damaged or empty, its form is not recognised, or a row is not of that
            form; with file and line.
        EnvironmentProblem: a Hub data set cannot be fetched.
    """
    source = data if isinstance(data, Source) else find(data, settings)
    for note in source.notes:
        tally.note(note)
    reader: _Reader | None = None
    empty = True
    for located in islice(source.iterate(), settings.limit):
        empty = False
        tally.take()
        if isinstance(located, Example):
            tally.format = "examples"
            yield located
            continue
        reader = reader or _Reader(source, located, settings, tally)
        example = reader.example(located)
        if example is not None:
            yield example
    if empty and not source.may_be_empty:
        raise InputError("the data set holds no rows", where=source.where)


class _Reader:
    """Makes examples of the rows of one data set, whose form and columns its first row decides.

    Args:
        source: the data set.
        first: its first row.
        settings: the form and the columns that the user states.
        tally: counts what is dropped and not read.
    """

    def __init__(self, source: Source, first: Located, settings: DataSettings, tally: Tally) -> None:
        self._source = source
        self._tally = tally
        self._seen = Fingerprints()
        self._unread_names: set[str] = set()
        described = source.described
        stated = {**described.columns, **settings.columns} if described else settings.columns
        check_columns(stated, (name for names in FIELDS.values() for name in names))
        record = described.translated(first.record) if described else first.record
        form = described.format if described and settings.format == "auto" else settings.format
        if form == "auto":
            form = recognise(renamed(record, stated, first.where), first.where, stated)
        tally.format = form
        self._columns: Mapping[str, str] = columns_of(record, form, stated)

    def example(self, located: Located) -> Example | None:
        """The row as an example; None where it was dropped, which is counted.

        Raises:
            InputError: a field is missing or of the wrong type.
        """
        described = self._source.described
        record = described.translated(located.record) if described else located.record
        fields = Fields(renamed(record, self._columns, located.where))
        draft = build(fields, self._tally.format, located.where)
        own_id = draft.id or f"{self._source.name}/{located.index}"
        for note in fields.notes:
            self._tally.note(note)
        for name in unread(fields, record, self._columns):
            self._note_unread(name)
        if not any(message["role"] == "assistant" for message in draft.messages):
            self._tally.drop(NO_ASSISTANT, own_id)
            return None
        example = Example(own_id, draft.messages, draft.task, draft.origin, draft.sampled_ids, draft.tools)
        if reason := draft.left_out or _nothing_to_learn(example):
            self._tally.drop(reason, own_id)
            return None
        return self._unique(example, located.index)

    def _note_unread(self, name: str) -> None:
        """Count a field that is not read under its name, the first 50 names."""
        if name in self._unread_names or len(self._unread_names) < _UNREAD_NAMED:
            self._unread_names.add(name)
            self._tally.note(f"field {name!r} not read")
        else:
            self._tally.note(_UNREAD_OTHERS)

    def _unique(self, example: Example, index: int) -> Example:
        """The example under an id that no row before it has: public data sets repeat theirs."""
        if self._seen.is_new(hash(example.id)):
            return example
        self._tally.note("repeated id, row number added to it")
        unique = replace(example, id=f"{example.id}#{index}")
        self._seen.is_new(hash(unique.id))
        return unique


def _nothing_to_learn(example: Example) -> str:
    """The reason to drop a well-formed row that holds nothing to train; empty where it is kept."""
    for message in example.messages:
        content = message["content"] or ""
        if "\0" in content:
            return NUL_CHARACTER
        says = content.strip() or message.get("tool_calls") or message.get("reasoning_content")
        if is_trained(message) and not says and example.sampled_ids is None:
            return EMPTY_RESPONSE
    return ""
