import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokensieve.config import DataSettings
from tokensieve.data.dataset import in_memory
from tokensieve.data.formats import read_examples, recognise
from tokensieve.data.manifest import Manifest
from tokensieve.data.row_counts import Tally
from tokensieve.errors import InputError
from tokensieve.types import Example, Message, Origin

TURNS = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "world"}]
ROWS: dict[str, dict[str, object]] = {
    "messages": {"messages": TURNS},
    "sharegpt": {"conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "world"}]},
    "alpaca": {"instruction": "hello", "input": "", "output": "world"},
    "prompt_completion": {"prompt": "hello", "completion": "world"},
    "examples": {"id": "a", "messages": TURNS, "origin": "self_output", "sampled_ids": [5, 6], "task": "t"},
}


def write(folder: Path, rows: list[dict[str, object]], name: str = "rows.jsonl") -> Path:
    path = folder / name
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    elif name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif name.endswith(".json"):
        path.write_text(json.dumps(rows))
    else:
        path.write_text(text)
    return path


def read(path: Path | str, **settings: object) -> tuple[list[Example], Tally]:
    tally = Tally()
    return list(read_examples(path, DataSettings.model_validate(settings), tally)), tally


def said(example: Example) -> list[tuple[str, str | None]]:
    return [(message["role"], message["content"]) for message in example.messages]


@pytest.mark.parametrize("form", ROWS)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz", "rows.parquet", "rows.json", "rows.json.gz"])
def test_every_form_is_recognised_in_every_kind_of_file(tmp_path: Path, form: str, name: str) -> None:
    if name.endswith(".json.gz"):
        name = "rows.jsonl.gz"
    examples, tally = read(write(tmp_path, [ROWS[form]] * 3, name))
    assert tally.format == form
    assert [said(example) for example in examples] == [[("user", "hello"), ("assistant", "world")]] * 3
    assert tally.rows_in == 3
    assert len({example.id for example in examples}) == 3


def test_csv_and_tsv_hold_pairs(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('question,answer\n"hello, you","two\nlines"\n')
    (tmp_path / "a.tsv").write_text("prompt\tresponse\nhello\tworld\n")
    assert said(read(tmp_path / "a.csv")[0][0]) == [("user", "hello, you"), ("assistant", "two\nlines")]
    assert said(read(tmp_path / "a.tsv")[0][0]) == [("user", "hello"), ("assistant", "world")]


def test_columns_take_the_users_names(tmp_path: Path) -> None:
    path = write(tmp_path, [{"ask": "hello", "reply": "world", "prompt": "not this one"}])
    examples, _ = read(path, columns={"prompt": "ask", "completion": "reply"})
    assert said(examples[0]) == [("user", "hello"), ("assistant", "world")]


def test_a_pair_is_chosen_once_for_the_whole_data_set(tmp_path: Path) -> None:
    path = write(tmp_path, [{"question": "a", "answer": "b"}, {"prompt": "c", "completion": "d"}])
    with pytest.raises(InputError, match=r"line 2: no column 'question'"):
        read(path)


def test_the_examples_of_a_row_keep_what_was_sampled(tmp_path: Path) -> None:
    (example,), _ = read(write(tmp_path, [ROWS["examples"]]))
    assert (example.id, example.task, example.origin) == ("a", "t", Origin.SELF_OUTPUT)
    assert example.sampled_ids is not None
    assert example.sampled_ids.tolist() == [5, 6]


def test_sharegpt_calls_and_observations_become_tool_turns(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "hello"},
        {"from": "function_call", "value": '{"name": "think", "arguments": {"a": 1}}'},
        {"from": "observation", "value": "42"},
        {"from": "gpt", "value": "world"},
    ]
    row: dict[str, object] = {"conversations": turns, "system": "be kind", "tools": '[{"name": "think"}]'}
    (example,), _ = read(write(tmp_path, [row]))
    assert [message["role"] for message in example.messages] == ["system", "user", "assistant", "tool", "assistant"]
    call = {"type": "function", "function": {"name": "think", "arguments": {"a": 1}}}
    assert example.messages[2].get("tool_calls") == [call]
    assert example.tools == ({"type": "function", "function": {"name": "think"}},)


def test_openai_arguments_in_text_become_an_object(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "think", "arguments": '{"a": [1]}'}}
    turns = [TURNS[0], {"role": "assistant", "content": None, "tool_calls": [call]}]
    (example,), _ = read(write(tmp_path, [{"messages": turns}]))
    assert example.messages[1].get("tool_calls") == [
        {"id": "1", "type": "function", "function": {"name": "think", "arguments": {"a": [1]}}}
    ]


