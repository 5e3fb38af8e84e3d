"""One malformed source: what it holds and what has to come of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tokensieve.config import DataSettings

Owed = Literal["error", "drop", "keep"]

GOOD: dict[str, object] = {
    "messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "world"}]
}
SHAREGPT: dict[str, object] = {
    "conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "world"}]
}
ALPACA: dict[str, object] = {"instruction": "hello", "input": "", "output": "world"}
PAIR: dict[str, object] = {"prompt": "hello", "completion": "world"}
FORMS = {"messages": GOOD, "sharegpt": SHAREGPT, "alpaca": ALPACA, "prompt_completion": PAIR}


@dataclass(frozen=True, slots=True)
class Case:
    """One malformed source.

    Attributes:
        kind: what sort of mistake it is.
        name: tells it from others of its kind.
        file: name of the file, or of the folder.
        content: its bytes, or what makes it.
        owed: what has to come of it.
        words: in the error's message, or the drop's reason.
        settings: how it is read.
        tokenizer: family of the tokenizer it is made into tokens with.
    """

    kind: str
    name: str
    file: str
    content: bytes | Callable[[Path], None]
    owed: Owed
    words: tuple[str, ...] = ()
    settings: DataSettings = field(default_factory=DataSettings)
    tokenizer: str = "chatml"

    def write(self, folder: Path) -> Path:
        """Put it on disk."""
        path = folder / self.file
        if isinstance(self.content, bytes):
            path.write_bytes(self.content)
        else:
            self.content(path)
        return path


def line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def second(kind: str, name: str, row: bytes, owed: Owed, *words: str, first: object = None, **more: object) -> Case:
    """A JSONL file whose first row is good and whose second is ``row``; an error must name that line."""
    good = line(first if first is not None else GOOD)
    place = ("rows.jsonl, line 2",) if owed == "error" else ()
    return Case(kind, name, "rows.jsonl", good + row, owed, (*place, *words), **more)  # type: ignore[arg-type]


def says(user: object, assistant: object) -> object:
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]}
