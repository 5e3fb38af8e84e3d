"""Makes a chat template ready: what it writes around turns is learnt from a probe."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from tokensieve.config import TemplateArgument
from tokensieve.data.chat.encode import make_encoder
from tokensieve.data.chat.fixed_date import TODAY, asks_for_the_date, with_stopped_clock
from tokensieve.data.chat.render import RefusedRow, Renderer, names_pattern, special_names
from tokensieve.data.chat.response_spans import Ends
from tokensieve.data.chat.template import ChatTemplate
from tokensieve.errors import InputError
from tokensieve.types import JSON, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prepare(
    tokenizer: "PreTrainedTokenizerBase",
    template_kwargs: Mapping[str, TemplateArgument] | None = None,
    *,
    vocabulary: int | None = None,
) -> ChatTemplate:
    """A tokenizer's chat template, probed once with a short conversation; the last few are kept.

    Args:
        tokenizer: a fast tokenizer with a chat template.
        vocabulary: number of ids that the model has embeddings for; rows with others are refused. None sets no limit.
        template_kwargs: further arguments of the template. A template that asks what day it is gets the date under
            ``today`` (ISO), or else the one that Llama 3's templates fall back to, so that a row has the same tokens
            tomorrow.

    Raises:
        InputError: there is no template, it leaves the assistant's turn out, it writes no end-of-turn token, or
            ``today`` is no date.
    """
    template = json.dumps(tokenizer.chat_template, sort_keys=True)
    return _prepared(tokenizer, template, json.dumps(dict(template_kwargs or {}), sort_keys=True), vocabulary)


@lru_cache(maxsize=4)
def _prepared(
    tokenizer: "PreTrainedTokenizerBase",
    _template: str,  # a key: the tokenizer's template can be changed
    arguments: str,
    vocabulary: int | None,
) -> ChatTemplate:
    encoder = make_encoder(tokenizer)
    try:
        template = str(tokenizer.get_chat_template())
    except ValueError:
        raise InputError(
            "the tokenizer has no chat template",
            where=str(tokenizer.name_or_path),
            fix="--tokenizer with the instruct model's tokenizer, or set tokenizer.chat_template",
        ) from None
    kwargs: dict[str, JSON] = json.loads(arguments)
    variables = {**tokenizer.special_tokens_map, **kwargs}
    held_date = str(kwargs.get("today", TODAY)) if asks_for_the_date(template) else ""
    if held_date:
        template = with_stopped_clock(template, held_date)
    bare = Renderer(template, variables)
    special, other = special_names(tokenizer)
    probe = _probe(bare, special | other, str(tokenizer.name_or_path))
    structure = {name for name in other if name in probe.user_turn}
    ends = special & {str(tokenizer.eos_token)} | probe.ends
    # A reasoning block's <think> is an ordinary added token that assistants write; others may not write it where the
    # template uses it in its headers.
    guarded = {role: names_pattern(special | structure | ends) for role in ("system", "user", "tool")}
    guarded["assistant"] = names_pattern(special | ends)
    ids = tokenizer.get_vocab()
    special_V = np.zeros(max(ids.values()) + 1, dtype=np.bool_)
    special_V[[int(tokenizer.convert_tokens_to_ids(name)) for name in special]] = True
    return ChatTemplate(
        renderer=Renderer(template, variables, guarded),
        encoder=encoder,
        ends=Ends(names_pattern(ends), probe.header),
        end_ids=frozenset(int(tokenizer.convert_tokens_to_ids(name)) for name in ends),
        special_V=special_V,
        special_names=names_pattern(special),
        longest_token=max(map(len, ids)),
        vocabulary=vocabulary,
        held_date=held_date,
    )


@dataclass(frozen=True, slots=True)
class _Probe:
    """What a template writes around plain turns."""

    header: str
    user_turn: str
    ends: frozenset[str]


def _probe(renderer: Renderer, names: set[str], where: str) -> _Probe:
    users, answers = ("Wherefore1", "Wherefore2"), ("Therefore1", "Therefore2")
    turns = [
        Message(role=role, content=text)
        for pair in zip(users, answers, strict=True)
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    try:
        whole = renderer.render(turns).text
        asked = renderer.render(turns[:1], generation_prompt=True).text
        unasked = renderer.render(turns[:1]).text
    except RefusedRow as error:
        raise InputError(f"the chat template refuses a plain conversation: {error.problem}", where=where) from None
    missing = [text for text in (*users, *answers) if text not in whole]
    if missing:
        role = "assistant" if missing[0] in answers else "user"
        raise InputError(
            f"the chat template leaves the {role}'s turn out",
            where=where,
            fix="use the tokenizer of the instruct model, or mend tokenizer.chat_template",
        )
    pattern = names_pattern(names)
    first_user = whole[: whole.index(users[0])]
    final = pattern.search(whole, whole.index(answers[1]))
    if final is None:
        raise InputError(
            "the chat template writes no end-of-turn token after the assistant's turn: a model trained so never stops",
            where=where,
            fix="add eos_token after the assistant's content in tokenizer.chat_template",
        )
    ends = {final.group(1)}
    middle = pattern.search(whole, whole.index(answers[0]))
    if middle is not None and middle.start() < whole.index(users[1]) and middle.group(1) not in first_user:
        ends.add(middle.group(1))
    shared = next(
        (i for i, (a, b) in enumerate(zip(asked, unasked, strict=False)) if a != b), min(len(asked), len(unasked))
    )
    return _Probe(header=asked[shared:], user_turn=asked, ends=frozenset(ends))
