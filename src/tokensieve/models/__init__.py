"""Load a base model, its adapter and its tokenizer, and say exactly which ones they are."""

from tokensieve.models.identity import LoadedModel, ModelLike, settings_of
from tokensieve.models.load import (
    context_length,
    fingerprint,
    from_memory,
    load_chat,
    load_model,
    load_tokenizer,
)

__all__ = [
    "LoadedModel",
    "ModelLike",
    "context_length",
    "fingerprint",
    "from_memory",
    "load_chat",
    "load_model",
    "load_tokenizer",
    "settings_of",
]
