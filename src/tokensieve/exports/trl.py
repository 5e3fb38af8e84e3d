"""TRL's SFTTrainer, whose folder serves Unsloth too, and the plain Hugging Face Trainer: the same rows.

Read in ``trl/trainer/sft_trainer.py``, ``DataCollatorForLanguageModeling.torch_call``: labels as they are; the model
shifts (``transformers/loss/loss_utils.py``, ``ForCausalLMLoss``).
"""

import dataclasses
from collections.abc import Iterator

from tokensieve.exports.data_paths import (
    LoadedRow,
    Source,
    from_batch,
    quiet_arguments,
    read_labels,
    rows_of,
    stand_ins,
)
from tokensieve.exports.trainer_format import CORE, CORE_COLUMNS, Facts, Trainer, trainer_row

_SCRIPT = '''"""Train on this folder with TRL: python train.py."""

import torch
from datasets import {loader}
from trl import SFTConfig, SFTTrainer

rows = {load}

trainer = SFTTrainer(
    model={model!r},
    args=SFTConfig(
        output_dir={output!r},
        # The rows are tokens already. TRL's own limit would cut some of them without an error.
        max_length=None,
        packing=False,
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        learning_rate=2e-5,
        num_train_epochs=3,
        per_device_train_batch_size=4,
    ),
    train_dataset=rows,
)
trainer.train()
trainer.save_model()
'''


_HF_SCRIPT = '''"""Train on this folder with the Hugging Face Trainer: python train.py."""

import torch
from datasets import {loader}
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainingArguments

rows = {load}
tokenizer = AutoTokenizer.from_pretrained({model!r})
if tokenizer.pad_token is None:
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(0)  # any will do: padding has no label and is not attended

trainer = Trainer(
    model=AutoModelForCausalLM.from_pretrained({model!r}),
    args=TrainingArguments(
        output_dir={output!r},
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        learning_rate=2e-5,
        num_train_epochs=3,
        per_device_train_batch_size=4,
    ),
    # It pads labels with -100; DataCollatorForLanguageModeling would overwrite them.
    data_collator=DataCollatorForSeq2Seq(tokenizer),
    train_dataset=rows,
)
trainer.train()
trainer.save_model()
'''


def _script(template: str, facts: Facts) -> dict[str, str]:
    if facts.format == "save_to_disk":
        loader, load = "load_from_disk", f'load_from_disk("{facts.data}")["train"]'
    else:
        kind = "json" if facts.format == "jsonl" else "parquet"
        loader, load = "load_dataset", f'load_dataset("{kind}", data_files="{facts.data}", split="train")'
    return {"train.py": template.format(loader=loader, load=load, model=facts.model, output=facts.output)}


def _files(facts: Facts) -> dict[str, str]:
    return _script(_SCRIPT, facts)


def _hf_files(facts: Facts) -> dict[str, str]:
    return _script(_HF_SCRIPT, facts)


def _through_trl(source: Source) -> Iterator[LoadedRow]:
    """``SFTTrainer`` with a model of a few hundred weights, and the batches of its own data loader."""
    from trl import SFTConfig, SFTTrainer

    rows = rows_of(source)
    model, tokenizer = stand_ins(rows)
    args = SFTConfig(**quiet_arguments(source), max_length=None, packing=False)
    trainer = SFTTrainer(model=model, args=args, train_dataset=rows, processing_class=tokenizer)
    for batch in trainer.get_train_dataloader():
        yield from from_batch(batch)


def _through_hf(source: Source) -> Iterator[LoadedRow]:
    """The plain ``Trainer`` with the collator that the folder's README names."""
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    rows = rows_of(source)
    model, tokenizer = stand_ins(rows)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(**quiet_arguments(source)),
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )
    for batch in trainer.get_train_dataloader():
        yield from from_batch(batch)


TRL = Trainer(
    title="TRL (and Unsloth)",
    convention=CORE,
    row=trainer_row,
    columns=CORE_COLUMNS,
    read=read_labels,
    package="trl",
    load=_through_trl,
    formats=("parquet", "jsonl", "save_to_disk"),
    weights=False,
    files=_files,
    command="python train.py",
    cautions=(
        "Leave `max_length=None`: TRL's default cuts longer rows, and drops those that lose all their labels.",
        "With `packing=True`, set `max_length` to at least the longest row, or rows are cut.",
        "With the plain Trainer use `DataCollatorForSeq2Seq(tokenizer)`, which pads labels with -100;"
        " `DataCollatorForLanguageModeling` would overwrite the labels.",
        "With Unsloth do not call `train_on_responses_only`, which would overwrite the labels.",
    ),
    version="trl 1.16, transformers 5.23",
)

HF = dataclasses.replace(
    TRL,
    title="Hugging Face Trainer",
    package="transformers",
    load=_through_hf,
    files=_hf_files,
    cautions=(
        "Keep `DataCollatorForSeq2Seq`, which pads labels with -100; `DataCollatorForLanguageModeling` would overwrite"
        " them.",
    ),
    version="transformers 5.23",
)
