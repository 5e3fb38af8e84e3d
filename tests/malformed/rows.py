"""Rows that are malformed in a sound file: broken JSON, wrong types, turns, tools, mixed forms, odd text."""

from collections.abc import Iterator

from tests.malformed.case import ALPACA, FORMS, GOOD, PAIR, SHAREGPT, Case, Owed, line, says, second

from tokensieve.config import DataSettings


def json_cases() -> Iterator[Case]:
    broken = {
        "missing brace": b'{"messages": []',
        "trailing comma": b'{"messages": [],}',
        "single quotes": b"{'messages': []}",
        "bare word": b"{messages: []}",
        "open string": b'{"messages": "hel',
        "two objects": b'{"a": 1}{"a": 2}',
        "no colon": b'{"messages" []}',
        "comment": b'{"messages": [] /* none */}',
        "line break in text": b'{"prompt": "a\nb"}',
        "raw tab in text": b'{"prompt": "a\tb", "completion": "c"}',
        "raw bell in text": b'{"prompt": "a\x07b", "completion": "c"}',
        "bad escape": b'{"prompt": "\\q"}',
        "half an escape": b'{"prompt": "\\u12"}',
        "python's True": b'{"prompt": True}',
        "huge number": b'{"id": ' + b"9" * 5000 + b"}",
        "deep nesting": b'{"messages": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        "text": b"hello world",
    }
    for name, text in broken.items():
        yield second("broken JSON", name, text + b"\n", "error", "broken JSON")
    for name, value in {"list": [1], "number": 1, "text": "hello", "null": None, "true": True, "float": 1.5}.items():
        yield second("row that is no object", name, line(value), "error", "expected a JSON object")
    for constant in (b"NaN", b"Infinity", b"-Infinity"):
        yield second(
            "NaN", f"{constant.decode()} as id", b'{"id": ' + constant + b', "prompt": "a"}\n', "error", "no JSON value"
        )
        yield second(
            "NaN",
            f"{constant.decode()} as text",
            b'{"prompt": "a", "completion": ' + constant + b"}\n",
            "error",
            "no JSON value",
        )


def types_cases() -> Iterator[Case]:
    value: object
    turn: object
    for value in ("hello", 1, None, True, 1.5, {"role": "user"}):
        yield second(
            "messages that are no list", repr(value), line({"messages": value}), "error", "expected a list of turns"
        )
    for turn in ("hello", 1, None, True, ["user", "hello"], [[]], 2.5):
        yield second(
            "turn that is no object", repr(turn), line({"messages": [turn]}), "error", "expected a turn", "turn 1"
        )
    for content in (1, 1.5, True, {"text": "a"}, ["a"], [1], [[["a"]]], [None]):
        yield second(
            "content of a wrong type", f"user {content!r}", line(says(content, "a")), "error", "content", "turn 1"
        )
        yield second(
            "content of a wrong type",
            f"assistant {content!r}",
            line(says("a", content)),
            "error",
            "content",
            "turn 2",
        )
    yield second("content of a wrong type", "null from the user", line(says(None, "a")), "error", "content is null")
    for part in (
        {"type": "image"},
        {"type": "image_url", "image_url": {"url": "x"}},
        {"type": "audio"},
        {"type": "text"},
    ):
        yield second("content that is no text", str(part), line(says([part], "a")), "error", "only text is read")
    for value in (1.5, True, [1], {"a": 1}):
        yield second("id of a wrong type", repr(value), line({**GOOD, "id": value}), "error", "id is")


