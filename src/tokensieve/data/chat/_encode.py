"""Text to token ids with the place of each token in the text."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from tokensieve.data.chat._render import Rendered
from tokensieve.errors import InputError
from tokensieve.types import IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ANCHOR: Final = "\n"


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
        text = rendered.text
        places = sorted({*rendered.breaks, *cut_at} - {0, len(text)})
        edges = [0, *places, len(text)]
        pieces = [text[a:b] for a, b in pairwise(edges)]
        anchored = [piece if i == 0 or not self.anchor_ids else _ANCHOR + piece for i, piece in enumerate(pieces)]
        batch = self.tokenizer(
            anchored,
            add_special_tokens=False,
            return_offsets_mapping=True,
            return_attention_mask=False,
            padding=False,
            truncation=False,
            verbose=False,
        )
        ids: list[int] = []
        begins: list[int] = []
        for number, (edge, piece_ids, offsets) in enumerate(
            zip(edges, batch["input_ids"], batch["offset_mapping"], strict=False)
        ):
            skipped = len(self.anchor_ids) if number else 0
            if skipped and tuple(piece_ids[:skipped]) != self.anchor_ids:
                raise InputError(
                    f"the tokenizer joins a line break with {pieces[number][:20]!r}; it cannot be cut there"
                )
            ids += piece_ids[skipped:]
            begins += _begins(offsets[skipped:], edge, len(_ANCHOR) if skipped else 0)
        return Encoded(np.asarray(ids, dtype=np.int32), np.asarray(begins, dtype=np.int32))


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
        return cast("list[int]", tokenizer.encode(text, add_special_tokens=False))

    anchor = ids(_ANCHOR)
    adds_blank = ids("a") != ids(_ANCHOR + "a")[len(anchor) :]
    return Encoder(tokenizer, tuple(anchor) if adds_blank else ())


def _begins(offsets: Sequence[tuple[int, int]], edge: int, anchor: int) -> list[int]:
    """Begin of each token. Some tokenizers trim blanks off their offsets, so a token begins where the last one ended.

    Several tokens of one character (its bytes) all have that character's offsets; they begin where it does.
    """
    begins = []
    reached = 0
    for start, end in offsets:
        begins.append(edge + min(max(start - anchor, 0), reached))
        reached = max(reached, end - anchor)
    return begins
