import math
from collections.abc import Iterator, Sequence
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from tests.chat_tokenizers import KINDS, tokenizer
from transformers import PreTrainedTokenizerFast

from tokensieve.config import DataSettings, ModelSettings
from tokensieve.data.chat import RefusedRow, normalise, prepare, tokenise, tokenise_all
from tokensieve.data.chat.render import Rendered, Renderer
from tokensieve.data.row_counts import Tally
from tokensieve.errors import InputError
from tokensieve.types import JSON, Example, Message, Tokens

MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}"
    "<|im_end|>\n{% endgeneration %}{% else %}{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CLOCK = "{{ strftime_now('%d %b %Y') }}\n"


def with_template(template: str | None) -> PreTrainedTokenizerFast:
    import copy

    changed = copy.deepcopy(tokenizer("chatml"))
    changed.chat_template = template
    return changed


@pytest.fixture(scope="module")
def marked() -> PreTrainedTokenizerFast:
    return with_template(MARKED)


def example(*texts: str, **more: object) -> Example:
    roles = ("user", "assistant")
    turns = tuple(Message(role=roles[i % 2], content=text) for i, text in enumerate(texts))
    return Example("row", turns, **more)  # type: ignore[arg-type]


def response(row: Tokens, made_by: PreTrainedTokenizerFast) -> str:
    return cast(str, made_by.decode(row.ids_T[row.in_response_T]))


def test_the_line_break_behind_the_end_of_turn_is_never_response(marked: PreTrainedTokenizerFast) -> None:
    row = tokenise(example("hello", "world"), prepare(marked), DataSettings())
    assert response(row, marked) == "world<|im_end|>"
    assert row.ends_turn_T.nonzero()[0].tolist() == [len(row) - 2]


def test_only_the_last_turn_on_request(marked: PreTrainedTokenizerFast) -> None:
    row = tokenise(example("hello", "the", "What", "world"), prepare(marked), DataSettings(last_turn_only=True))
    assert response(row, marked) == "world<|im_end|>"
    assert int(row.ends_turn_T.sum()) == 1


def test_an_unfinished_turn_ends_with_its_text(marked: PreTrainedTokenizerFast) -> None:
    row = tokenise(example("hello", "the answer"), prepare(marked), DataSettings(continue_last_turn=True))
    assert response(row, marked) == "the answer"
    assert row.in_response_T[-1]
    assert not row.ends_turn_T.any()


def test_sampled_ids_are_kept_as_they_are(marked: PreTrainedTokenizerFast) -> None:
    end = marked.convert_tokens_to_ids("<|im_end|>")
    odd = [marked.convert_tokens_to_ids(c) for c in "world"] + [end]  # letter by letter, as no tokenizer would
    row = tokenise(example("hello", "world", sampled_ids=np.asarray(odd, np.int32)), prepare(marked), DataSettings())
    prompt = prepare(marked).prompt_ids(example("hello", "world").messages[:1])
    assert row.ids_T.tolist() == [*prompt.tolist(), *odd]
    assert row.in_response_T.tolist() == [False] * len(prompt) + [True] * len(odd)
    assert row.ends_turn_T.nonzero()[0].tolist() == [len(row) - 1]


