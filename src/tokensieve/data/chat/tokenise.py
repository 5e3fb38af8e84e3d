"""Conversations of a data set as rows of tokens: normalised, within a length limit, without duplicates, all counted."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np

from tokensieve.config import DataSettings
from tokensieve.data.chat.render import RefusedRow
from tokensieve.data.chat.template import ChatTemplate
from tokensieve.data.hashing import Fingerprints
from tokensieve.data.row_counts import Tally
from tokensieve.errors import InputError
from tokensieve.types import Example, Message, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Normalisation: TypeAlias = Literal["line_ends", "trailing_blanks", "tabs"]

_TAB_WIDTH: Final = 4
_TRAILING_BLANKS: Final = re.compile(r"[ \t]+(?=\r?\n|\r|\Z)")
_IN_A_TOKEN: Final[Mapping[Normalisation, "re.Pattern[str]"]] = {
    "line_ends": re.compile(r"\r"),
    "trailing_blanks": re.compile(r"[ \t]+(?=\r?\n|\r)"),  # without the end of the text, which a token's is not
    "tabs": re.compile(r"\t"),
}

OVER_LONG = "over-long"
CUT_AWAY = "no response left after the cut"
DUPLICATE = "duplicate"
_PORTION_ROWS: Final = 64
_PORTION_CHARACTERS: Final = 2**20


def tokenise(example: Example, chat: ChatTemplate, settings: DataSettings) -> Tokens:
    """One conversation's tokens; see ``ChatTemplate.tokenise``. No length policy.

    Raises:
        RefusedRow: the template refuses the conversation, or its responses cannot be found for certain.
    """
    return chat.tokenise(
        normalised(example, settings.normalise),
        last_turn_only=settings.last_turn_only,
        continue_last_turn=settings.continue_last_turn,
    )


def tokenise_all(
    examples: Iterable[Example],
    chat: ChatTemplate,
    settings: DataSettings,
    tally: Tally,
    *,
    model_limit: int | None = None,
) -> Iterator[Tokens]:
    """The tokens of a data set, with the policies on length and duplicates; every drop is counted.

    Args:
        examples: conversations, counted in by whoever made them (``read_examples`` or ``Tally.counted``).
        chat: the model's chat template.
        settings: length limit and policy, duplicates, normalisation, turns to train.
        tally: counts the drops.
        model_limit: longest row (tokens) that the model takes; used where the settings have no limit.

    Raises:
        InputError: a row is over-long under the policy ``error``, or not one row is left.
    """
    limit = settings.max_length or model_limit or _own_limit(chat.encoder.tokenizer)
    seen = Fingerprints()
    kept = 0
    first: RefusedRow | None = None
    for example, row in _rows(chat, _normalised(examples, settings, tally), limit, settings, tally):
        if isinstance(row, RefusedRow):
            tally.drop(row.reason, example.id)
            first = first or row
            continue
        if not seen.is_new(_fingerprint(row)):
            if settings.duplicates == "drop":
                tally.drop(DUPLICATE, row.id)
                continue
            tally.note("duplicate, kept")
        kept += 1
        yield row
    if not kept and tally.rows_in:
        shown = f"; the first: {first.where}: {first.problem}" if first is not None else ""
        raise InputError(
            f"not one row is left of {tally.rows_in:,}; {tally.describe()}{shown}",
            fix="look at the first of them" if first is None else first.fix,
        )


def _normalised(examples: Iterable[Example], settings: DataSettings, tally: Tally) -> Iterator[Example]:
    for example in examples:
        plain = normalised(example, settings.normalise)
        if plain is not example:
            tally.note("response normalised")
        yield plain


def _rows(
    chat: ChatTemplate, examples: Iterable[Example], limit: int | None, settings: DataSettings, tally: Tally
) -> Iterator[tuple[Example, Tokens | RefusedRow]]:
    """Every example with its row under the length policy, or why it has none."""
    for portion in _portions(examples):
        rows = chat.tokenise_many(
            portion,
            last_turn_only=settings.last_turn_only,
            continue_last_turn=settings.continue_last_turn,
            tally=tally,
            longest=limit if settings.over_long == "drop" else None,
        )
        for example, row in zip(portion, rows, strict=True):
            yield example, row if isinstance(row, RefusedRow) else _fitted(row, limit, settings, tally)


def _portions(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Examples in groups that one call of the tokenizer takes, small enough that long ones do not fill the memory."""
    portion: list[Example] = []
    characters = 0
    for example in examples:
        portion.append(example)
        characters += sum(len(message["content"] or "") for message in example.messages)
        if len(portion) == _PORTION_ROWS or characters >= _PORTION_CHARACTERS:
            yield portion
            portion, characters = [], 0
    if portion:
        yield portion


