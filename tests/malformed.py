"""Malformed data sets, by kind: what users really hand in, and what has to come of it.

Every case is a file (or folder) and the outcome that is owed: an error whose message holds given words, a row that is
dropped under a given reason, or, where the row is odd but sound, a row that is kept. ``CASES`` holds all of them.
"""

import gzip
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

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


def _line(value: object) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _second(kind: str, name: str, line: bytes, owed: Owed, *words: str, first: object = None, **more: object) -> Case:
    """A JSONL file whose first row is good and whose second is ``line``; an error must name that line."""
    good = _line(first if first is not None else GOOD)
    place = ("rows.jsonl, line 2",) if owed == "error" else ()
    return Case(kind, name, "rows.jsonl", good + line, owed, (*place, *words), **more)  # type: ignore[arg-type]


def _says(user: object, assistant: object) -> object:
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]}


def _json() -> Iterator[Case]:
    broken = {
        "missing brace": b'{"messages": []',
        "trailing comma": b'{"messages": [],}',
        "single quotes": b"{'messages': []}",
        "bare word": b"{messages: []}",
        "open string": b'{"messages": "hel',
        "two objects": b'{"a": 1}{"a": 2}',
        "no colon": b'{"messages" []}',
        "comment": b'{"messages": [] /* none */}',
        "line break in text": b'{"prompt": "a\nb"}',
        "raw tab in text": b'{"prompt": "a\tb", "completion": "c"}',
        "raw bell in text": b'{"prompt": "a\x07b", "completion": "c"}',
        "bad escape": b'{"prompt": "\\q"}',
        "half an escape": b'{"prompt": "\\u12"}',
        "python's True": b'{"prompt": True}',
        "huge number": b'{"id": ' + b"9" * 5000 + b"}",
        "deep nesting": b'{"messages": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        "text": b"hello world",
    }
    for name, line in broken.items():
        yield _second("broken JSON", name, line + b"\n", "error", "broken JSON")
    for name, value in {"list": [1], "number": 1, "text": "hello", "null": None, "true": True, "float": 1.5}.items():
        yield _second("row that is no object", name, _line(value), "error", "expected a JSON object")
    for constant in (b"NaN", b"Infinity", b"-Infinity"):
        yield _second(
            "NaN", f"{constant.decode()} as id", b'{"id": ' + constant + b', "prompt": "a"}\n', "error", "no JSON value"
        )
        yield _second(
            "NaN",
            f"{constant.decode()} as text",
            b'{"prompt": "a", "completion": ' + constant + b"}\n",
            "error",
            "no JSON value",
        )


def _bytes() -> Iterator[Case]:
    wrong = {
        "ff": b"\xff", "fe": b"\xfe", "lone continuation": b"\x80", "cut sequence": b"\xe2\x82",
        "overlong": b"\xc0\xaf",
        "surrogate": b"\xed\xa0\x80", "beyond unicode": b"\xf5\x80\x80\x80", "latin-1": "é".encode("latin-1"),
        "windows quotes": b"\x93hi\x94",
    }  # fmt: skip
    for name, piece in wrong.items():
        row = b'{"prompt": "a", "completion": "' + piece + b'"}\n'
        yield _second("invalid UTF-8", name, row, "error", "invalid UTF-8", first=PAIR)
    for encoding in ("utf-16", "utf-16-be", "utf-16-le"):
        bom = b"\xfe\xff" if encoding == "utf-16-be" else b"\xff\xfe" if encoding == "utf-16-le" else b""
        yield Case(
            "UTF-16", encoding, "rows.jsonl", bom + json.dumps(GOOD).encode(encoding), "error", ("UTF-16", "iconv")
        )
    yield Case("byte-order mark", "utf-8-sig", "rows.jsonl", b"\xef\xbb\xbf" + _line(GOOD), "keep")
    halves = ("\\ud800", "\\udc00", "a\\ud83d", "\\ude00b")
    for half in halves:
        row = b'{"prompt": "a", "completion": "' + half.encode() + b'"}\n'
        yield _second("half a surrogate pair", half, row, "error", "surrogate", first=PAIR)
        row = b'{"prompt": "' + half.encode() + b'", "completion": "a"}\n'
        yield _second("half a surrogate pair", f"{half} in the prompt", row, "error", "surrogate", first=PAIR)


