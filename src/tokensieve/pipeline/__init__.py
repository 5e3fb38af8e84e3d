"""The stages that only read and write rows: load a data set into tokens, select, mix, take the first few."""

from tokensieve.pipeline.load import load, load_beside_others, tokenizer_of
from tokensieve.pipeline.mix import mix_digest
from tokensieve.pipeline.rows import first, open_examples, open_scored, open_selected
from tokensieve.pipeline.select import select

__all__ = [
    "first",
    "load",
    "load_beside_others",
    "mix_digest",
    "open_examples",
    "open_scored",
    "open_selected",
    "select",
    "tokenizer_of",
]
