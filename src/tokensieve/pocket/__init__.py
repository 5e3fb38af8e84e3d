"""The embedded model: small enough to ship, skilled enough to lose something; see README.md beside this file."""

from pathlib import Path

POCKET = Path(__file__).parent
"""The folder with the weights, the tokenizer and the chat template, in the form transformers loads."""
