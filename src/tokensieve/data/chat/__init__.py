"""Conversations to token ids by the model's own chat template, with verified spans of the responses."""

from tokensieve.data.chat.prepare import prepare
from tokensieve.data.chat.render import RefusedRow
from tokensieve.data.chat.template import ChatTemplate
from tokensieve.data.chat.tokenise import WhiteSpace, normalise, tokenise, tokenise_all

__all__ = [
    "ChatTemplate",
    "RefusedRow",
    "WhiteSpace",
    "normalise",
    "prepare",
    "tokenise",
    "tokenise_all",
]
