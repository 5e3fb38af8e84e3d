"""Rows a second through reading, tokenising and export, and the memory it takes: python benchmarks/data.py [ROWS]."""

import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.chat_tokenizers import tokenizer
from tests.export_rows import of, selected_rows

from tokensieve.config import DataSettings
from tokensieve.data.chat import tokenise_all
from tokensieve.data.export import export
from tokensieve.data.folder import Rows
from tokensieve.data.formats import read_examples
from tokensieve.data.tally import Tally
from tokensieve.types import Selected

ANSWER = "the answer is Paris, the capital of France. " * 8


def memory_mb() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def report(what: str, rows: int, seconds: float) -> None:
    print(f"{what:28} {rows:>9,} rows  {rows / seconds:>9,.0f} rows/s  peak {memory_mb():>7,.0f} MB")


def repeated(rows: list[Selected], n: int) -> Rows[Selected]:
    """As many rows as asked for without holding them."""

    def iterate() -> Iterator[Selected]:
        for index in range(n):
            yield rows[index % len(rows)]

    return Rows(of([]).manifest, iterate)


def main(n: int) -> None:
    report("start", 1, 1.0)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "rows.jsonl"
        with path.open("w") as file:
            for index in range(n):
                row = {"id": str(index), "prompt": f"What is it? {index}", "completion": ANSWER}
                file.write(json.dumps(row) + "\n")
        started = time.monotonic()
        seen = sum(1 for _ in read_examples(path, DataSettings(), Tally()))
        report("read JSONL", seen, time.monotonic() - started)
        few = min(n, 5000)
        tokenizer("chatml")
        started = time.monotonic()
        settings = DataSettings(limit=few)
        tokens = sum(
            len(row)
            for row in tokenise_all(read_examples(path, settings, Tally()), tokenizer("chatml"), settings, Tally())
        )
        report(f"read and tokenise ({tokens // few} tokens)", few, time.monotonic() - started)
        base = list(selected_rows(64, seed=int(np.random.default_rng(0).integers(99))))
        started = time.monotonic()
        export(repeated(base, n), Path(scratch) / "out")
        report("export (Parquet)", n, time.monotonic() - started)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
