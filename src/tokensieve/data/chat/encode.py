"""Text to token ids with the place of each token in the text."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from tokensieve.data.chat.render import Rendered
from tokensieve.errors import InputError
from tokensieve.types import IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ANCHOR: Final = "\n"
Offsets: TypeAlias = Sequence[tuple[int, int]]
_Piece: TypeAlias = tuple[str, bool]
"""A text between two cuts, and whether another piece is before it."""


@dataclass(frozen=True, slots=True, eq=False)
class Encoded:
    """Token ids and where each token begins.

    Attributes:
        ids_T: token ids.
        begin_T: first character of the token in the text. A blank that a tokenizer takes into the next token but
            leaves out of its offsets is counted in, so that a token over a border is seen to lie over it.
    """

    ids_T: IntArray
    begin_T: IntArray


@dataclass(frozen=True, slots=True)
class Encoder:
    """Encodes texts of one tokenizer, in pieces where they must be cut.

    Attributes:
        tokenizer: a fast tokenizer.
        anchor_ids: ids of a line break, put before every piece but the first and taken away again, where the tokenizer
            adds a blank to the beginning of a text; empty where it adds none.
    """

    tokenizer: "PreTrainedTokenizerBase"
    anchor_ids: tuple[int, ...] = ()

    def encode(self, rendered: Rendered, cut_at: Sequence[int] = ()) -> Encoded:
        """The text's tokens; no token lies over one of the text's breaks or over ``cut_at``."""
        return self.encode_all([(rendered, cut_at)])[0]

    def encode_all(self, texts: Sequence[tuple[Rendered, Sequence[int]]]) -> list[Encoded]:
        """Several texts, each with further places to cut, in one call of the tokenizer; equal pieces are encoded once.

        Raises:
            InputError: a text cannot be cut where it must be.
        """
        if not texts:
            return []
        cut = [_pieces(rendered, cut_at) for rendered, cut_at in texts]
        encoded = self._encode_pieces(dict.fromkeys((text, place > 0) for pieces in cut for place, text in pieces))
        joined = []
        for pieces in cut:
            parts = [(place, *encoded[text, place > 0]) for place, text in pieces]
            ids_T = np.concatenate([ids_T for _, ids_T, _ in parts], dtype=np.int32)
            joined.append(
                Encoded(ids_T, np.concatenate([place + begin_T for place, _, begin_T in parts], dtype=np.int32))
            )
        return joined

    def _encode_pieces(self, pieces: Iterable[_Piece]) -> dict[_Piece, tuple[IntArray, IntArray]]:
        """Ids and begins (within the piece) of each piece."""
        anchored = {piece: _ANCHOR + piece[0] if self.anchor_ids and piece[1] else piece[0] for piece in pieces}
        batch = self.tokenizer(
            list(anchored.values()),
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            padding=False,
            truncation=False,
            verbose=False,
        )
        made: dict[_Piece, tuple[IntArray, IntArray]] = {}
        for piece, ids, offsets in zip(anchored, batch["input_ids"], batch["offset_mapping"], strict=True):
            skipped = len(self.anchor_ids) if piece[1] else 0
            if tuple(ids[:skipped]) != self.anchor_ids[:skipped]:
                text = piece[0][:20]
                raise InputError(f"the tokenizer joins a line break with {text!r}; the text cannot be cut there")
            begin_T = _begins(offsets[skipped:], len(_ANCHOR) if skipped else 0)
            made[piece] = np.asarray(ids[skipped:], dtype=np.int32), begin_T
        return made


def make_encoder(tokenizer: "PreTrainedTokenizerBase") -> Encoder:
    """An encoder for a tokenizer.

    Raises:
        InputError: the tokenizer cannot tell where its tokens lie in the text.
    """
    if not tokenizer.is_fast:
        raise InputError(
            f"{type(tokenizer).__name__} is a tokenizer in Python, which does not tell where tokens lie in the text",
            fix="use a tokenizer that has a tokenizer.json",
        )

    def ids(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False))

    anchor = ids(_ANCHOR)
    adds_blank = ids("a") != ids(_ANCHOR + "a")[len(anchor) :]
    return Encoder(tokenizer, tuple(anchor) if adds_blank else ())


def _pieces(rendered: Rendered, cut_at: Sequence[int]) -> list[tuple[int, str]]:
    """The text cut at its breaks and at ``cut_at``, each piece with its place."""
    text = rendered.text
    places = sorted({*rendered.breaks, *cut_at} - {0, len(text)})
    return [(a, text[a:b]) for a, b in pairwise([0, *places, len(text)])]


def _begins(offsets: Offsets, anchor: int) -> IntArray:
    """Begin of each token. Some tokenizers trim blanks off their offsets, so a token begins where the last one ended.

    Several tokens of one character (its bytes) all have that character's offsets; they begin where it does.
    """
    places = np.maximum(np.asarray(offsets, dtype=np.int32).reshape(-1, 2) - anchor, 0)
    reached_T = np.zeros(len(places), dtype=np.int32)
    reached_T[1:] = np.maximum.accumulate(places[:-1, 1])
    return np.minimum(places[:, 0], reached_T)
