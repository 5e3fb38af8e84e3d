"""Training data made by a model: its own checked answers, paraphrases, another model's answers, dialogues."""

from tokensieve.generation.outcome import PromptYield, read_yields
from tokensieve.generation.run import generate

__all__ = ["PromptYield", "generate", "read_yields"]
