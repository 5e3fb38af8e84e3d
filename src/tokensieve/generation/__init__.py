"""Training data made by a model: its own checked answers, paraphrases, another model's answers, dialogues.

The names are imported on first use: the command line's help reads the registry of arms and must not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokensieve.generation.choose import PromptYield, read_yields
    from tokensieve.generation.run import generate

__all__ = ["PromptYield", "generate", "read_yields"]

_HOMES = {"PromptYield": "choose", "generate": "run", "read_yields": "choose"}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
