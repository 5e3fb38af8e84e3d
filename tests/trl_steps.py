"""TRL's SFTTrainer on small models, for contract tests: its batches, and the loss of its first step."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import datasets
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from tokensieve.models.device import checkpointing_arguments


def collated(rows: datasets.Dataset) -> Mapping[str, Tensor]:
    """All rows as one batch of TRL's own data loader, under its defaults but for the length limit."""
    from tests.chat_tokenizers import tokenizer

    config = LlamaConfig(
        vocab_size=300, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, pad_token_id=0
    )
    trainer = _trainer(LlamaForCausalLM(config), tokenizer("chatml"), rows, len(rows), len(rows))
    batch: Mapping[str, Tensor] = next(iter(trainer.get_train_dataloader()))
    return batch


def first_loss(folder: Path, model: Path, *, rows: int, packing: bool, micro: int) -> float:
    """Loss (nats) that TRL reports for one optimiser step over the whole exported folder.

    Args:
        folder: the export.
        model: folder of the model and its tokenizer.
        rows: rows in the folder.
        packing: several rows in one sequence of 64 tokens.
        micro: rows, or packed sequences, in one forward pass; the rest is accumulated.
    """
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    data = datasets.load_dataset("parquet", data_files=str(folder / "data" / "train.parquet"), split="train")
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _trainer(
            network, AutoTokenizer.from_pretrained(model), data, rows, micro, packing=packing, out=scratch
        )
        trainer.train()
        return float(trainer.state.log_history[0]["loss"])


def _trainer(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    data: datasets.Dataset,
    rows: int,
    micro: int,
    *,
    packing: bool = False,
    out: str = "unused",
) -> SFTTrainer:
    args = SFTConfig(
        output_dir=out,
        max_length=64 if packing else None,
        packing=packing,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=-(-rows // micro),
        num_train_epochs=1,
        logging_steps=1,
        learning_rate=1e-12,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        **checkpointing_arguments(False),
        disable_tqdm=True,
    )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return SFTTrainer(model=model, args=args, train_dataset=data, processing_class=tokenizer)