def _fitted(row: Tokens, limit: int | None, settings: DataSettings, tally: Tally) -> Tokens | RefusedRow:
    """The row under the length policy, or why it is to be dropped.

    Raises:
        InputError: it is over-long, and the policy is ``error``.
    """
    if limit is None or len(row) <= limit:
        return row
    problem = f"the row has {len(row):,} tokens, the limit is {limit:,}"
    if settings.over_long == "error":
        raise InputError(problem, where=f"row {row.id}", fix="--over-long drop or cut, or a greater --max-length")
    if settings.over_long == "drop":
        return RefusedRow(OVER_LONG, problem, where=f"row {row.id}", fix="--over-long cut, or a greater --max-length")
    if not row.in_response_T[:limit].any():
        return RefusedRow(CUT_AWAY, problem, where=f"row {row.id}", fix="a greater --max-length")
    tally.note(f"cut at {limit:,} tokens")
    return replace(
        row,
        ids_T=row.ids_T[:limit],
        in_response_T=row.in_response_T[:limit],
        ends_turn_T=row.ends_turn_T[:limit],
        loss_weight_T=None if row.loss_weight_T is None else row.loss_weight_T[:limit],
    )


def _fingerprint(row: Tokens) -> int:
    """64 bits of a digest of the row's tokens, of which of them are response, and of their loss weights."""
    digest = hashlib.blake2b(row.ids_T.tobytes(), digest_size=8)
    digest.update(row.in_response_T.tobytes())
    if row.loss_weight_T is not None:
        digest.update(row.loss_weight_T.tobytes())
    return int.from_bytes(digest.digest(), "little")


def _own_limit(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """The tokenizer's own limit; None where it has none, which transformers writes as a huge number."""
    limit: int = tokenizer.model_max_length
    return limit if limit < 10**9 else None


# --- normalisation ---------------------------------------------------------------------------------------------------


def normalise(text: str, kinds: Sequence[Normalisation]) -> str:
    """The text with line ends as a line feed, without blanks at the ends of lines, with tabs as four-column stops.

    Each only where it is among ``kinds``; the order of ``kinds`` does not matter.
    """
    if "line_ends" in kinds:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "trailing_blanks" in kinds:
        text = _TRAILING_BLANKS.sub("", text)
    if "tabs" in kinds:
        text = text.expandtabs(_TAB_WIDTH)
    return text


def normalised(example: Example, kinds: Sequence[Normalisation]) -> Example:
    """The example with its assistant's texts normalised; unchanged where it was sampled, which fixes its tokens."""
    if not kinds or example.sampled_ids is not None:
        return example
    messages = tuple(_normalised_turn(message, kinds) for message in example.messages)
    if messages == example.messages:
        return example
    return Example(example.id, messages, example.task, example.origin, None, example.tools)


class WhiteSpace:
    """Tokens of the responses seen so far that hold white space which a normalisation changes, whatever the context.

    A blank that ends a line is seen where it and the line's end are one token, which they are in most vocabularies.

    Args:
        tokenizer: tells the tokens' texts.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer
        self._kinds: dict[int, tuple[Normalisation, ...]] = {}

    def add(self, tokens: Tokens) -> None:
        """Look at one row."""
        for token in np.unique(tokens.ids_T[tokens.in_response_T]).tolist():
            if token not in self._kinds:
                text = self._tokenizer.decode([token])
                self._kinds[token] = tuple(kind for kind, pattern in _IN_A_TOKEN.items() if pattern.search(text))

    @property
    def ids(self) -> dict[str, list[int]]:
        """Token ids by the normalisation that changes them, ascending."""
        return {kind: sorted(i for i, kinds in self._kinds.items() if kind in kinds) for kind in _IN_A_TOKEN}


def _normalised_turn(message: Message, kinds: Sequence[Normalisation]) -> Message:
    content = message["content"]
    if message["role"] != "assistant" or content is None:
        return message
    return {**message, "content": normalise(content, kinds)}
