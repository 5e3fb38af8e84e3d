"""A tokenizer's chat template made ready: probed, guarded, and with a fixed date."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from tokensieve.config import TemplateArgument
from tokensieve.data.chat.encode import make_encoder
from tokensieve.data.chat.locate import Locator
from tokensieve.data.chat.render import Renderer, names_pattern
from tokensieve.data.chat.response_spans import Ends
from tokensieve.data.chat.template import ChatTemplate
from tokensieve.data.chat.template_probe import TOOL, probe_template
from tokensieve.errors import InputError
from tokensieve.types import JSON

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TODAY: Final = "2024-07-26"
"""The date that stands for today's where none is asked for: the one that Llama 3's templates fall back to."""

_CLOCK: Final = "strftime_now"
"""The function by which templates of the transformers library ask for the time; they have no other way."""
_CODES: Final = ("-d", "-m", *"aAwdbBmyYHIpMSfjUWGuV")
"""Codes of a date's format, without their per cent sign."""


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
    where = str(tokenizer.name_or_path)
    kwargs: dict[str, JSON] = json.loads(arguments)
    variables = {**tokenizer.special_tokens_map, **kwargs}
    plain, with_tools = _texts(tokenizer)
    asks = writes_date(plain) or writes_date(with_tools)
    fixed_date = str(kwargs.get("today", TODAY)) if asks else ""
    if fixed_date:
        plain, with_tools = (with_fixed_date(text, fixed_date) for text in (plain, with_tools))
    special, other = _special_names(tokenizer)
    probe = probe_template(Renderer(plain, variables), special, other, where)
    if with_tools != plain:
        probe = probe.joined_with(probe_template(Renderer(with_tools, variables), special, other, where, [TOOL]))
    ends = special & {str(tokenizer.eos_token)} | probe.ends
    structure = {name for name in other if name in probe.user_turn}
    # A reasoning block's <think> is an ordinary added token that assistants write; others may not write it where the
    # template uses it in its headers.
    guarded = {role: names_pattern(special | structure | ends) for role in ("system", "user", "tool")}
    guarded["assistant"] = names_pattern(special | ends)
    ids = tokenizer.get_vocab()
    special_V = np.zeros(max(ids.values()) + 1, dtype=np.bool_)
    special_V[_ids(tokenizer, special)] = True
    return ChatTemplate(
        locator=Locator(
            renderer=Renderer(plain, variables, guarded),
            tool_renderer=Renderer(with_tools, variables, guarded),
            ends=Ends(names_pattern(ends), probe.header, probe.opener),
            closing={False: probe.closing, True: probe.closing and (probe.call_closing or probe.closing)},
        ),
        encoder=encoder,
        end_ids=frozenset(_ids(tokenizer, ends)),
        stop_ids=frozenset(_ids(tokenizer, ends - probe.inner)),
        special_V=special_V,
        special_names=names_pattern(special),
        longest_token=max(map(len, ids)),
        vocabulary=vocabulary,
        fixed_date=fixed_date,
    )


def _special_names(tokenizer: "PreTrainedTokenizerBase") -> tuple[set[str], set[str]]:
    """Names of the tokenizer's special tokens, and of its other added tokens that are no blanks."""
    added = tokenizer.added_tokens_decoder.values()
    special = {str(token.content) for token in added if token.special} | set(map(str, tokenizer.all_special_tokens))
    return special, {str(token.content) for token in added if str(token.content).strip()} - special


def _ids(tokenizer: "PreTrainedTokenizerBase", names: Iterable[str]) -> list[int]:
    return [int(tokenizer.convert_tokens_to_ids(name)) for name in names]


def _texts(tokenizer: "PreTrainedTokenizerBase") -> tuple[str, str]:
    """The template's text, and that for conversations with tools, which some models list under another name.

    Raises:
        InputError: there is no template, or none of the listed ones is the one to take.
    """
    listed = tokenizer.chat_template
    where = str(tokenizer.name_or_path)
    if not listed:
        raise InputError(
            "the tokenizer has no chat template",
            where=where,
            fix="--tokenizer with the instruct model's tokenizer, or set tokenizer.chat_template",
        )
    if isinstance(listed, str):
        return listed, listed
    texts = {str(name): str(text) for name, text in listed.items()}
    plain = texts.get("default") or (next(iter(texts.values())) if len(texts) == 1 else None)
    if plain is None:
        raise InputError(
            f"the tokenizer lists the chat templates {', '.join(texts)}, and none of them is `default`",
            where=where,
            fix="set tokenizer.chat_template to the one to use, and save the tokenizer",
        )
    return plain, texts.get("tool_use", plain)


def writes_date(template: str) -> bool:
    """True where a row made by the template may have other tokens tomorrow."""
    return _CLOCK in template


def with_fixed_date(template: str, today: str) -> str:
    """The template with a macro in place of the library's clock, which writes one fixed date.

    The library hands no function on to a template; the macro puts the parts of the date in place of their codes.

    Args:
        template: the Jinja text.
        today: the date (ISO), at times with a time behind it.

    Raises:
        InputError: that is no date.
    """
    try:
        day = datetime.fromisoformat(today)
    except ValueError:
        raise InputError(
            f"expected a date such as {TODAY}, got {today!r}", where="template_kwargs.today", fix="YYYY-MM-DD"
        ) from None
    parts = "".join(f"|replace('%{code}', '{day.strftime('%' + code)}')" for code in _CODES)
    # The empty expression at the end keeps Jinja from taking the line break that a template may begin with.
    return f"{{% macro {_CLOCK}(form) %}}{{{{ form{parts} }}}}{{% endmacro %}}{{{{ '' }}}}{template}"
