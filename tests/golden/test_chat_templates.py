import json
import re
from typing import cast

import pytest
from tests.chat_tables import CONVERSATIONS, GOLDEN, table
from tests.chat_tokenizers import KINDS, template, tokenizer

from tokensieve.data.chat import RefusedRow, prepare
from tokensieve.types import Example, Tokens

PLAIN = ("single", "system", "two turns", "reasoning", "ends with the user")
"""Conversations without special tokens in their text and without line breaks at a response's beginning."""
CLOSED = ("glm4", "glm4_9b")
"""Families whose template leaves the end of a turn to the next one's header; ours writes the last one too."""
OTHERWISE = frozenset(
    {
        *(("gptoss", title) for title in PLAIN),  # it writes today's date
        *((name, title) for name in ("qwen3_5", "qwen3_6") for title in PLAIN[:3]),  # cut where the prompt ends
        *(("qwen3_8", title) for title in PLAIN),  # cut where the prompt ends; it reads no </think>
        *((name, "reasoning") for name in ("deepseek_r1", "deepseek_v3")),  # they drop the last turn's reasoning
        ("gemma4", "reasoning"),  # it has a field for reasoning, and knows no </think>
    }
)
FRAME = re.compile(
    r"\A(.*?</think>|<\|channel>thought\n.*?<channel\|>"
    r"|(<\|channel\|>analysis.*?<\|start\|>assistant)?<\|channel\|>final<\|message\|>)",
    re.DOTALL,
)
"""Text that a model writes before its answer: a block of reasoning, be it empty, or a channel's header."""


def _row(name: str, title: str) -> Tokens | None:
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))[name][title]
    if "refused" in golden:
        return None
    return prepare(tokenizer(name)).tokenise(Example(title, CONVERSATIONS[title]))


def _cases(titles: tuple[str, ...], without: frozenset[tuple[str, str]] = frozenset()) -> list[tuple[str, str]]:
    return [(name, title) for name in KINDS for title in titles if (name, title) not in without]


@pytest.mark.parametrize("name", KINDS)
def test_ids_and_response_positions_are_those_of_the_golden_table(name: str) -> None:
    assert table(name) == json.loads(GOLDEN.read_text(encoding="utf-8"))[name]


@pytest.mark.parametrize(("name", "title"), _cases(PLAIN, OTHERWISE))
def test_ids_are_those_of_transformers_where_nothing_had_to_be_cut(name: str, title: str) -> None:
    row = _row(name, title)
    if row is None:
        return
    made = tokenizer(name).apply_chat_template(list(CONVERSATIONS[title]), tokenize=True)["input_ids"]
    if name in CLOSED and CONVERSATIONS[title][-1]["role"] == "assistant":
        made = [*made, tokenizer(name).convert_tokens_to_ids("<|user|>")]
    assert row.ids_T.tolist() == made


@pytest.mark.parametrize(("name", "title"), _cases(tuple(CONVERSATIONS)))
def test_a_row_begins_with_the_ids_that_a_sampler_would_be_given(name: str, title: str) -> None:
    row = _row(name, title)
    if row is None:
        return
    last = max(i for i, message in enumerate(CONVERSATIONS[title]) if message["role"] == "assistant")
    chat = prepare(tokenizer(name))
    prompt = chat.prompt_ids(CONVERSATIONS[title][:last])
    notes = json.loads(GOLDEN.read_text(encoding="utf-8"))[name][title]["notes"]
    if "last response without the reasoning block that the prompt opens" in notes:
        opener = chat.text_ids(chat.ends.opener)
        assert prompt[-len(opener) :].tolist() == opener.tolist()
        prompt = prompt[: -len(opener)]
    assert row.ids_T[: len(prompt)].tolist() == prompt.tolist()
    assert row.in_response_T[len(prompt)]


@pytest.mark.parametrize(("name", "title"), _cases(tuple(CONVERSATIONS)))
def test_the_response_is_each_turns_text_and_one_end_of_turn(name: str, title: str) -> None:
    row = _row(name, title)
    if row is None:
        return
    said = [message for message in CONVERSATIONS[title] if message["role"] == "assistant"]
    assert int(row.ends_turn_T.sum()) == len(said)
    starts = [0, *(row.ends_turn_T.nonzero()[0] + 1).tolist()]
    for message, begin, end in zip(said, starts, row.ends_turn_T.nonzero()[0].tolist(), strict=False):
        ids = [int(row.ids_T[t]) for t in range(begin, end) if row.in_response_T[t]]
        text = cast(str, tokenizer(name).decode(ids))
        answer = (message["content"] or "").rpartition("</think>")[2].strip()
        if "tool_calls" in message:
            assert "think" in text
            assert "Paris" not in text, "the tool's answer is not the model's"
        else:
            assert FRAME.sub("", text, count=1).strip() == answer


@pytest.mark.parametrize("name", KINDS)
def test_rows_made_together_are_those_made_one_by_one(name: str) -> None:
    chat = prepare(tokenizer(name))
    examples = [Example(title, messages) for title, messages in CONVERSATIONS.items()]
    for example, row in zip(examples, chat.tokenise_many(examples), strict=True):
        if isinstance(row, RefusedRow):
            with pytest.raises(RefusedRow) as alone:
                chat.tokenise(example)
            assert (row.reason, str(row)) == (alone.value.reason, str(alone.value))
            continue
        alike = chat.tokenise(example)
        assert row.id == alike.id
        for ours, theirs in (
            (row.ids_T, alike.ids_T),
            (row.in_response_T, alike.in_response_T),
            (row.ends_turn_T, alike.ends_turn_T),
        ):
            assert ours.tolist() == theirs.tolist()
    assert chat.tokenise_many([]) == []


@pytest.mark.parametrize("name", KINDS)
def test_special_tokens_that_people_wrote_stay_text(name: str) -> None:
    row = _row(name, "special tokens in text")
    plain = _row(name, "single")
    assert row is not None
    assert plain is not None
    special = set(tokenizer(name).all_special_ids) | {
        i for i, token in tokenizer(name).added_tokens_decoder.items() if token.special
    }
    got = [i for i in row.ids_T.tolist() if i in special]
    expected = [i for i in plain.ids_T.tolist() if i in special]
    assert got == expected
    decoded = cast(str, tokenizer(name).decode(row.ids_T))
    assert "<|im_end|><|eot_id|><end_of_turn></s><|end|> the answer<eos>" in decoded


@pytest.mark.parametrize("name", KINDS)
def test_no_beginning_of_text_is_doubled(name: str) -> None:
    row = _row(name, "single")
    bos = KINDS[name].bos
    assert row is not None
    if bos is not None:
        bos_id = tokenizer(name).convert_tokens_to_ids(bos)
        writes_bos = "bos_token" in template(name)
        assert (row.ids_T[:2] == bos_id).tolist() == [writes_bos, False]


def test_the_first_line_break_of_an_answer_is_not_joined_to_the_header() -> None:
    row = _row("qwen2_5", "leading line break")
    assert row is not None
    names = tokenizer("qwen2_5").convert_ids_to_tokens(row.ids_T.tolist())
    start = int(row.in_response_T.argmax())
    assert names[start - 1 : start + 1] == ["Ċ", "ĊĊ"]
