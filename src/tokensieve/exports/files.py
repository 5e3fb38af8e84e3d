"""Rows into files and back, one portion at a time, so that memory does not grow with their number."""

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    import pyarrow as pa

Format: TypeAlias = Literal["parquet", "jsonl", "save_to_disk"]
TrainerRow: TypeAlias = Mapping[str, object]

_PORTION: Final = 2048
DATA: Final[dict[Format, str]] = {
    "parquet": "data/train.parquet",
    "jsonl": "data/train.jsonl",
    "save_to_disk": "data",
}
"""Path of the data in the export's folder, by format."""


def write_rows(rows: Iterable[TrainerRow], folder: Path, format: Format, columns: Mapping[str, str] | None) -> None:  # noqa: A002
    """Write rows under the folder, at the place that ``DATA`` names.

    Args:
        rows: the trainer's rows.
        folder: the export's folder.
        format: parquet, jsonl or save_to_disk.
        columns: Arrow types of the columns, lists all; may be None for jsonl.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = folder / DATA[format]
    target.parent.mkdir(parents=True, exist_ok=True)
    types = (columns or {}).items()
    schema = pa.schema([(name, pa.list_(pa.type_for_alias(kind))) for name, kind in types])
    if format == "jsonl":
        with target.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, separators=(",", ":")) + "\n")
    elif format == "parquet":
        with pq.ParquetWriter(target, schema, compression="zstd") as writer:
            for table in _tables(rows, schema):
                writer.write_table(table)
    else:
        _write_arrow(rows, target, schema)


def _write_arrow(rows: Iterable[TrainerRow], target: Path, schema: "pa.Schema") -> None:
    """A folder as the datasets library saves it, with the one split ``train``, copied from a memory-mapped file."""
    import datasets
    import pyarrow as pa

    part = target.with_name("rows.arrow")
    with pa.OSFile(str(part), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for table in _tables(rows, schema):
            writer.write_table(table)
    saved = datasets.Dataset.from_file(str(part))
    datasets.DatasetDict({"train": saved}).save_to_disk(str(target))
    del saved
    part.unlink()


def _tables(rows: Iterable[TrainerRow], schema: "pa.Schema") -> "Iterator[pa.Table]":
    import pyarrow as pa

    iterator = iter(rows)
    while portion := list(itertools.islice(iterator, _PORTION)):
        yield pa.Table.from_pylist(portion, schema=schema)


def read_rows(folder: Path, format: Format) -> Iterator[Mapping[str, object]]:  # noqa: A002
    """The rows of an export as records, read without the trainer."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / DATA[format]
    if format == "jsonl":
        with path.open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
    elif format == "parquet":
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(batch_size=1024):
                yield from batch.to_pylist()
    else:
        for shard in sorted((path / "train").glob("*.arrow")):
            with pa.memory_map(str(shard)) as source:
                for batch in pa.ipc.open_stream(source):
                    yield from batch.to_pylist()
