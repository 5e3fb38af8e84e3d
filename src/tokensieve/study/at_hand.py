"""Models that lie on this machine, and keys by name for those that do not: a dry run plans with them."""

from pathlib import Path

from tokensieve.config import ModelSettings
from tokensieve.data.manifest import digest_of


def is_at_hand(settings: ModelSettings) -> bool:
    """True if a model can be read without the Hub: the embedded one, a local path, or a copy in the Hub's cache."""
    from tokensieve.models.fetch import POCKET

    if settings.model == POCKET or Path(settings.model).expanduser().exists():
        return True
    if settings.model.startswith((".", "/", "~")) or settings.model.count("/") != 1:
        return True  # nothing that the Hub could have: reading it says what is wrong
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(settings.model, "config.json", revision=settings.revision), str)


def key_by_name(settings: ModelSettings) -> str:
    """Digest of a model's settings, its name and revision among them, in place of that of its files: 64 hex digits."""
    return digest_of(["by name", settings.model_dump(mode="json")])
