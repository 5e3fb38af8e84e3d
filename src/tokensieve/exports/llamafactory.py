"""LLaMA-Factory: a ``save_to_disk`` folder named by ``tokenized_path``.

Read in ``llamafactory/data/loader.py``, ``get_dataset``: ``load_from_disk(tokenized_path)``, split ``train``.
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
from tokensieve.types import IGNORE_INDEX

_CONFIG = """\
### model
model_name_or_path: {model}
template: default      # asked for, but without effect on rows of tokens

### data
tokenized_path: {path}
dataset: alpaca_en_demo   # asked for, but never read: tokenized_path goes before it
cutoff_len: {longest}

### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 16
lora_alpha: 32
lora_dropout: 0.05
lora_target: all

### training
output_dir: {output}
per_device_train_batch_size: 1
gradient_accumulation_steps: 4
learning_rate: 2.0e-5
num_train_epochs: 3.0
lr_scheduler_type: cosine
"""


def _files(facts: Facts) -> dict[str, str]:
    config = _CONFIG.format(
        model=json.dumps(facts.model, ensure_ascii=False),
        path=facts.data,
        longest=facts.longest,
        output=json.dumps(facts.output, ensure_ascii=False),
    )
    return {"llamafactory.yaml": config}


def _through_llamafactory(source: Source) -> Iterator[LoadedRow]:
    """``get_dataset`` with ``tokenized_path``, and LLaMA-Factory's own collator."""
    data = importlib.import_module("llamafactory.data")
    hparams = importlib.import_module("llamafactory.hparams")
    _, tokenizer = stand_ins(rows_of(source))
    arguments = hparams.DataArguments(tokenized_path=str(data_of(source)), dataset="unused")
    training = importlib.import_module("transformers").Seq2SeqTrainingArguments(
        output_dir=str(source.scratch), use_cpu=True
    )
    module = data.get_dataset(None, None, arguments, training, stage="sft", tokenizer=tokenizer)
    collate = importlib.import_module("transformers").DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORE_INDEX)
    yield from collated(module["train_dataset"], collate)


LLAMAFACTORY = Trainer(
    title="LLaMA-Factory",
    convention=CORE,
    row=trainer_row,
    columns=CORE_COLUMNS,
    read=read_labels,
    package="llamafactory",
    load=_through_llamafactory,
    formats=("save_to_disk",),
    weights=False,
    files=_files,
    command="llamafactory-cli train llamafactory.yaml",
    cautions=(
        "`tokenized_path` must name a folder that exists: LLaMA-Factory takes a wrong one for the place to write"
        " its own tokens to, and trains on the dummy data set.",
        "`packing` and `neat_packing` act on raw text only; leave them off.",
    ),
    version="llamafactory 0.9.5",
)
