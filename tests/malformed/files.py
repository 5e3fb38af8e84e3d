"""Files that are malformed as files: encodings, compression, tables, folders."""

import gzip
import json
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tests.malformed.case import GOOD, PAIR, Case, line, second


def bytes_cases() -> Iterator[Case]:
    wrong = {
        "ff": b"\xff", "fe": b"\xfe", "lone continuation": b"\x80", "cut sequence": b"\xe2\x82",
        "overlong": b"\xc0\xaf",
        "surrogate": b"\xed\xa0\x80", "beyond unicode": b"\xf5\x80\x80\x80", "latin-1": "é".encode("latin-1"),
        "windows quotes": b"\x93hi\x94",
    }  # fmt: skip
    for name, piece in wrong.items():
        row = b'{"prompt": "a", "completion": "' + piece + b'"}\n'
        yield second("invalid UTF-8", name, row, "error", "invalid UTF-8", first=PAIR)
    for encoding in ("utf-16", "utf-16-be", "utf-16-le"):
        bom = b"\xfe\xff" if encoding == "utf-16-be" else b"\xff\xfe" if encoding == "utf-16-le" else b""
        yield Case(
            "UTF-16", encoding, "rows.jsonl", bom + json.dumps(GOOD).encode(encoding), "error", ("UTF-16", "iconv")
        )
    yield Case("byte-order mark", "utf-8-sig", "rows.jsonl", b"\xef\xbb\xbf" + line(GOOD), "keep")
    halves = ("\\ud800", "\\udc00", "a\\ud83d", "\\ude00b")
    for half in halves:
        row = b'{"prompt": "a", "completion": "' + half.encode() + b'"}\n'
        yield second("half a surrogate pair", half, row, "error", "surrogate", first=PAIR)
        row = b'{"prompt": "' + half.encode() + b'", "completion": "a"}\n'
        yield second("half a surrogate pair", f"{half} in the prompt", row, "error", "surrogate", first=PAIR)


def files_cases() -> Iterator[Case]:
    packed = gzip.compress(line(GOOD) * 500, mtime=0)
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
    yield Case("no gzip", "plain text", "rows.jsonl.gz", line(GOOD), "error", ("gzip",))
    yield Case("no gzip", "wrong checksum", "rows.jsonl.gz", packed[:-8] + bytes(8), "error", ("gzip",))
    for share in (0.1, 0.5, 0.9, 0.99):
        yield Case(
            "truncated Parquet", f"{share:.0%}", "rows.parquet", _cut_parquet(share), "error", ("Parquet", "damaged")
        )
    yield Case("no Parquet", "plain text", "rows.parquet", line(GOOD), "error", ("Parquet", "damaged"))
    yield Case("no Parquet", "zeros in the middle", "rows.parquet", _holed_parquet, "error", ("Parquet", "damaged"))
    for name, column in _WRONG_COLUMNS.items():
        yield Case("Parquet of a wrong type", name, "rows.parquet", _parquet_of(column), "error", ("row 1", "prompt"))
    turns = pa.array([[["user", "hello"], ["assistant", "world"]]])
    yield Case(
        "Parquet of a wrong type", "turns that are lists", "rows.parquet", _table_of({"messages": turns}), "error",
        ("row 1, turn 1", "expected a turn"),
    )  # fmt: skip
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
    twice = b"prompt,prompt,completion\na,b,c\n"
    yield Case(
        "broken CSV",
        "separated by semicolons",
        "rows.csv",
        b"prompt;completion\na;b\n",
        "error",
        ("line 1", "separated by ';'"),
    )
    yield Case("broken CSV", "a name twice in the header", "rows.csv", twice, "error", ("twice", "prompt"))
    index = b",prompt,completion\n0,a,b\n"  # as pandas writes a table with its index
    yield Case("broken CSV", "a field without a name", "rows.csv", index, "keep")
    yield Case("broken CSV", "NUL", "rows.csv", table + b"a\0,b\n", "drop", ("NUL",))
    yield Case("broken CSV", "empty response", "rows.csv", table + b"a,\n", "drop", ("empty response",))
    yield Case("broken CSV", "invalid UTF-8", "rows.csv", table + b"a,\xff\n", "error", ("invalid UTF-8", "line 3"))


_WRONG_COLUMNS = {
    "numbers": pa.array([1]),
    "bytes": pa.array([b"hello"]),
    "decimals": pa.array([Decimal("1.5")]),
    "dates": pa.array([date(2026, 1, 31)]),
    "flags": pa.array([True]),
    "lists of text": pa.array([["hello"]]),
    "objects": pa.array([{"text": "hello"}]),
    "nulls": pa.array([None], pa.string()),
}


def _parquet_of(prompts: pa.Array) -> Callable[[Path], None]:
    return _table_of({"prompt": prompts, "completion": pa.array(["world"])})


def _table_of(columns: dict[str, pa.Array]) -> Callable[[Path], None]:
    return lambda path: pq.write_table(pa.table(columns), path)


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
