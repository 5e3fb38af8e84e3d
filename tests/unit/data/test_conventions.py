"""What data sets hold beside prompt and answer: read by known conventions, else named or refused, never passed over."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from tokensieve.config import DataSettings
from tokensieve.data.formats import read_examples
from tokensieve.data.row_counts import Tally
from tokensieve.errors import InputError
from tokensieve.types import JSON, Example

HELLO = {"role": "user", "content": "hello"}
WORLD = {"role": "assistant", "content": "world"}
PAIR = {"prompt": "hello", "completion": "world"}
SAID = [("user", "hello"), ("assistant", "world")]


def read(row: Mapping[str, object], **settings: object) -> tuple[list[Example], Tally]:
    tally = Tally()
    return list(read_examples([row], DataSettings.model_validate(settings), tally)), tally


def said(example: Example) -> list[tuple[str, str | None]]:
    return [(message["role"], message["content"]) for message in example.messages]


@dataclass(frozen=True)
class Case:
    """A row and what comes of it.

    Attributes:
        row: the row.
        said: roles and texts of its turns; empty where it is dropped.
        told: what is noted of it.
        dropped: why it is dropped.
        columns: of the settings.
    """

    row: Mapping[str, object]
    said: list[tuple[str, str]]
    told: tuple[str, ...] = ()
    dropped: str = ""
    columns: Mapping[str, str] = field(default_factory=dict)


COLUMNS = {
    "dolly": Case(
        {"instruction": "hello", "context": "there", "response": "world", "category": "open_qa"},
        [("user", "hello\nthere"), SAID[1]],
        ("field 'category' not read",),
    ),
    "input beside response": Case(
        {"instruction": "hello", "input": "there", "response": "world"}, [("user", "hello\nthere"), SAID[1]]
    ),
    "context beside question": Case(
        {"question": "hello", "context": "there", "answer": "world"}, [("user", "hello\nthere"), SAID[1]]
    ),
    "context beside Alpaca's input": Case(
        {"instruction": "hello", "input": "there", "context": "you", "output": "world"},
        [("user", "hello\nthere\nyou"), SAID[1]],
    ),
    "blank context": Case({"question": "hello", "context": " ", "answer": "world"}, SAID),
    "context that is not to be read": Case(
        {"question": "hello", "context": "there", "answer": "world"}, SAID, ("field 'context' not read",),
        columns={"context": ""},
    ),
    "OpenOrca": Case(
        {"id": "flan.1", "system_prompt": "be kind", "question": "hello", "response": "world"},
        [("system", "be kind"), *SAID],
    ),
    "empty system prompt": Case({**PAIR, "system_prompt": ""}, SAID),
    "history beside a pair": Case(
        {"query": "hello", "response": "world", "history": [["hi", "ho"]]},
        [("user", "hi"), ("assistant", "ho"), *SAID],
    ),
    "history in text": Case({**PAIR, "history": '[["hi", "ho"]]'}, [("user", "hi"), ("assistant", "ho"), *SAID]),
    "problem and solution": Case({"problem": "hello", "solution": "world"}, SAID),
    "unusual pair": Case({"question": "hello", "output": "world"}, SAID),
    "KTO, desirable": Case({**PAIR, "label": True}, SAID),
    "KTO, undesirable": Case({**PAIR, "label": False}, [], dropped="label is false: an answer as it should not be"),
    "KTO in a CSV file": Case({**PAIR, "label": "False"}, [], dropped="label is false: an answer as it should not be"),
    "KTO of LLaMA-Factory": Case(
        {"messages": [HELLO, WORLD], "kto_tag": False}, [], dropped="kto_tag is false: an answer as it should not be"
    ),
    "label of a classification": Case({**PAIR, "label": 0}, SAID, ("field 'label' not read",)),
    "row that is switched off": Case({**PAIR, "train": False}, [], dropped="train is false: marked as not trained"),
    "losses that were measured": Case({**PAIR, "loss": 0.3}, SAID, ("field 'loss' not read",)),
    "chosen answers": Case(
        {"prompt": "hello", "chosen": "world", "rejected": "no"}, SAID, ("field 'rejected' not read",),
        columns={"completion": "chosen"},
    ),
    "chosen answers to a question": Case(
        {"question": "hello", "chosen": "world", "rejected": "no"}, SAID, ("field 'rejected' not read",),
        columns={"completion": "chosen"},
    ),
    "chosen conversations": Case(
        {"chosen": [HELLO, WORLD], "rejected": [HELLO]}, SAID, ("field 'rejected' not read",),
        columns={"messages": "chosen"},
    ),
    "metadata": Case({**PAIR, "source": "web", "score": 0.5, "note": None, "tags": []}, SAID,
                     ("field 'source' not read", "field 'score' not read")),
    "a column that another stands for": Case(
        {"prompt": "not this", "ask": "hello", "completion": "world"}, SAID, ("field 'prompt' not read",),
        columns={"prompt": "ask"},
    ),
    "a column under its own name": Case(
        {**PAIR, "sys": "be kind"}, [("system", "be kind"), *SAID], columns={"system": "sys"}
    ),
    "unknown fields of turns": Case(
        {"messages": [{**HELLO, "lang": "en"}, {**WORLD, "refusal": None, "audio": {"id": "a"}}]}, SAID,
        ("field 'lang' of a turn not read", "field 'audio' of a turn not read"),
    ),
    "messages in JSON": Case({"messages": '[{"role": "user", "content": "hello"}, '
                              '{"role": "assistant", "content": "world"}]'}, SAID),
    "messages as Python prints them": Case({"messages": str([HELLO, WORLD])}, SAID),
    "ShareGPT in JSON": Case({"conversations": '[{"from": "human", "value": "hello"}, '
                              '{"from": "gpt", "value": "world"}]'}, SAID),
    "prompt of turns in JSON": Case({"prompt": '[{"role": "user", "content": "hello"}]', "completion": "world"}, SAID),
    "completion that is JSON": Case({"prompt": "hello", "completion": '[{"role": "user", "content": "x"}]'},
                                    [SAID[0], ("assistant", '[{"role": "user", "content": "x"}]')]),
    "completion of one turn": Case({"prompt": [HELLO], "completion": WORLD}, SAID),
    "prompt of ShareGPT turns": Case({"prompt": [{"from": "human", "value": "hello"}], "completion": "world"}, SAID),
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_read_named_or_dropped_with_a_reason(name: str) -> None:
    case = COLUMNS[name]
    examples, tally = read(case.row, columns=case.columns)
    assert [said(example) for example in examples] == ([case.said] if case.said else [])
    assert set(tally.noted) == set(case.told)
    assert list(tally.dropped) == ([case.dropped] if case.dropped else [])


@pytest.mark.parametrize(
    ("row", "settings", "words"),
    [
        ({**PAIR, "sys": "a"}, {"columns": {"systm": "sys"}}, ("did you mean 'system'?", "--columns.system sys")),
        ({"q": "a", "completion": "b"}, {"columns": {"promt": "q"}}, ("did you mean 'prompt'?", "--columns.prompt q")),
        ({**PAIR, "x": "a"}, {"columns": {"output": "x"}}, ("the form prompt_completion have no field 'output'",)),
        ({**PAIR, "system": "a", "system_prompt": "b"}, {}, ("two system prompts",)),
        ({**PAIR, "context": ["a", "b"]}, {}, ("context is list", "expected text")),
        ({"prompt": [HELLO], "completion": [HELLO, WORLD]}, {}, ("the completion repeats the prompt",)),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, {}, ("preference data", "--columns.completion chosen")),
        ({"messages": [HELLO], "chosen": "b", "rejected": "c"}, {}, ("preference data",)),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused(
    row: dict[str, object], settings: dict[str, object], words: tuple[str]
) -> None:
    with pytest.raises(InputError) as caught:
        read(row, **settings)
    for word in words:
        assert word in str(caught.value)


def test_a_field_that_is_not_read_is_counted_once_a_row() -> None:
    tally = Tally()
    rows: list[dict[str, object]] = [{**PAIR, "source": "a" if i % 2 else None} for i in range(10)]
    assert len(list(read_examples(rows, DataSettings(), tally))) == 10
    assert tally.noted == {"field 'source' not read": 5}


def test_names_of_unread_fields_are_listed_up_to_a_limit() -> None:
    tally = Tally()
    rows = [{**PAIR, f"name{i}": 1} for i in range(60)]
    assert len(list(read_examples(rows, DataSettings(), tally))) == 60
    assert len(tally.noted) == 51
    assert tally.noted["further fields not read"] == 10


@pytest.mark.parametrize(
    ("marks", "weight"),
    [
        ({"weight": 0}, 0.0), ({"weight": 1}, 1.0), ({"weight": 0.25}, 0.25), ({"loss": False}, 0.0),
        ({"loss": True}, 1.0), ({"loss": None}, None), ({"loss_scale": 0.0}, 0.0), ({"loss_scale": 0.5}, 0.5),
        ({"train": False}, 0.0), ({"training": False}, 0.0), ({"trainable": False}, 0.0), ({"loss_mask": 0}, 0.0),
        ({"masked": True}, 0.0), ({"masked": False}, 1.0), ({"loss_weight": 0.5}, 0.5),
        ({"loss": True, "loss_scale": 0.5}, 0.5), ({"weight": 1, "train": False}, 0.0),
        ({"train_detail": [{"begin_offset": 0, "end_offset": 5, "train": True}]}, None), ({}, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("form", ["messages", "sharegpt", "completion"])
def test_every_trainers_mark_of_a_turn_is_its_loss_weight(
    form: str, marks: dict[str, object], weight: float | None
) -> None:
    rows: dict[str, dict[str, object]] = {
        "messages": {"messages": [HELLO, {**WORLD, **marks}]},
        "sharegpt": {
            "conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "world", **marks}]
        },
        "completion": {"prompt": [HELLO], "completion": [{**WORLD, **marks}]},
    }
    (example,), tally = read(rows[form])
    assert example.messages[-1].get("weight") == weight
    assert ("assistant turn marked as not trained" in tally.noted) == (weight == 0)
    assert ("assistant turn of a loss weight below 1" in tally.noted) == (weight is not None and 0 < weight < 1)
    assert not any("not read" in note for note in tally.noted)


@pytest.mark.parametrize("mark", [{"loss": True}, {"weight": 1}, {"train": True}, {"masked": False}])
@pytest.mark.parametrize("role", ["user", "system", "tool"])
def test_a_mark_on_another_turn_than_the_assistants_is_named(role: str, mark: dict[str, object]) -> None:
    (example,), tally = read({"messages": [{"role": role, "content": "a", **mark}, WORLD]})
    assert "weight" not in example.messages[0]
    assert tally.noted == {f"{role} turn marked to be trained; only the assistant's are": 1}
    assert not read({"messages": [{"role": role, "content": "a", "weight": 0}, WORLD]})[1].noted


@pytest.mark.parametrize(
    ("row", "weights"),
    [
        ({"prompt": [HELLO, WORLD, HELLO], "completion": [WORLD]}, [0.0, None]),
        ({"prompt": [HELLO, WORLD, HELLO], "completion": "world"}, [0.0, None]),
        ({"prompt": [HELLO, {**WORLD, "weight": 1}, HELLO], "completion": [WORLD]}, [0.0, None]),
        ({"prompt": [HELLO], "completion": [WORLD, HELLO, WORLD]}, [None, None]),
        ({"messages": [HELLO, WORLD] * 3, "mask_history": True}, [0.0, 0.0, 1.0]),
        ({"messages": [HELLO, WORLD] * 2, "mask_history": False}, [None, None]),
        ({"messages": [HELLO, WORLD] * 2, "mask_history": 1}, [0.0, 1.0]),
        ({"messages": [HELLO, WORLD] * 2, "mask_history": "1"}, [0.0, 1.0]),
        ({"messages": [HELLO, WORLD], "weight": "0.5"}, [0.5]),
        ({"messages": [HELLO, WORLD], "weight": "75"}, [None]),
        ({"messages": [HELLO, {**WORLD, "weight": 0.5}, HELLO, WORLD], "weight": 0.5}, [0.25, 0.5]),
        ({**PAIR, "history": [["a", "b"]]}, [None, None]),
    ],
)
def test_turns_of_the_prompt_and_of_a_masked_history_are_context(
    row: dict[str, object], weights: list[float | None]
) -> None:
    (example,), _ = read(row)
    assert [turn.get("weight") for turn in example.messages if turn["role"] == "assistant"] == weights


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"train": 0}, "train is false: marked as not trained"),
        ({"train": "0"}, "train is false: marked as not trained"),
        ({"trainable": "no"}, "trainable is false: marked as not trained"),
        ({"label": "False"}, "label is false: an answer as it should not be"),
        ({"label": 0}, ""),
        ({"train": 1}, ""),
        ({"loss": 0.7}, ""),
    ],
    ids=str,
)
def test_a_row_is_left_out_by_every_way_of_writing_no(row: dict[str, object], reason: str) -> None:
    _, tally = read({**PAIR, **row})
    assert list(tally.counts.dropped) == [reason] * bool(reason)


@pytest.mark.parametrize(
    ("marks", "words"),
    [
        ({"loss_mask": [0, 1]}, "the row's loss_mask is a list"),
        ({"loss": "[true, false]"}, "the row's loss is a list"),
        ({"loss_weight": [0.0, 1.0]}, "the row's loss_weight is a list"),
        ({"mask_history": "earlier"}, "mask_history is str 'earlier', expected true or false"),
    ],
    ids=str,
)
def test_marks_of_a_row_that_cannot_be_followed_are_refused(marks: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        read({"messages": [HELLO, WORLD] * 2, **marks})


CALL: JSON = {"type": "function", "function": {"name": "think", "arguments": {"a": 1}}}
TOOL: JSON = {"type": "function", "function": {"name": "think", "parameters": {}}}


@pytest.mark.parametrize(
    ("turn", "content"),
    [
        ({"content": "let me", "function_call": {"name": "think", "arguments": '{"a": 1}'}}, "let me"),
        ({"content": None, "function_call": {"name": "think", "arguments": {"a": 1}}}, None),
        ({"content": "let me", "function_call": '{"name": "think", "arguments": {"a": 1}}'}, "let me"),
        ({"content": "let me", "tool_calls": '[{"name": "think", "arguments": {"a": 1}}]'}, "let me"),
        ({"content": "let me", "tool_calls": [CALL], "function_call": None}, "let me"),
    ],
)  # fmt: skip
def test_a_call_beside_text_is_kept_in_every_spelling(turn: dict[str, object], content: str | None) -> None:
    row = {
        "messages": [HELLO, {"role": "assistant", **turn}, {"role": "function", "name": "think", "content": "2"}, WORLD]
    }
    (example,), tally = read(row)
    assert example.messages[1].get("tool_calls") == [CALL]
    assert example.messages[1]["content"] == content
    assert example.messages[2] == {"role": "tool", "content": "2", "name": "think"}
    assert not tally.noted


@pytest.mark.parametrize(
    "fields",
    [
        {"functions": [{"name": "think", "parameters": {}}]},
        {"functions": '[{"name": "think", "parameters": {}}]'},
        {"tools": [{"name": "think", "parameters": {}}]},
        {"tools": [TOOL], "functions": []},
        {"tools": None, "functions": [TOOL]},
    ],
)
def test_tools_come_in_openais_form(fields: dict[str, object]) -> None:
    (example,), tally = read({"messages": [HELLO, WORLD], **fields})
    assert example.tools == (TOOL,)
    assert not tally.noted


def test_a_sharegpt_call_keeps_the_reasoning_before_it() -> None:
    call = '<think>hm</think>\n{"name": "think", "arguments": {"a": 1}}'
    turns = [{"from": "human", "value": "hello"}, {"from": "function_call", "value": call}]
    (example,), _ = read({"conversations": turns})
    assert example.messages[1] == {"role": "assistant", "content": "<think>hm</think>", "tool_calls": [CALL]}
