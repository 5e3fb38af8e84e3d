"""Load a base model, its adapter and its tokenizer, and say exactly which ones they are."""

from tokensieve.models.load import (
    LoadedModel,
    context_length,
    fingerprint,
    load_chat,
    load_model,
    load_tokenizer,
    settings_of,
)
from tokensieve.models.memory import from_memory

__all__ = [
    "LoadedModel",
    "context_length",
    "fingerprint",
    "from_memory",
    "load_chat",
    "load_model",
    "load_tokenizer",
    "settings_of",
]