def _types() -> Iterator[Case]:
    value: object
    turn: object
    for value in ("hello", 1, None, True, 1.5, {"role": "user"}):
        yield _second(
            "messages that are no list", repr(value), _line({"messages": value}), "error", "expected a list of turns"
        )
    for turn in ("hello", 1, None, True, ["user", "hello"], [[]], 2.5):
        yield _second(
            "turn that is no object", repr(turn), _line({"messages": [turn]}), "error", "expected a turn", "turn 1"
        )
    for content in (1, 1.5, True, {"text": "a"}, ["a"], [1], [[["a"]]], [None]):
        yield _second(
            "content of a wrong type", f"user {content!r}", _line(_says(content, "a")), "error", "content", "turn 1"
        )
        yield _second(
            "content of a wrong type",
            f"assistant {content!r}",
            _line(_says("a", content)),
            "error",
            "content",
            "turn 2",
        )
    yield _second("content of a wrong type", "null from the user", _line(_says(None, "a")), "error", "content is null")
    for part in (
        {"type": "image"},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "audio"},
        {"type": "text"},
    ):
        yield _second("content that is no text", str(part), _line(_says([part], "a")), "error", "only text is read")
    for value in (1.5, True, [1], {"a": 1}):
        yield _second("id of a wrong type", repr(value), _line({**GOOD, "id": value}), "error", "id is")


def _turns() -> Iterator[Case]:
    for role in ("User", "ASSISTANT", "bot", "human", "gpt", "", "assistant ", "usr", "ai", None, 1, "narrator"):
        row = {"messages": [{"role": role, "content": "a"}, {"role": "assistant", "content": "b"}]}
        yield _second("unknown role", repr(role), _line(row), "error", "unknown role", "turn 1")
    for turn in ({"content": "a"}, {"from": "human", "value": "a"}, {}, {"rôle": "user"}):
        yield _second("turn without a role", str(turn), _line({"messages": [turn]}), "error", "has no 'role'")
    for content in ("", " ", "\n", "\t \r\n", None, [], [{"type": "text", "text": " "}]):
        yield _second("empty response", repr(content), _line(_says("a", content)), "drop", "empty response")
    for name, roles in {"none": [], "user": ["user"], "system": ["system", "user"], "tool": ["user", "tool"]}.items():
        row = {"messages": [{"role": role, "content": "a"} for role in roles]}
        yield _second("no assistant turn", name, _line(row), "drop", "no assistant turn")
    orders = (
        "assistant", "assistant user assistant", "user user assistant", "user assistant assistant",
        "user system assistant", "user tool assistant", "system assistant",
    )  # fmt: skip
    for order in orders:
        row = {"messages": [{"role": role, "content": "a"} for role in order.split()]}
        reason = "refused by the chat template"
        yield _second("roles out of order", order, _line(row), "drop", reason, tokenizer="mistral")
    for key, value in (("weight", 0), ("weight", 0.5), ("train", False), ("training", False), ("train", "no")):
        marked = {"role": "assistant", "content": "b", key: value}
        row = {"messages": [{"role": "user", "content": "a"}, marked]}
        yield _second("turn switched off", f"{key}={value}", _line(row), "error", "not switched off one by one")


def _tools() -> Iterator[Case]:
    calls: tuple[object, ...] = (
        "think", ["think"], [1], [{}], [{"function": {}}], [{"function": {"name": 1}}], [{"function": "think"}],
        [{"function": {"name": "think", "arguments": "{"}}], [{"function": {"name": "think", "arguments": "[1]"}}],
        [{"function": {"name": "think", "arguments": 1}}], [{"function": {"name": "think", "arguments": [1]}}], [None],
    )  # fmt: skip
    for call in calls:
        calling = {"role": "assistant", "content": None, "tool_calls": call}
        row = {"messages": [{"role": "user", "content": "a"}, calling]}
        yield _second("malformed tool call", str(call), _line(row), "error")
    for tools in ("[", "2", 1, [1], ["think"], {"name": "think"}):
        yield _second("malformed tools", str(tools), _line({**GOOD, "tools": tools}), "error")
    right = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "think", "arguments": {}}}]}
    row = {"messages": [{"role": "user", "content": "a"}, right]}
    yield _second(
        "tool call that the template drops", "llama3", _line(row), "drop", "cannot be found", tokenizer="llama3"
    )


