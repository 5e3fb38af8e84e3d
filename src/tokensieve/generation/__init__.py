"""Training data made by a model: its own checked answers, paraphrases, another model's answers, dialogues."""

from tokensieve.generation.run import generate
from tokensieve.generation.yield_stats import PromptYield, read_yields

__all__ = ["PromptYield", "generate", "read_yields"]