@pytest.mark.parametrize("name", ["rows.parquet", "rows.jsonl"])
def test_a_table_gives_no_call_the_arguments_of_another_rows(tmp_path: Path, name: str) -> None:
    def row(**arguments: object) -> dict[str, object]:
        call = {"type": "function", "function": {"name": "think", "arguments": arguments}}
        return {"messages": [TURNS[0], {"role": "assistant", "content": None, "tool_calls": [call]}]}

    examples, _ = read(write(tmp_path, [row(a=1), row(b="two")], name))
    calls = [example.messages[1].get("tool_calls") for example in examples]
    assert calls == [
        [{"type": "function", "function": {"name": "think", "arguments": a}}] for a in ({"a": 1}, {"b": "two"})
    ]


def test_alpaca_input_and_history_come_before_the_answer(tmp_path: Path) -> None:
    row: dict[str, object] = {
        "instruction": "sum",
        "input": "1 2",
        "output": "3",
        "history": [["hi", "ho"]],
        "system": "s",
    }
    (example,), _ = read(write(tmp_path, [row]))
    expected = [("system", "s"), ("user", "hi"), ("assistant", "ho"), ("user", "sum\n1 2"), ("assistant", "3")]
    assert said(example) == expected


def test_a_prompt_of_turns_is_taken_as_it_is(tmp_path: Path) -> None:
    row: dict[str, object] = {"prompt": TURNS[:1], "completion": TURNS[1:]}
    (example,), _ = read(write(tmp_path, [row]))
    assert said(example) == [("user", "hello"), ("assistant", "world")]


def test_repeated_ids_are_told_apart_and_noted(tmp_path: Path) -> None:
    examples, tally = read(write(tmp_path, [{"id": 7, **ROWS["messages"]}] * 3))
    assert [example.id for example in examples] == ["7", "7#1", "7#2"]
    assert tally.noted["repeated id, row number added to it"] == 2


def test_a_limit_counts_rows_read(tmp_path: Path) -> None:
    empty: dict[str, object] = {"prompt": "a", "completion": ""}
    examples, tally = read(write(tmp_path, [empty, ROWS["prompt_completion"], ROWS["prompt_completion"]]), limit=2)
    assert len(examples) == 1
    assert tally.counts.model_dump() == {
        "rows_in": 2,
        "rows_out": 1,
        "dropped": {"empty response": 1},
        "dropped_ids": {"empty response": ["rows.jsonl/0"]},
    }


def test_a_folder_of_files_is_read_in_order_of_names(tmp_path: Path) -> None:
    write(tmp_path, [{"prompt": "b", "completion": "2"}], "b.jsonl")
    write(tmp_path, [{"prompt": "a", "completion": "1"}], "a.parquet")
    examples, _ = read(tmp_path)
    assert [example.messages[0]["content"] for example in examples] == ["a", "b"]


def test_a_stages_folder_gives_its_examples_and_another_stages_does_not(tmp_path: Path) -> None:
    example = Example("a", tuple(Message(role=t["role"], content=t["content"]) for t in TURNS))
    in_memory([example], Manifest(stage="examples")).save(tmp_path / "examples")
    assert read(tmp_path / "examples")[0] == [example]
    in_memory([], Manifest(stage="tokens")).save(tmp_path / "tokens")
    with pytest.raises(InputError, match="expected examples, got the folder of the stage 'tokens'"):
        read(tmp_path / "tokens")


def test_a_saved_data_set_is_read_by_split(tmp_path: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_list([ROWS["prompt_completion"]])
    rows.save_to_disk(str(tmp_path / "one"))
    datasets.DatasetDict({"test": rows}).save_to_disk(str(tmp_path / "many"))
    assert len(read(tmp_path / "one")[0]) == 1
    assert len(read(tmp_path / "many", split="test")[0]) == 1
    with pytest.raises(InputError, match="no split 'train'; there are: test"):
        read(tmp_path / "many")


def test_a_missing_file_is_not_looked_for_on_the_hub() -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        read("missing.jsonl")


@pytest.mark.parametrize(("form", "row"), ROWS.items())
def test_recognise_names_the_form(form: str, row: dict[str, object]) -> None:
    assert recognise(row) == form
