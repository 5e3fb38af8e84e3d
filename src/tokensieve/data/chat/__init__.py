"""From conversations to token ids, by the model's own chat template, with the response found and proved."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from tokensieve.config import DataSettings
from tokensieve.data.chat._normalise import WhiteSpace, concerned_T, normalise, normalised
from tokensieve.data.chat._prepared import ChatTemplate, prepare
from tokensieve.data.chat._render import RefusedRow
from tokensieve.data.tally import Tally
from tokensieve.errors import InputError
from tokensieve.types import JSON, Example, IntArray, Message, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "ChatTemplate",
    "RefusedRow",
    "WhiteSpace",
    "concerned_T",
    "normalise",
    "prepare",
    "prompt_ids",
    "tokenise",
    "tokenise_all",
]

OVER_LONG = "over-long"
CUT_AWAY = "no response left after the cut"
DUPLICATE = "duplicate"


def tokenise(example: Example, tokenizer: "PreTrainedTokenizerBase", settings: DataSettings) -> Tokens:
    """One conversation's tokens; see ``ChatTemplate.tokenise``. No length policy.

    Raises:
        InputError: the tokenizer has no usable chat template.
        RefusedRow: the template refuses the conversation, or its responses cannot be found for certain.
    """
    return _prepared(tokenizer, settings).tokenise(
        normalised(example, settings.normalise),
        last_turn_only=settings.last_turn_only,
        continue_last_turn=settings.continue_last_turn,
    )


def prompt_ids(
    messages: Sequence[Message],
    tokenizer: "PreTrainedTokenizerBase",
    settings: DataSettings,
    tools: Sequence[JSON] = (),
) -> IntArray:
    """Token ids of a prompt, with the header of the assistant's turn at the end: what a sampler continues.

    The tokens of a row made by ``tokenise`` begin with exactly these ids, up to its last response.

    Raises:
        InputError: the tokenizer has no usable chat template.
        RefusedRow: the template refuses the conversation.
    """
    return _prepared(tokenizer, settings).prompt_ids(messages, tools)


def tokenise_all(
    examples: Iterable[Example],
    tokenizer: "PreTrainedTokenizerBase",
    settings: DataSettings,
    tally: Tally,
    *,
    model_limit: int | None = None,
) -> Iterator[Tokens]:
    """The tokens of a data set, with the policies on length and duplicates; every drop is counted.

    Args:
        examples: conversations, counted in by whoever made them (``read_examples`` or ``Tally.counted``).
        tokenizer: the model's.
        settings: length limit and policy, duplicates, normalisation, turns to train.
        tally: counts the drops.
        model_limit: longest row (tokens) that the model takes; used where the settings have no limit.

    Raises:
        InputError: a row is over-long under the policy ``error``, or not one row is left.
    """
    chat = _prepared(tokenizer, settings)
    limit = settings.max_length or model_limit or _own_limit(tokenizer)
    seen: set[int] = set()
    kept = 0
    first: RefusedRow | None = None
    for example in examples:
        plain = normalised(example, settings.normalise)
        if plain is not example:
            tally.note("response normalised")
        try:
            row = chat.tokenise(
                plain,
                last_turn_only=settings.last_turn_only,
                continue_last_turn=settings.continue_last_turn,
                tally=tally,
                longest=limit if settings.over_long == "drop" else None,
            )
            row = _fitted(row, limit, settings)
        except RefusedRow as refusal:
            tally.drop(refusal.reason, example.id)
            first = first or refusal
            continue
        if settings.duplicates == "drop" and not _is_new(row, seen):
            tally.drop(DUPLICATE, row.id)
            continue
        kept += 1
        yield row
    if not kept and tally.rows_in:
        shown = f"; the first: {first.where}: {first.problem}" if first is not None else ""
        raise InputError(
            f"not one row is left of {tally.rows_in:,}; {tally.describe()}{shown}",
            fix="look at the first of them" if first is None else first.fix,
        )


def _fitted(row: Tokens, limit: int | None, settings: DataSettings) -> Tokens:
    """The row under the length policy.

    Raises:
        RefusedRow: it is to be dropped.
        InputError: the policy is ``error``.
    """
    if limit is None or len(row) <= limit:
        return row
    problem = f"the row has {len(row):,} tokens, the limit is {limit:,}"
    if settings.over_long == "error":
        raise InputError(problem, where=f"row {row.id}", fix="--over-long drop or cut, or a greater --max-length")
    if settings.over_long == "drop":
        raise RefusedRow(OVER_LONG, problem, where=f"row {row.id}")
    if not row.in_response_T[:limit].any():
        raise RefusedRow(CUT_AWAY, problem, where=f"row {row.id}")
    return replace(
        row,
        ids_T=row.ids_T[:limit],
        in_response_T=row.in_response_T[:limit],
        ends_turn_T=row.ends_turn_T[:limit],
    )


def _is_new(row: Tokens, seen: set[int]) -> bool:
    """Whether no row before had the same tokens; remembers 8 bytes a row."""
    digest = hashlib.blake2b(row.ids_T.tobytes(), digest_size=8)
    digest.update(row.in_response_T.tobytes())
    number = int.from_bytes(digest.digest(), "little")
    if number in seen:
        return False
    seen.add(number)
    return True


def _own_limit(tokenizer: "PreTrainedTokenizerBase") -> int | None:
    """The tokenizer's own limit; None where it has none, which transformers writes as a huge number."""
    limit = cast("int", tokenizer.model_max_length)
    return limit if limit < 10**9 else None


def _prepared(tokenizer: "PreTrainedTokenizerBase", settings: DataSettings) -> ChatTemplate:
    template = tokenizer.chat_template
    key = json.dumps(template, sort_keys=True), json.dumps(settings.template_kwargs, sort_keys=True)
    return _cached(tokenizer, *key)


@lru_cache(maxsize=4)
def _cached(tokenizer: "PreTrainedTokenizerBase", template: str, kwargs: str) -> ChatTemplate:  # noqa: ARG001 - a key
    return prepare(tokenizer, json.loads(kwargs))
