"""Responses found in token ids alone: behind the headers of published chat templates."""

import contextlib

import numpy as np
import pytest
from tests.chat_tables import CONVERSATIONS
from tests.chat_tokenizers import KINDS, tokenizer
from tests.conftest import ModelFactory, make_tiny_tokenizer
from tests.label_records import IGNORED, faults

from tokensieve.data.chat import RefusedRow, prepare
from tokensieve.errors import InputError
from tokensieve.inspection.audit import audit
from tokensieve.inspection.label_rows import LabelRow
from tokensieve.inspection.row_layout import ResponseFinder, response_finder
from tokensieve.models import LoadedModel
from tokensieve.types import BoolArray, Example, Tokens


@pytest.fixture(scope="module")
def model(tiny_model: ModelFactory) -> LoadedModel:
    return tiny_model("LlamaConfig")


def test_a_response_whose_first_line_break_joins_the_header_is_found(model: LoadedModel) -> None:
    """Byte-level tokenizers with merges write a header's line break and the response's own as one token."""
    finder = response_finder(model.chat)
    texts = {token: finder.text(token) for token in range(262)} | {300: "\n\n"}

    class Joined(ResponseFinder):
        def text(self, token: int) -> str:
            return texts[token]

    joined = Joined(finder.chat, finder.header)
    ids_T = np.asarray([1, 100, 2, finder.header[0], 300, 100, 2], dtype=np.int32)
    (span,) = joined.spans(ids_T, 0, len(ids_T))
    assert (span.start, span.stop) == (4, 6)


def test_a_template_whose_header_is_plain_text_is_refused(model: LoadedModel) -> None:
    plain = make_tiny_tokenizer()
    plain.chat_template = (  # type: ignore[attr-defined]
        "{% for m in messages %}{% if m['role'] == 'user' %}USER: {{ m['content'] }} ASSISTANT:{% else %}"
        " {{ m['content'] }}<|end|>{% endif %}{% endfor %}"
    )
    with pytest.raises(InputError, match="in plain text"):
        response_finder(prepare(plain))


# --- published templates --------------------------------------------------------------------------------------------

PLAIN_HEADERS = {"olmo2"}
"""Families whose tokenizer writes the assistant's header as text."""


def row_of(name: str, tokens: Tokens, train_T: BoolArray | None = None) -> LabelRow:
    labelled_T = tokens.in_response_T if train_T is None else train_T
    labels_T = np.where(labelled_T, tokens.ids_T, IGNORED).astype(np.int64)
    return LabelRow(name, tokens.ids_T, labels_T, labelled_T)


def family_rows(family: str) -> dict[str, Tokens]:
    """The rows that a family's template makes of the conversations that it takes."""
    chat, rows = prepare(tokenizer(family)), {}
    for title, messages in CONVERSATIONS.items():
        with contextlib.suppress(RefusedRow):
            rows[title] = chat.tokenise(Example(title, messages))
    return rows


@pytest.mark.parametrize("family", sorted(set(KINDS) - PLAIN_HEADERS))
def test_responses_of_published_templates_are_found(family: str) -> None:
    finder = response_finder(prepare(tokenizer(family)))
    rows = family_rows(family)
    assert {"single", "two turns"} <= set(rows)
    for title, tokens in rows.items():
        found = audit(lambda: iter([row_of(title, tokens)]), finder, source=family, model=family)  # noqa: B023
        assert faults(found) == {}, title
    tokens = rows["two turns"]
    last = int(np.flatnonzero(tokens.ends_turn_T)[-1])
    planted = row_of("two turns", tokens, tokens.in_response_T & (np.arange(len(tokens)) != last))
    found = audit(lambda: iter([planted]), finder, source=family, model=family)
    assert faults(found) == {"stop token": (1, ("two turns",))}


@pytest.mark.parametrize("family", sorted(PLAIN_HEADERS))
def test_published_templates_with_plain_headers_are_refused(family: str) -> None:
    with pytest.raises(InputError, match="in plain text"):
        response_finder(prepare(tokenizer(family)))
