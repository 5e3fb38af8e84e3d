"""Rows a second through reading, tokens and export, and the memory each takes: python benchmarks/data.py [ROWS].

Each step runs in a process of its own, so that its peak memory is its own; the first two lines are those of processes
that have only imported what the steps need: the libraries, and for making tokens also TRL with its chat templates.
"""

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import pyarrow as pa
import pyarrow.parquet as pq
from machine import describe_run
from tests.chat_tokenizers import tokenizer
from tests.export_rows import of, selected_rows

from tokensieve.config import DataSettings
from tokensieve.data.chat import prepare, tokenise_all
from tokensieve.data.dataset import Rows, ShardRun, in_shards, open_rows
from tokensieve.data.formats import read_examples
from tokensieve.data.manifest import Manifest
from tokensieve.data.row_counts import Tally
from tokensieve.exports import export
from tokensieve.types import Example, Message, Selected, Tokens

ANSWER = "the answer is Paris, the capital of France."


def write(folder: Path, n: int) -> None:
    """The same short conversations as JSONL and as Parquet."""
    rows = ({"id": str(index), "prompt": f"What is it? {index}", "completion": ANSWER} for index in range(n))
    schema = pa.schema([("id", pa.string()), ("prompt", pa.string()), ("completion", pa.string())])
    with (
        (folder / "rows.jsonl").open("w", encoding="utf-8") as file,
        pq.ParquetWriter(folder / "rows.parquet", schema) as table,
    ):
        for portion in in_shards(rows, 10_000):
            file.writelines(json.dumps(row) + "\n" for row in portion)
            table.write_table(pa.Table.from_pylist(portion, schema=schema))


def start(folder: Path, n: int) -> None:  # noqa: ARG001 - every step takes them
    """Nothing: what a process takes before it has begun."""
    tokenizer("chatml")


def start_with_trl(folder: Path, n: int) -> None:  # noqa: ARG001 - every step takes them
    """The tokens of one row: what a process takes before it makes those of many."""
    row = Example("row", (Message(role="user", content="What is it?"), Message(role="assistant", content=ANSWER)))
    assert len(list(tokenise_all([row], prepare(tokenizer("chatml")), DataSettings(), Tally()))) == 1


def read_jsonl(folder: Path, n: int) -> None:
    assert sum(1 for _ in read_examples(folder / "rows.jsonl", DataSettings(), Tally())) == n


def read_parquet(folder: Path, n: int) -> None:
    assert sum(1 for _ in read_examples(folder / "rows.parquet", DataSettings(), Tally())) == n


def make_tokens(folder: Path, n: int) -> None:
    settings, tally = DataSettings(), Tally()
    rows = tokenise_all(
        read_examples(folder / "rows.jsonl", settings, tally), prepare(tokenizer("chatml")), settings, tally
    )
    with ShardRun[Tokens](folder / "tokens", Manifest(stage="tokens")) as run:
        run.make(in_shards(rows, 512), list)
        run.finish(tally.counts)
    assert tally.counts.rows_out == n


def read_tokens(folder: Path, n: int) -> None:
    assert sum(1 for _ in open_rows(folder / "tokens")) == n


def export_parquet(folder: Path, n: int) -> None:
    base = list(selected_rows(64, seed=3))

    def iterate() -> Iterator[Selected]:
        for index in range(n):
            yield base[index % len(base)]

    export(Rows(of([]).manifest, iterate), folder / "out")


STEPS: dict[str, Callable[[Path, int], None]] = {
    "start": start,
    "start, TRL imported": start_with_trl,
    "read JSONL": read_jsonl,
    "read Parquet": read_parquet,
    "read JSONL, make tokens, write": make_tokens,
    "read tokens": read_tokens,
    "export (Parquet)": export_parquet,
}


def measure(step: str, folder: Path, n: int) -> None:
    """Run one step here and print its line."""
    begun, begun_cpu = time.monotonic(), time.process_time()
    STEPS[step](folder, n)
    wall, cpu = time.monotonic() - begun, time.process_time() - begun_cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{step:32} {n:>9,} rows {wall:>7.1f} s {n / wall:>9,.0f} rows/s {n / cpu:>9,.0f} rows/cpu-s "
        f"peak {peak_mb:>6,.0f} MB",
        flush=True,
    )


def main(n: int) -> None:
    print(describe_run(), flush=True)
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch), n)
        for step in STEPS:
            process = context.Process(target=measure, args=(step, Path(scratch), n))
            process.start()
            process.join()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="?", type=int, default=100_000, metavar="ROWS", help="rows of the data set")
    main(parser.parse_args().rows)
