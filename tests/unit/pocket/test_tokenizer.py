"""Pocket's tokenizer as shipped: any text comes back, digits stand alone, the template marks what is learnt."""

import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tools.pocket.batches import PROMPT_WEIGHT, encode
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tokensieve.pocket import POCKET
from tokensieve.types import Message

TOKENIZER: PreTrainedTokenizerFast = AutoTokenizer.from_pretrained(POCKET)
CONVERSATION: list[Message] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "2 + 2?"},
    {"role": "assistant", "content": "Four.\r\n\t"},
    {"role": "user", "content": "  and 3?  "},
    {"role": "assistant", "content": ""},
]


@given(st.text())
@settings(max_examples=300, deadline=None)
def test_any_text_makes_the_round_trip(text: str) -> None:
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert TOKENIZER.decode(ids) == text


def test_digits_stand_alone() -> None:
    tokens = TOKENIZER.tokenize("a 1234,56")
    assert [token for token in tokens if any(c.isdigit() for c in token)] == list("123456")


def test_vocabulary_and_special_tokens() -> None:
    assert len(TOKENIZER) == 1024
    assert (TOKENIZER.pad_token_id, TOKENIZER.bos_token_id, TOKENIZER.eos_token_id) == (0, 1, 2)
    assert len({TOKENIZER.convert_tokens_to_ids(f"<|{role}|>") for role in ("system", "user", "assistant")}) == 3


def test_the_template_marks_content_and_end_of_turn() -> None:
    made = TOKENIZER.apply_chat_template(CONVERSATION, return_dict=True, return_assistant_tokens_mask=True)
    learnt = [i for i, marked in zip(made["input_ids"], made["assistant_masks"], strict=True) if marked]
    assert TOKENIZER.decode(learnt) == "Four.\r\n\t<|end|><|end|>"


def test_the_prompt_is_a_prefix_of_the_whole() -> None:
    whole = TOKENIZER.apply_chat_template(CONVERSATION[:3], return_dict=True)["input_ids"]
    prompt = TOKENIZER.apply_chat_template(CONVERSATION[:2], add_generation_prompt=True, return_dict=True)["input_ids"]
    assert whole[: len(prompt)] == prompt


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(jinja2.TemplateError, match="not tool"):
        TOKENIZER.apply_chat_template([{"role": "tool", "content": "x"}])


def test_pretraining_lays_dialogues_out_as_the_template_does() -> None:
    made = TOKENIZER.apply_chat_template(CONVERSATION, return_dict=True, return_assistant_tokens_mask=True)
    ((ids, weights),) = encode(TOKENIZER, [CONVERSATION])
    assert ids == made["input_ids"]
    assert [weight == 1.0 for weight in weights] == [bool(marked) for marked in made["assistant_masks"]]
    assert set(weights) == {0.0, PROMPT_WEIGHT, 1.0}
