"""Axolotl: rows with exactly the core's three columns count as tokenised already.

Read in ``axolotl/utils/data/wrappers.py``, ``_is_dataset_already_tokenized``.
"""

import importlib
import json
from collections.abc import Iterator

from tokensieve.exports.data_paths import (
    LoadedRow,
    Source,
    collated,
    data_of,
    read_labels,
    rows_of,
    stand_ins,
)
from tokensieve.exports.trainer_format import CORE, CORE_COLUMNS, Facts, Trainer, trainer_row

_CONFIG = """\
base_model: {model}
datasets:
  - path: {path}{kind}
    split: train
    type:            # left empty: the rows are tokens already
sequence_len: {longest}   # the longest row; Axolotl drops longer ones
excess_length_strategy: raise
train_on_inputs: false    # without effect on rows of tokens
sample_packing: false
dataset_prepared_path: {prepared}
output_dir: {output}
adapter: lora
lora_r: 16
lora_alpha: 32
lora_dropout: 0.05
lora_target_linear: true
learning_rate: 2e-5
num_epochs: 3
micro_batch_size: 1
gradient_accumulation_steps: 4
optimizer: adamw_torch
lr_scheduler: cosine
"""


def _files(facts: Facts) -> dict[str, str]:
    kinds = {"parquet": "\n    ds_type: parquet", "jsonl": "\n    ds_type: json", "save_to_disk": ""}
    config = _CONFIG.format(
        model=json.dumps(facts.model, ensure_ascii=False),
        path=facts.data,
        kind=kinds[facts.format],
        longest=facts.longest,
        output=json.dumps(facts.output, ensure_ascii=False),
        prepared=json.dumps(facts.output.removesuffix("-adapter") + "-prepared", ensure_ascii=False),
    )
    return {"axolotl.yaml": config}


def _through_axolotl(source: Source) -> Iterator[LoadedRow]:
    """``prepare_datasets`` under the folder's own configuration, as ``axolotl train`` calls it, and its collator."""
    import yaml

    settings = importlib.import_module("axolotl.utils.dict").DictDefault
    written = settings(yaml.safe_load((source.folder / "axolotl.yaml").read_text(encoding="utf-8")))
    written.datasets[0].path = str(data_of(source))
    config = importlib.import_module("axolotl.utils.config").validate_config(written)
    config.update(
        dataset_prepared_path=str(source.scratch / "prepared"),
        shuffle_merged_datasets=False,  # so that the rows come in the selection's order
        dataset_num_proc=1,
        batch_size=config.micro_batch_size * config.gradient_accumulation_steps,
    )
    _, tokenizer = stand_ins(rows_of(source))
    rows, _, _, _ = importlib.import_module("axolotl.utils.data").prepare_datasets(config, tokenizer)
    collate = importlib.import_module("axolotl.utils.collators").DataCollatorForSeq2Seq(tokenizer)
    yield from collated(rows, collate)


AXOLOTL = Trainer(
    title="Axolotl",
    convention=f"exactly {CORE}",
    row=trainer_row,
    columns=CORE_COLUMNS,
    read=read_labels,
    package="axolotl",
    load=_through_axolotl,
    formats=("parquet", "jsonl", "save_to_disk"),
    weights=False,
    files=_files,
    command="axolotl train axolotl.yaml",
    cautions=(
        "After writing this folder anew delete the one beside it that ends in `-prepared`, which holds Axolotl's copy.",
        "With `sample_packing: true`, keep `sequence_len` at no less than the longest row.",
    ),
    version="axolotl 0.19",
)