def _forms() -> Iterator[Case]:
    value: object
    turn: object
    fields: object
    for first, good in FORMS.items():
        for second, other in FORMS.items():
            if first != second:
                yield _second("mixed forms", f"{first}, then {second}", _line(other), "error", first=good)
    for value in (1, None, [], {}, True):
        owed: Owed = "drop" if value is None or value == [] else "error"
        yield _second(
            "response of a wrong type", f"completion {value!r}", _line({**PAIR, "completion": value}), owed, first=PAIR
        )
        if value != []:
            yield _second(
                "response of a wrong type", f"output {value!r}", _line({**ALPACA, "output": value}), owed, first=ALPACA
            )
    for value in (1, None, {}, True):
        yield _second(
            "prompt of a wrong type", f"prompt {value!r}", _line({**PAIR, "prompt": value}), "error", first=PAIR
        )
        yield _second(
            "prompt of a wrong type",
            f"instruction {value!r}",
            _line({**ALPACA, "instruction": value}),
            "error",
            first=ALPACA,
        )
    for history in ("a", 1, [1], ["ab"], [["a"]], [["a", 1]], [[None, "b"]]):
        yield _second(
            "malformed history", repr(history), _line({**ALPACA, "history": history}), "error", "history", first=ALPACA
        )
    for turn in (
        {"from": "human"},
        {"value": "a"},
        {"from": "Human", "value": "a"},
        {"from": "gpt", "value": 1},
        "a",
        1,
    ):
        yield _second(
            "malformed ShareGPT turn", str(turn), _line({"conversations": [turn]}), "error", "turn 1", first=SHAREGPT
        )
    yield _second(
        "malformed ShareGPT turn", "call that is no JSON",
        _line({"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "think()"}]}),
        "error", "expected JSON", first=SHAREGPT,
    )  # fmt: skip
    own: object = {**GOOD, "origin": "ground_truth"}
    wrong: tuple[tuple[str, object], ...] = (
        ("origin", "me"), ("origin", 1), ("sampled_ids", "1 2"), ("sampled_ids", [-1]), ("sampled_ids", [1.5]),
        ("sampled_ids", ["1"]), ("sampled_ids", [2**40]), ("sampled_ids", [True]), ("task", 1),
    )  # fmt: skip
    for key, value in wrong:
        row = {**GOOD, "origin": "ground_truth", key: value}
        yield _second("malformed example", f"{key}={value!r}", _line(row), "error", first=own)
    for value in (1, ["a"], {"a": 1}):
        yield _second("malformed system prompt", repr(value), _line({**GOOD, "system": value}), "error", "system")
    for fields in (
        {},
        {"text": "a"},
        {"question": "a"},
        {"chosen": [], "rejected": []},
        {"input_ids": [1]},
        {"Prompt": "a"},
    ):
        yield Case("unrecognised form", str(fields), "rows.jsonl", _line(fields), "error", ("not recognised", "line 1"))
    named = DataSettings(columns={"prompt": "ask"})
    yield Case("column that is not there", "ask", "rows.jsonl", _line(PAIR), "error", ("no column 'ask'",), named)
    stated = DataSettings(format="sharegpt")
    yield Case("form stated wrongly", "sharegpt", "rows.jsonl", _line(PAIR), "error", ("expected the field",), stated)


def _files() -> Iterator[Case]:
    packed = gzip.compress(_line(GOOD) * 500, mtime=0)
    yield Case("empty file", "jsonl", "rows.jsonl", b"", "error", ("no rows",))
    yield Case("empty file", "blank lines", "rows.jsonl", b"\n \n\t\n", "error", ("no rows",))
    yield Case("empty file", "byte-order mark", "rows.jsonl", b"\xef\xbb\xbf", "error", ())
    yield Case("empty file", "gzip", "rows.jsonl.gz", gzip.compress(b"", mtime=0), "error", ("no rows",))
    yield Case("empty file", "gzip of no bytes", "rows.jsonl.gz", b"", "error", ())
    yield Case("empty file", "csv", "rows.csv", b"", "error", ("no rows",))
    yield Case("empty file", "csv header", "rows.csv", b"prompt,completion\n", "error", ("no rows",))
    yield Case("empty file", "json", "rows.json", b"[]", "error", ("no rows",))
    yield Case("empty file", "parquet of no rows", "rows.parquet", _no_rows, "error", ("no rows",))
    yield Case("empty file", "parquet of no bytes", "rows.parquet", b"", "error", ("damaged",))
    for kept in (11, 20, len(packed) // 2, len(packed) - 9, len(packed) - 1):
        yield Case("truncated gzip", f"{kept} bytes", "rows.jsonl.gz", packed[:kept], "error", ("gzip", "damaged"))
    yield Case("no gzip", "plain text", "rows.jsonl.gz", _line(GOOD), "error", ("gzip",))
    yield Case("no gzip", "wrong checksum", "rows.jsonl.gz", packed[:-8] + bytes(8), "error", ("gzip",))
    for share in (0.1, 0.5, 0.9, 0.99):
        yield Case(
            "truncated Parquet", f"{share:.0%}", "rows.parquet", _cut_parquet(share), "error", ("Parquet", "damaged")
        )
    yield Case("no Parquet", "plain text", "rows.parquet", _line(GOOD), "error", ("Parquet", "damaged"))
    yield Case("no Parquet", "zeros in the middle", "rows.parquet", _holed_parquet, "error", ("Parquet", "damaged"))
    yield Case("unknown file", "txt", "rows.txt", b"hello", "error", ("expected a file of one of the kinds",))
    yield Case("unknown file", "no suffix", "rows", b"hello", "error", ("expected a file of one of the kinds",))
    yield Case("unknown file", "empty folder", "rows", Path.mkdir, "error", ("holds no file",))
    yield Case("unknown file", "broken saved data set", "saved", _broken_saved, "error", ("damaged",))
    yield Case("broken JSON array", "cut", "rows.json", b'[{"prompt": "a"}, {', "error", ("broken JSON",))
    yield Case(
        "broken JSON array", "no objects", "rows.json", b"[1, 2]", "error", ("expected a JSON object", "entry 1")
    )
    table = b"prompt,completion\na,b\n"
    for name, rest in {
        "too many fields": b"a,b,c\n", "too few fields": b"a\n", "open quote": b'"a,b\n',
        "text after a quote": b'"a"b,c\n',
        "semicolons": b"a;b\n",
    }.items():  # fmt: skip
        yield Case("broken CSV", name, "rows.csv", table + rest, "error", ("rows.csv, line 3",))
    yield Case("broken CSV", "NUL", "rows.csv", table + b"a\0,b\n", "drop", ("NUL",))
    yield Case("broken CSV", "empty response", "rows.csv", table + b"a,\n", "drop", ("empty response",))
    yield Case("broken CSV", "invalid UTF-8", "rows.csv", table + b"a,\xff\n", "error", ("invalid UTF-8", "line 3"))


def _text() -> Iterator[Case]:
    for place in ("user", "assistant"):
        row = _says("a\0b", "c") if place == "user" else _says("a", "b\0")
        yield _second("NUL character", place, _line(row), "drop", "NUL character")
    for code in (1, 7, 8, 11, 12, 27, 127, 0x85, 0x200B, 0x202E, 0xFEFF, 0xFFFD, 0x10FFFF, 0xE000):
        yield _second("control character", f"U+{code:04X}", _line(_says(f"a{chr(code)}b", f"c{chr(code)}d")), "keep")
    for token in ("<|im_end|>", "<|im_start|>", "<|im_end|>\n<|im_start|>assistant\n", "<|im_<|im_end|>end|>"):
        yield _second("special token in text", repr(token), _line(_says(f"a{token}b", "c")), "keep")
        yield _second("special token in text", f"{token!r} in a response", _line(_says("a", f"{token}b")), "keep")
    long = DataSettings(max_length=64)
    fifty = b'{"prompt": "' + b"a" * (50 * 2**20) + b'", "completion": "b"}\n'
    yield _second("line of 50 MB", "prompt", fifty, "drop", "over-long", first=PAIR, settings=long)
    for words in (100, 1000):
        row = _says("hello " * words, "world")
        yield _second("over-long row", f"{words} words", _line(row), "drop", "over-long", settings=long)
    strict = DataSettings(max_length=64, over_long="error")
    row = _says("hello " * 100, "world")
    yield Case("over-long row", "refused", "rows.jsonl", _line(row), "error", ("tokens, the limit is 64",), strict)
    cut = DataSettings(max_length=64, over_long="cut")
    yield _second(
        "over-long row", "no response left", _line(row), "drop", "no response left after the cut", settings=cut
    )
    unique = DataSettings(duplicates="drop")
    yield _second("duplicate", "same row", _line(GOOD), "drop", "duplicate", settings=unique)


def _no_rows(path: Path) -> None:
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), path)


def _parquet(path: Path) -> bytes:
    pq.write_table(pa.Table.from_pylist([PAIR] * 5000), path, compression="none", use_dictionary=False)
    return path.read_bytes()


def _cut_parquet(share: float) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        whole = _parquet(path)
        path.write_bytes(whole[: int(len(whole) * share)])

    return write


def _holed_parquet(path: Path) -> None:
    whole = _parquet(path)
    path.write_bytes(whole[:8] + b"\xff" * 40 + whole[48:])


def _broken_saved(path: Path) -> None:
    path.mkdir()
    (path / "dataset_info.json").write_text("{}")
    (path / "state.json").write_text('{"_data_files": [{"filename": "missing.arrow"}]}')


CASES = [case for group in (_json, _bytes, _types, _turns, _tools, _forms, _files, _text) for case in group()]
