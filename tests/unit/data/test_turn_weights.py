"""Turns that must not be trained: from their loss weight to the tokens that are response."""

import numpy as np
import pytest
from tests.chat_tokenizers import tokenizer

from tokensieve.config import DataSettings
from tokensieve.data.chat import RefusedRow, prepare, tokenise
from tokensieve.types import Example, Message, Tokens

FAMILIES = ("chatml", "llama3", "qwen2_5", "gemma3", "mistral")
ALL, LAST = DataSettings(), DataSettings(last_turn_only=True)


def example(*weights: float | None) -> Example:
    """One exchange for each weight; None is a turn without one."""
    messages = []
    for number, weight in enumerate(weights):
        answer = Message(role="assistant", content=f"answer {number}")
        messages += [
            Message(role="user", content=f"hello {number}"),
            answer if weight is None else {**answer, "weight": weight},
        ]
    return Example("a", tuple(messages))


def responses(row: Tokens, family: str) -> list[str]:
    """The text of each response, one for each end of turn."""
    ends = np.flatnonzero(row.ends_turn_T)
    starts = [0, *(ends[:-1] + 1)]
    return [
        str(tokenizer(family).decode(row.ids_T[a:b][row.in_response_T[a:b]])).strip()
        for a, b in zip(starts, ends, strict=True)
    ]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("weights", "settings", "trained"),
    [
        ((None, None, None), ALL, ["answer 0", "answer 1", "answer 2"]),
        ((1.0, 0.0, 1.0), ALL, ["answer 0", "answer 2"]),
        ((0.0, 0.0, None), ALL, ["answer 2"]),
        ((None, 0.0), ALL, ["answer 0"]),
        ((0.0, 1.0), LAST, ["answer 1"]),
        ((None, 0.0, 1.0), LAST, ["answer 2"]),
    ],
)
def test_a_turn_of_weight_zero_is_context(
    family: str, weights: tuple[float | None, ...], settings: DataSettings, trained: list[str]
) -> None:
    row = tokenise(example(*weights), prepare(tokenizer(family)), settings)
    assert responses(row, family) == trained
    whole = tokenise(example(*(None for _ in weights)), prepare(tokenizer(family)), settings)
    assert row.ids_T.tolist() == whole.ids_T.tolist()  # the weight is no part of the text


@pytest.mark.parametrize(("weights", "settings"), [((0.0,), ALL), ((0.0, 0.0), ALL), ((1.0, 0.0), LAST)])
def test_a_row_without_a_trained_turn_is_refused(weights: tuple[float, ...], settings: DataSettings) -> None:
    with pytest.raises(RefusedRow) as caught:
        tokenise(example(*weights), prepare(tokenizer("chatml")), settings)
    assert caught.value.reason == "every turn that could be trained is marked as not trained"
