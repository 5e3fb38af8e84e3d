"""Load a base model, its adapter and its tokenizer, and say exactly which ones they are."""

from tokensieve.models.load import (
    LoadedModel,
    ModelLike,
    context_length,
    fingerprint,
    from_memory,
    load_chat,
    load_model,
    load_tokenizer,
    settings_of,
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
