"""The embedded model and the problems of its tasks; README.md beside this file is the model card."""

from pathlib import Path

POCKET = Path(__file__).parent
"""Folder of the weights, the tokenizer and the chat template in transformers' format, and of ``problems``."""