def test_sampled_ids_without_an_end_have_none(marked: PreTrainedTokenizerFast) -> None:
    row = tokenise(example("hello", "w", sampled_ids=np.asarray([40, 41], np.int32)), prepare(marked), DataSettings())
    assert not row.ends_turn_T.any()
    assert row.in_response_T[-2:].all()


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        (None, "no chat template"),
        (
            "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}",
            "leaves the assistant's turn out",
        ),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", "writes no end-of-turn token"),
        ("{{ raise_exception('not today') }}", "refuses a plain conversation"),
    ],
)  # fmt: skip
def test_an_unusable_template_is_told(template: str | None, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        prepare(with_template(template))


def test_a_template_for_which_no_way_is_right_shows_both_texts() -> None:
    moving = MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    moving = "{% if add_generation_prompt %}asked{% else %}whole{% endif %}" + moving
    with pytest.raises(RefusedRow) as caught:
        tokenise(example("hello", "world"), prepare(with_template(moving)), DataSettings())
    message = str(caught.value)
    assert "expected: 'asked<|im_start|>" in message
    assert "got:      'whole<|im_start|>" in message
    tally = Tally()
    rows = tally.counted([example("hello", "world")])
    with pytest.raises(InputError, match="not one row is left of 1") as of_the_whole:
        list(tokenise_all(rows, prepare(with_template(moving)), DataSettings(), tally))
    assert "expected: 'asked<|im_start|>" in str(of_the_whole.value)
    assert "got:      'whole<|im_start|>" in str(of_the_whole.value)


def test_every_drop_is_counted_by_reason_with_its_row(marked: PreTrainedTokenizerFast) -> None:
    rows = [example("hello", "world"), example("hello " * 50, "world"), example("hello", "world")]
    rows = [Example(f"row/{i}", row.messages) for i, row in enumerate(rows)]
    tally = Tally()
    settings = DataSettings(max_length=40, duplicates="drop")
    made = list(tokenise_all(tally.counted(rows), prepare(marked), settings, tally))
    assert [row.id for row in made] == ["row/0"]
    assert tally.counts.dropped_ids == {"duplicate": ["row/2"], "over-long": ["row/1"]}
    assert tally.counts.rows_out == 1


def test_duplicates_that_are_kept_are_counted(marked: PreTrainedTokenizerFast) -> None:
    tally = Tally()
    rows = tally.counted([example("hello", "world"), example("hello", "the"), example("hello", "world")])
    assert len(list(tokenise_all(rows, prepare(marked), DataSettings(), tally))) == 3
    assert tally.noted["duplicate, kept"] == 1


def test_more_rows_than_are_made_together_keep_their_order(marked: PreTrainedTokenizerFast) -> None:
    rows = [Example(f"row/{i}", example("hello" * (i % 7), f"world {i}").messages) for i in range(150)]
    rows[70] = Example("row/70", example("a" * 2**20, "world").messages)  # a portion ends behind a row this long
    tally = Tally()
    made = list(tokenise_all(tally.counted(rows), prepare(marked), DataSettings(max_length=2**21), tally))
    assert [row.id for row in made] == [row.id for row in rows]
    assert [row.ids_T.tolist() for row in made] == [
        tokenise(r, prepare(marked), DataSettings()).ids_T.tolist() for r in rows
    ]


def test_arguments_of_the_template_reach_it_as_values_from_a_command_line_too() -> None:
    thinking = example("hello", "Paris").messages[:1]
    made_by = tokenizer("qwen3")
    plain, without = (
        cast(
            str,
            made_by.decode(
                prepare(made_by, ModelSettings(template_kwargs=kwargs).template_kwargs).prompt_ids(thinking)
            ),
        )
        for kwargs in ({}, {"enable_thinking": "false"})
    )
    assert without == plain + "<think>\n\n</think>\n\n"


def test_cut_keeps_the_beginning_of_the_response(marked: PreTrainedTokenizerFast) -> None:
    whole = tokenise(example("hello", "the answer is Paris"), prepare(marked), DataSettings())
    start = int(whole.in_response_T.argmax())
    settings = DataSettings(max_length=start + 2, over_long="cut")
    tally = Tally()
    (row,) = tokenise_all([example("hello", "the answer is Paris")], prepare(marked), settings, tally)
    assert tally.noted[f"cut at {start + 2} tokens"] == 1
    assert row.ids_T.tolist() == whole.ids_T[: start + 2].tolist()
    assert row.in_response_T[-2:].all()
    assert not row.ends_turn_T.any()


def test_no_row_left_is_an_error_with_the_reasons(marked: PreTrainedTokenizerFast) -> None:
    tally = Tally()
    with pytest.raises(InputError, match="not one row is left of 1; over-long: 1"):
        list(tokenise_all(tally.counted([example("a", "b")]), prepare(marked), DataSettings(max_length=2), tally))


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((), "a \r\n\tb\t\r\n"),
        (("line_ends",), "a \n\tb\t\n"),
        (("trailing_blanks",), "a\r\n\tb\r\n"),
        (("tabs",), "a \r\n    b   \r\n"),
        (("tabs", "trailing_blanks", "line_ends"), "a\n    b\n"),
    ],
)
def test_normalising_does_what_it_is_told(kinds: tuple[str, ...], expected: str) -> None:
    assert normalise("a \r\n\tb\t\r\n", kinds) == expected  # type: ignore[arg-type]


