"""Train the selected tokens through TRL's SFTTrainer and PEFT: LoRA, DoRA or all weights."""

from tokensieve.training.adapter import Adapter, StepLog, open_adapter
from tokensieve.training.run import train

__all__ = ["Adapter", "StepLog", "open_adapter", "train"]