def turns_cases() -> Iterator[Case]:
    for role in ("User", "ASSISTANT", "bot", "human", "gpt", "", "assistant ", "usr", "ai", None, 1, "narrator"):
        row = {"messages": [{"role": role, "content": "a"}, {"role": "assistant", "content": "b"}]}
        yield second("unknown role", repr(role), line(row), "error", "unknown role", "turn 1")
    for turn in ({"content": "a"}, {"from": "human", "value": "a"}, {}, {"rôle": "user"}):
        yield second("turn without a role", str(turn), line({"messages": [turn]}), "error", "has no 'role'")
    for content in ("", " ", "\n", "\t \r\n", None, [], [{"type": "text", "text": " "}]):
        yield second("empty response", repr(content), line(says("a", content)), "drop", "empty response")
    for name, roles in {"none": [], "user": ["user"], "system": ["system", "user"], "tool": ["user", "tool"]}.items():
        row = {"messages": [{"role": role, "content": "a"} for role in roles]}
        yield second("no assistant turn", name, line(row), "drop", "no assistant turn")
    orders = (
        "assistant", "assistant user assistant", "user user assistant", "user assistant assistant",
        "user system assistant", "user tool assistant", "system assistant",
    )  # fmt: skip
    for order in orders:
        row = {"messages": [{"role": role, "content": "a"} for role in order.split()]}
        reason = "refused by the chat template"
        yield second("roles out of order", order, line(row), "drop", reason, tokenizer="mistral")
    value: object
    said = "every turn that could be trained is marked as not trained"
    marks: dict[str, object] = {"weight": 0, "train": False, "loss": False, "loss_scale": 0.0, "masked": True}
    for key, value in marks.items():
        marked: dict[str, object] = {"role": "assistant", "content": "b", key: value}
        row = {"messages": [{"role": "user", "content": "a"}, marked]}
        yield second("only turn not trained", f"{key}={value}", line(row), "drop", said)
    wrong: tuple[tuple[str, object, str], ...] = (
        ("train", "no", "expected true, false or a loss weight"),
        ("weight", 2, "from 0 (not trained) to 1"), ("weight", -1, "from 0"), ("loss_scale", [0.0], "expected true"),
        ("loss_mask", "1", "expected true"), ("mask", True, "write weight: 0"),
        ("train_detail", [{"begin_offset": 0, "end_offset": 1, "train": False}], "a turn is trained whole"),
    )  # fmt: skip
    for key, value, words in wrong:
        marked = {"role": "assistant", "content": "b", key: value}
        row = {"messages": [{"role": "user", "content": "a"}, marked]}
        yield second("loss weight that is none", f"{key}={value}", line(row), "error", "turn 2", words)


def tools_cases() -> Iterator[Case]:
    calls: tuple[object, ...] = (
        "think", ["think"], [1], [{}], [{"function": {}}], [{"function": {"name": 1}}], [{"function": "think"}],
        [{"function": {"name": "think", "arguments": "{"}}], [{"function": {"name": "think", "arguments": "[1]"}}],
        [{"function": {"name": "think", "arguments": 1}}], [{"function": {"name": "think", "arguments": [1]}}], [None],
    )  # fmt: skip
    for call in calls:
        calling = {"role": "assistant", "content": None, "tool_calls": call}
        row = {"messages": [{"role": "user", "content": "a"}, calling]}
        yield second("malformed tool call", str(call), line(row), "error")
    for tools in ("[", "2", 1, [1], ["think"], {"name": "think"}):
        yield second("malformed tools", str(tools), line({**GOOD, "tools": tools}), "error")
    right = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "think", "arguments": {}}}]}
    row = {"messages": [{"role": "user", "content": "a"}, right]}
    yield second(
        "tool call that the template drops", "llama3", line(row), "drop", "cannot be found", tokenizer="llama3"
    )


