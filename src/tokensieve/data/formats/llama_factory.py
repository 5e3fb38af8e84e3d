"""LLaMA-Factory's ``dataset_info.json``: data sets by name, with their columns and tags."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokensieve.data.formats.fields import as_list
from tokensieve.data.formats.folders import DEFAULT_SPLIT, INFO_NAME
from tokensieve.errors import InputError

_FIELDS_OF: Final[Mapping[str, Mapping[str, str]]] = {
    "alpaca": {
        "prompt": "instruction", "query": "input", "response": "output", "history": "history",
    },
    "sharegpt": {"messages": "conversations"},
    "openai": {"messages": "messages"},
}  # fmt: skip
"""Our names of the columns that ``dataset_info.json`` names, by its ``formatting``."""

_SHARED_FIELDS: Final = {"system": "system", "tools": "tools", "kto_tag": "kto_tag"}
_TAGS: Final[Mapping[str, str]] = {
    "user_tag": "user",
    "assistant_tag": "assistant",
    "observation_tag": "tool",
    "function_tag": "function_call",
    "system_tag": "system",
}


@dataclass(frozen=True, slots=True)
class Described:
    """One entry of LLaMA-Factory's ``dataset_info.json``: a data set and how its rows are to be read.

    Attributes:
        name: of the entry.
        source: its file or folder, or a Hub name.
        split: its split.
        format: the form of its rows, in our words.
        columns: its names for our fields.
        turns: the column of its turns; empty where rows are pairs.
        tags: the fields and roles of its turns where they are its own.
    """

    name: str
    source: Path | str
    split: str
    format: str
    columns: Mapping[str, str]
    turns: str
    tags: Mapping[str, str]

    def translated(self, record: Mapping[str, object]) -> Mapping[str, object]:
        """A row whose turns have ShareGPT's fields and roles."""
        turns = as_list(record.get(self.turns))
        if not self.tags or turns is None:
            return record
        role_key, text_key = self.tags.get("role_tag", "from"), self.tags.get("content_tag", "value")
        roles = {self.tags[tag]: ours for tag, ours in _TAGS.items() if tag in self.tags}

        def turn(given: object) -> object:
            if not isinstance(given, Mapping) or role_key not in given:
                return given
            rest = {key: value for key, value in given.items() if key not in (role_key, text_key)}
            role = given[role_key]
            return {"from": roles.get(str(role), role), "value": given.get(text_key), **rest}

        return {**record, self.turns: [turn(given) for given in turns]}


def described_in(folder: Path, name: str | None) -> Described | None:
    """The entry of a folder's ``dataset_info.json``; None where the folder has no such file of LLaMA-Factory's.

    Args:
        folder: the folder.
        name: the entry's; None where there is but one.

    Raises:
        InputError: there are several and none was named, no such entry, or one that describes no training rows.
    """
    path = folder / INFO_NAME
    if not path.is_file():
        return None
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"broken JSON: {error}", where=str(path)) from None
    sources = ("file_name", "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name")
    if not isinstance(entries, dict) or not entries:
        return None
    if not all(isinstance(entry, dict) and any(key in entry for key in sources) for entry in entries.values()):
        return None
    if (name is None and len(entries) > 1) or (name is not None and name not in entries):
        problem = "names several data sets" if name is None else f"has no entry {name!r}"
        raise InputError(
            f"LLaMA-Factory's {INFO_NAME} {problem}; there are: {', '.join(entries)}",
            where=str(path),
            fix=f"{folder}:NAME",
        )
    chosen = name if name is not None else next(iter(entries))
    return _described(folder, chosen, entries[chosen], f"{path}, {chosen}")


def _described(folder: Path, name: str, entry: Mapping[str, object], where: str) -> Described:
    formatting = str(entry.get("formatting", "alpaca"))
    if formatting not in _FIELDS_OF or entry.get("ranking"):
        what = "preference data (ranking)" if entry.get("ranking") else f"the formatting {formatting!r}"
        raise InputError(f"{what} is not read", where=where, fix=f"one of {', '.join(_FIELDS_OF)}, without ranking")
    columns, tags = (_texts(entry.get(key), f"{where}, {key}") for key in ("columns", "tags"))
    ours = {**_FIELDS_OF[formatting], **_SHARED_FIELDS}
    if unknown := [key for key in columns if key not in ours]:
        raise InputError(f"the column {unknown[0]!r} is not read; those of text are: {', '.join(ours)}", where=where)
    if formatting == "openai":
        tags = {"role_tag": "role", "content_tag": "content", **tags}
    if "file_name" in entry:
        source: Path | str = folder / str(entry["file_name"])
    elif "hf_hub_url" in entry:
        subset = f":{entry['subset']}" if entry.get("subset") else ""
        source = f"{entry['hf_hub_url']}{subset}"
    else:
        raise InputError("only file_name and hf_hub_url are read", where=where)
    form = "alpaca" if formatting == "alpaca" else "sharegpt"
    split = str(entry.get("split", DEFAULT_SPLIT))
    renames = {ours[key]: theirs for key, theirs in columns.items() if ours[key] != theirs}
    turns = columns.get("messages", _FIELDS_OF[formatting].get("messages", ""))
    return Described(name, source, split, form, renames, turns, tags)


def _texts(value: object, where: str) -> Mapping[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(inner, str) for inner in value.values()):
        raise InputError("expected an object of texts", where=where)
    return value