def _dated(family: str) -> PreTrainedTokenizerFast:
    """A tokenizer of the family Llama 3 with a template that writes today's date."""
    import copy

    import trl

    changed = copy.deepcopy(tokenizer("llama3"))
    folder = Path(trl.__file__).parent / "chat_templates"
    changed.chat_template = (folder / f"{family}.jinja").read_text(encoding="utf-8")
    return changed


@pytest.mark.parametrize("family", ["llama3_1", "llama3_2", "own"])
def test_a_row_has_the_same_tokens_tomorrow(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.utils import chat_template_utils

    made_by = _dated(family) if family != "own" else with_template(CLOCK + MARKED)

    def on(year: int) -> Tokens:
        class _Day(datetime):
            @classmethod
            def now(cls, tz: tzinfo | None = None) -> "_Day":
                return cls(year, 1, 2)

        monkeypatch.setattr(chat_template_utils, "datetime", _Day)
        prepare_again()
        return tokenise(example("hello", "world"), prepare(made_by), DataSettings())

    first, later = on(2031), on(2032)
    assert first.ids_T.tolist() == later.ids_T.tolist()
    text = made_by.decode(first.ids_T)
    assert "2031" not in text
    assert "2032" not in text
    assert "2024" in text


def prepare_again() -> None:
    """Forget the templates that are ready, which hold no date of their own but would hide one."""
    from tokensieve.data.chat.prepare import _prepared

    _prepared.cache_clear()


def test_the_date_is_said_and_can_be_another_one() -> None:
    made_by = with_template(CLOCK + MARKED)
    tally = Tally()
    list(tokenise_all([example("hello", "world")], prepare(made_by), DataSettings(), tally))
    assert tally.noted["today's date, which the chat template writes, held at 2024-07-26"] == 1
    dated = prepare(made_by, {"today": "2026-01-31"})
    assert "31 Jan 2026" in made_by.decode(tokenise(example("hello", "world"), dated, DataSettings()).ids_T)
    with pytest.raises(InputError, match="expected a date"):
        prepare(made_by, {"today": "yesterday"})
    assert prepare(with_template(MARKED)).fixed_date == ""


def _renderings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A list that grows by the number of turns of each conversation that a template is made to write."""
    counted: list[int] = []
    render = Renderer.render

    def counting(self: Renderer, messages: Sequence[Message], *args: object, **kwargs: object) -> Rendered:
        counted.append(len(messages))
        return render(self, messages, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Renderer, "render", counting)
    return counted


@pytest.mark.parametrize("family", list(KINDS))
def test_the_template_is_rendered_a_few_times_however_many_the_turns(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = prepare(tokenizer(family))
    counted = _renderings(monkeypatch)
    for texts, at_most in ((("hello", "the answer"), 3), (("hello", "the answer", "What?", "is Paris") * 50, 5)):
        counted.clear()
        row = chat.tokenise(example(*texts))
        assert int(row.ends_turn_T.sum()) == len(texts) // 2
        assert len(counted) <= at_most


def test_many_special_names_in_a_text_are_each_looked_at_once(marked: PreTrainedTokenizerFast) -> None:
    looked = 0

    class Counted(tuple[int, ...]):
        """Breaks that count how often one of them is looked at."""

        def __getitem__(self, place: Any) -> Any:
            nonlocal looked
            looked += 1
            return super().__getitem__(place)

        def __iter__(self) -> Iterator[int]:
            nonlocal looked
            looked += len(self)
            return super().__iter__()

    names = 5_000
    text = "<|im_end|>" * names
    whole = Rendered(text, Counted(range(1, len(text), len("<|im_end|>"))))
    for place in range(0, len(text), len("<|im_end|>")):
        assert not whole.is_written(place, place + len("<|im_end|>"))
    assert looked <= names * 2 * math.ceil(math.log2(names))
    row = tokenise(example(text, text), prepare(marked), DataSettings())
    assert int(row.ends_turn_T.sum()) == 1
    assert int((row.ids_T == marked.convert_tokens_to_ids("<|im_end|>")).sum()) == 2


TOOL: JSON = {"type": "function", "function": {"name": "think", "parameters": {"type": "object", "properties": {}}}}
LISTED = {
    "default": MARKED,
    "tool_use": MARKED.replace("{% for m", "{% for tool in tools %}{{ tool.function.name }}\n{% endfor %}{% for m", 1),
    "rag": "{{ raise_exception('never taken') }}",
}


def test_of_listed_templates_that_for_tools_is_taken_where_there_are_tools() -> None:
    made_by = with_template(MARKED)
    made_by.chat_template = LISTED
    chat = prepare(made_by)
    plain, with_tools = (chat.tokenise(example("hello", "world", tools=tools)) for tools in ((), (TOOL,)))
    assert made_by.decode(plain.ids_T).startswith("<|im_start|>user")
    assert made_by.decode(with_tools.ids_T).startswith("think\n<|im_start|>user")
    assert response(plain, made_by) == response(with_tools, made_by) == "world<|im_end|>"
    prompt = chat.prompt_ids(example("hello", "world").messages[:1], [TOOL])
    assert with_tools.ids_T[: len(prompt)].tolist() == prompt.tolist()


@pytest.mark.parametrize(
    ("listed", "problem"),
    [
        ({"tool_use": MARKED}, None),
        ({"tool_use": MARKED, "rag": MARKED}, "lists the chat templates tool_use, rag, and none of them is `default`"),
        ({}, "has no chat template"),
    ],
)
def test_a_list_without_a_default_is_taken_where_it_is_clear(listed: dict[str, str], problem: str | None) -> None:
    made_by = with_template(MARKED)
    made_by.chat_template = listed
    if problem is None:
        assert response(prepare(made_by).tokenise(example("hello", "world")), made_by) == "world<|im_end|>"
        return
    with pytest.raises(InputError, match=problem):
        prepare(made_by)


@pytest.mark.parametrize("family", ["deepseek_r1", "deepseek_v3", "nemotron3", "qwen3_5", "qwen3_6"])
@pytest.mark.parametrize("reasoning", ["is", "is the answer " * 10])
def test_reasoning_that_is_there_is_not_said_to_be_left_out(family: str, reasoning: str) -> None:
    if family not in KINDS:
        pytest.skip("the installed TRL has no such template")
    tally = Tally()
    row = prepare(tokenizer(family)).tokenise(
        example("hello", f"<think>\n{reasoning.strip()}\n</think>\n\nParis"), tally=tally
    )
    assert reasoning.strip() in tokenizer(family).decode(row.ids_T[row.in_response_T])
    assert not [note for note in tally.noted if "left out" in note or "without the reasoning" in note]


@pytest.mark.parametrize(
    ("family", "stops"),
    [
        ("llama3", {"<|eot_id|>"}),
        ("chatml", {"<|im_end|>"}),
        ("gemma3", {"<eos>", "<end_of_turn>"}),
        ("phi3", {"<|end|>", "<|endoftext|>"}),
        ("mistral", {"</s>"}),
        ("qwen3", {"<|im_end|>"}),
        ("gptoss", {"<|return|>", "<|call|>"}),  # <|end|> also stands between a turn's reasoning and its answer
        ("gemma4", {"<eos>", "<turn|>", "<|tool_response>"}),
        ("glm4_9b", {"<|endoftext|>", "<|user|>", "<|observation|>"}),
        ("deepseek_v3", {"<｜end▁of▁sentence｜>"}),
    ],
)
def test_a_sampler_stops_where_a_turn_ends(family: str, stops: set[str]) -> None:
    if family not in KINDS:
        pytest.skip("the installed TRL has no such template")
    chat = prepare(tokenizer(family))
    assert set(tokenizer(family).convert_ids_to_tokens(sorted(chat.stop_ids))) == stops
    assert chat.stop_ids <= chat.end_ids


def test_a_header_that_lacks_the_prompts_opener_is_no_response_in_any_turn() -> None:
    """Marks around the whole turn, and a prompt that opens a block of reasoning, as R1-distill's training template."""
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}<|im_start|>assistant\n{{ m.content }}"
        "<|im_end|>{% endgeneration %}{% else %}<|im_start|>user\n{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    )
    made_by = with_template(template)
    tally = Tally()
    row = prepare(made_by).tokenise(example("hello", "the", "What", "world"), tally=tally)
    assert response(row, made_by) == "the<|im_end|>world<|im_end|>"
    assert tally.noted["response found by the template's generation markers"] == 1
