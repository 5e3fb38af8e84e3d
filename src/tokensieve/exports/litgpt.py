"""LitGPT: no pre-tokenised data of its own, so the folder brings a data module of 50 lines.

Read in ``litgpt/finetune/lora.py``: ``chunked_cross_entropy(logits, targets[..., 1:])``.
"""

import importlib
import importlib.util
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tokensieve.exports.data_paths import BATCH, LoadedRow, Source, Tensor, data_of, from_batch, portions, read_labels
from tokensieve.exports.trainer_format import CORE, CORE_COLUMNS, Facts, Trainer, trainer_row

_MODULE = '''"""LitGPT data module for this folder's rows of tokens and labels."""

from dataclasses import dataclass, field
from types import SimpleNamespace

import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, Dataset

from litgpt.data import DataModule, get_sft_collate_fn
from litgpt.prompts import Default, PromptStyle


class _Rows(Dataset):
    def __init__(self, path):
        self.table = pq.read_table(path, columns=["input_ids", "labels"])

    def __len__(self):
        return len(self.table)

    def __getitem__(self, index):
        row = self.table.slice(index, 1).to_pylist()[0]
        tensors = {{key: torch.tensor(row[key], dtype=torch.int64) for key in ("input_ids", "labels")}}
        length = len(row["input_ids"])
        return {{**tensors, "token_counts": {{"raw": length, "raw_plus_prompt_template": length}}}}


@dataclass
class Tokensieve(DataModule):
    """Rows that tokensieve has selected; tokens that are not trained have the label -100."""

    path: str = "{path}"
    seed: int = 42
    prompt_style: PromptStyle = field(default_factory=Default)

    def connect(self, tokenizer=None, batch_size=1, max_seq_length=None):
        self.batch_size = batch_size
        if max_seq_length is not None and max_seq_length < {longest}:
            raise ValueError("max_seq_length would cut rows: the longest has {longest} tokens")

    def setup(self, stage=""):
        self.rows = _Rows(self.path)
        # While it evaluates, LitGPT prints what the model answers to the first text that it finds here.
        self.test_dataset = SimpleNamespace(data=[{{"instruction": "Hello"}}])

    def train_dataloader(self):
        generator = torch.Generator().manual_seed(self.seed)
        return DataLoader(
            self.rows, batch_size=self.batch_size, shuffle=True, generator=generator, collate_fn=get_sft_collate_fn()
        )

    def val_dataloader(self):
        # LitGPT wants one; tokensieve evaluates by itself, so a few training rows serve.
        few = torch.utils.data.Subset(self.rows, range(min(len(self.rows), 8)))
        return DataLoader(few, batch_size=self.batch_size, collate_fn=get_sft_collate_fn())
'''

_SCRIPT = """\
#!/bin/sh
# Train on this folder with LitGPT: sh train.sh [further options of litgpt finetune_lora]
# CHECKPOINT is the model in LitGPT's form, which {makes} makes.
[ -n "$CHECKPOINT" ] || CHECKPOINT={checkpoint}
PYTHONPATH=. litgpt finetune_lora "$CHECKPOINT" \\
  --data tokensieve_data.Tokensieve \\
  --out_dir {output} \\
  --lora_r 16 --lora_alpha 32 --lora_dropout 0.05 \\
  --train.epochs 3 --train.global_batch_size 4 --train.micro_batch_size 1 "$@"
"""


def _files(facts: Facts) -> dict[str, str]:
    if Path(facts.model).is_absolute():
        checkpoint, makes = facts.model, f"`litgpt convert_to_litgpt {facts.model} --model_name ITS-KIND`"
    else:
        checkpoint, makes = f"checkpoints/{facts.model}", f"`litgpt download {facts.model}`"
    return {
        "tokensieve_data.py": _MODULE.format(path=facts.data, longest=facts.longest),
        "train.sh": _SCRIPT.format(checkpoint=shlex.quote(checkpoint), makes=makes, output=shlex.quote(facts.output)),
    }


def _through_litgpt(source: Source) -> Iterator[LoadedRow]:
    """The folder's own data module, on LitGPT's base class and collator."""
    spec = importlib.util.spec_from_file_location("tokensieve_data", source.folder / "tokensieve_data.py")
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    data = module.Tokensieve(path=str(data_of(source)))
    data.connect(tokenizer=None, batch_size=BATCH, max_seq_length=None)
    data.setup()
    collate = importlib.import_module("litgpt.data").get_sft_collate_fn()
    for portion in portions(len(data.rows)):
        rows = [data.rows[i] for i in portion]
        yield from _unpadded(collate(rows), [len(row["input_ids"]) for row in rows])


def _unpadded(batch: Mapping[str, Tensor], lengths: Sequence[int]) -> Iterator[LoadedRow]:
    """Rows of a batch without attention mask, whose lengths are known."""
    for row, length in zip(from_batch(batch), lengths, strict=True):
        beyond = row.places[row.places >= length]
        kept = max([length, *(beyond + 1).tolist()])  # padding with a label stays, and so shows as a difference
        yield LoadedRow(row.ids_T[:kept], row.places, row.tokens)


LITGPT = Trainer(
    title="LitGPT",
    convention=f"{CORE}; the data module in this folder loads them, LitGPT's collator pads and its loss shifts",
    row=trainer_row,
    columns=CORE_COLUMNS,
    read=read_labels,
    package="litgpt",
    load=_through_litgpt,
    formats=("parquet",),
    weights=False,
    files=_files,
    command="sh train.sh",
    cautions=(
        "LitGPT takes the mean over the trained tokens of each micro-batch, not of the whole batch: with accumulation,"
        " tokens of short rows weigh more.",
    ),
    version="litgpt 0.5.13",
)
