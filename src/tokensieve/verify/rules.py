"""Readers after the documented rules of each trainer's loader, for machines where the trainer is not installed.

The rules are those of the release named in ``Convention.version``; where each was read:

- TRL: ``trl/trainer/sft_trainer.py``, ``DataCollatorForLanguageModeling.torch_call``: labels as they are; the model
  shifts (``transformers/loss/loss_utils.py``, ``ForCausalLMLoss``).
- Axolotl: ``axolotl/utils/data/wrappers.py``, ``_is_dataset_already_tokenized``: exactly the core's columns.
- LLaMA-Factory: ``llamafactory/data/loader.py``, ``get_dataset``: ``load_from_disk(tokenized_path)``, split ``train``.
- ms-swift: ``swift/loss_scale/base.py``, ``_inner_call`` and ``swift/template/base.py``, ``_encode_context_list``:
  labels are the tokens whose ``loss_scale`` is above 0.
- LitGPT: ``litgpt/finetune/lora.py``: ``chunked_cross_entropy(logits, targets[..., 1:])``.
- NeMo Automodel: ``nemo_automodel/components/datasets/llm/formatting_utils.py``, ``package_tokenized_example``:
  labels moved one to the left before the collator, no shift in the loss.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tokensieve.exports import DATA, Format
from tokensieve.verify.loaded import LoadedRow, from_labels


def rows_by_rules(folder: Path, trainer: str, format: Format) -> Iterator[LoadedRow]:  # noqa: A002
    """The rows of an exported folder as the trainer's documented rules read them."""
    for row in _records(folder / DATA[format], format):
        if trainer == "ms-swift":
            yield _from_scales(row)
        else:
            ids, labels = cast(Sequence[int], row["input_ids"]), cast(Sequence[int], row["labels"])
            yield from_labels(ids, labels, shifted=trainer == "automodel")


def _records(path: Path, format: Format) -> Iterator[Mapping[str, object]]:  # noqa: A002
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


def _from_scales(row: Mapping[str, object]) -> LoadedRow:
    message = cast("list[dict[str, dict[str, list[float]]]]", row["messages"])[0]
    ids_T = np.asarray(message["content"]["token_ids"], dtype=np.int32)
    scale_T = np.asarray(message["content"]["loss_scale"], dtype=np.float32)
    places = np.flatnonzero(scale_T[1:] > 0).astype(np.int32) + 1
    return LoadedRow(ids_T, places, ids_T[places], scale_T[places])