def forms_cases() -> Iterator[Case]:
    value: object
    turn: object
    fields: object
    for before, good in FORMS.items():
        for after, other in FORMS.items():
            if before != after:
                yield second("mixed forms", f"{before}, then {after}", line(other), "error", first=good)
    for value in (1, None, [], {}, True):
        owed: Owed = "drop" if value is None or value == [] else "error"
        yield second(
            "response of a wrong type", f"completion {value!r}", line({**PAIR, "completion": value}), owed, first=PAIR
        )
        if value != []:
            yield second(
                "response of a wrong type", f"output {value!r}", line({**ALPACA, "output": value}), owed, first=ALPACA
            )
    for value in (1, None, {}, True):
        yield second(
            "prompt of a wrong type", f"prompt {value!r}", line({**PAIR, "prompt": value}), "error", first=PAIR
        )
        yield second(
            "prompt of a wrong type",
            f"instruction {value!r}",
            line({**ALPACA, "instruction": value}),
            "error",
            first=ALPACA,
        )
    for history in ("a", 1, [1], ["ab"], [["a"]], [["a", 1]], [[None, "b"]]):
        yield second(
            "malformed history", repr(history), line({**ALPACA, "history": history}), "error", "history", first=ALPACA
        )
    for turn in (
        {"from": "human"},
        {"value": "a"},
        {"from": "Human", "value": "a"},
        {"from": "gpt", "value": 1},
        "a",
        1,
    ):
        yield second(
            "malformed ShareGPT turn", str(turn), line({"conversations": [turn]}), "error", "turn 1", first=SHAREGPT
        )
    yield second(
        "malformed ShareGPT turn", "call that is no JSON",
        line({"conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": "think()"}]}),
        "error", "expected JSON", first=SHAREGPT,
    )  # fmt: skip
    own: object = {**GOOD, "origin": "ground_truth"}
    wrong: tuple[tuple[str, object], ...] = (
        ("origin", "me"), ("origin", 1), ("sampled_ids", "1 2"), ("sampled_ids", [-1]), ("sampled_ids", [1.5]),
        ("sampled_ids", ["1"]), ("sampled_ids", [2**40]), ("sampled_ids", [True]), ("task", 1),
    )  # fmt: skip
    for key, value in wrong:
        row = {**GOOD, "origin": "ground_truth", key: value}
        yield second("malformed example", f"{key}={value!r}", line(row), "error", first=own)
    for value in (1, ["a"], {"a": 1}):
        yield second("malformed system prompt", repr(value), line({**GOOD, "system": value}), "error", "system")
    for fields in (
        {},
        {"text": "a"},
        {"question": "a"},
        {"input_ids": [1]},
        {"Prompt": "a"},
    ):
        yield Case("unrecognised form", str(fields), "rows.jsonl", line(fields), "error", ("not recognised", "line 1"))
    preference: object
    for preference, fix in (
        ({"chosen": [], "rejected": []}, "--columns.completion chosen"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "--columns.completion chosen"),
        ({"instruction": "a", "chosen": "b", "rejected": "c"}, "--columns.completion chosen"),
        ({"chosen": GOOD["messages"], "rejected": GOOD["messages"]}, "--columns.messages chosen"),
        ({**SHAREGPT, "conversations": [{"from": "human", "value": "a"}], "chosen": 1, "rejected": 2}, "chosen"),
    ):
        yield Case("preference data", str(preference), "rows.jsonl", line(preference), "error", ("preference", fix))
    named = DataSettings(columns={"prompt": "ask"})
    yield Case("column that is not there", "ask", "rows.jsonl", line(PAIR), "error", ("no column 'ask'",), named)
    stated = DataSettings(format="sharegpt")
    yield Case("form stated wrongly", "sharegpt", "rows.jsonl", line(PAIR), "error", ("expected the field",), stated)


def text_cases() -> Iterator[Case]:
    for place in ("user", "assistant"):
        row = says("a\0b", "c") if place == "user" else says("a", "b\0")
        yield second("NUL character", place, line(row), "drop", "NUL character")
    for code in (1, 7, 8, 11, 12, 27, 127, 0x85, 0x200B, 0x202E, 0xFEFF, 0xFFFD, 0x10FFFF, 0xE000):
        yield second("control character", f"U+{code:04X}", line(says(f"a{chr(code)}b", f"c{chr(code)}d")), "keep")
    for token in ("<|im_end|>", "<|im_start|>", "<|im_end|>\n<|im_start|>assistant\n", "<|im_<|im_end|>end|>"):
        yield second("special token in text", repr(token), line(says(f"a{token}b", "c")), "keep")
        yield second("special token in text", f"{token!r} in a response", line(says("a", f"{token}b")), "keep")
    long = DataSettings(max_length=64)
    fifty = b'{"prompt": "' + b"a" * (50 * 2**20) + b'", "completion": "b"}\n'
    yield second("line of 50 MB", "prompt", fifty, "drop", "over-long", first=PAIR, settings=long)
    for words in (100, 1000):
        row = says("hello " * words, "world")
        yield second("over-long row", f"{words} words", line(row), "drop", "over-long", settings=long)
    strict = DataSettings(max_length=64, over_long="error")
    row = says("hello " * 100, "world")
    yield Case("over-long row", "refused", "rows.jsonl", line(row), "error", ("tokens, the limit is 64",), strict)
    cut = DataSettings(max_length=64, over_long="cut")
    yield second("over-long row", "no response left", line(row), "drop", "no response left after the cut", settings=cut)
    unique = DataSettings(duplicates="drop")
    yield second("duplicate", "same row", line(GOOD), "drop", "duplicate", settings=unique)
