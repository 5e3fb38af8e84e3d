"""TRL's SFTTrainer; the same folder serves the plain Hugging Face Trainer and Unsloth."""

from tokensieve.exports.trainer_format import CORE, CORE_SCHEMA, Convention, Facts
from tokensieve.exports.trainer_row import trainer_row

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


def _files(facts: Facts) -> dict[str, str]:
    if facts.format == "save_to_disk":
        loader, load = "load_from_disk", f'load_from_disk("{facts.data}")["train"]'
    else:
        kind = "json" if facts.format == "jsonl" else "parquet"
        loader, load = "load_dataset", f'load_dataset("{kind}", data_files="{facts.data}", split="train")'
    return {"train.py": _SCRIPT.format(loader=loader, load=load, model=facts.model, output=facts.output)}


TRL = Convention(
    title="TRL (and the plain Hugging Face Trainer, Unsloth)",
    convention=CORE,
    row=trainer_row,
    schema=CORE_SCHEMA,
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
