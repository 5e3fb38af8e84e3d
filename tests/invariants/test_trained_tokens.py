"""What holds for any conversation, template, policy and trainer: nothing outside a response is ever trained."""

import json
import re
import tempfile
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.chat_tokenizers import KINDS, tokenizer
from tests.export_rows import of
from transformers import PreTrainedTokenizerFast

from tokensieve.config import DataSettings, SelectSettings
from tokensieve.data.chat import RefusedRow, prepare, tokenise
from tokensieve.data.formats import read_examples
from tokensieve.data.row_counts import Tally
from tokensieve.errors import TokensieveError
from tokensieve.exports import TRAINERS, export
from tokensieve.selection import fit, select_tokens
from tokensieve.types import Example, Message, Scored, Scores, Tokens
from tokensieve.verify import verify_export

NO_SYSTEM = ("gemma2",)
"""Families whose template refuses a system turn, as it should."""

FAMILIES = tuple(KINDS)
"""Every family that there is a small tokenizer of; their templates set turns off by special tokens, blanks or text."""

NAMES = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "[INST]",
    "[/INST]",
    "<s>",
    "</s>",
    "<|assistant|>\n",
    "assistant\n",
    "<|eot_id|>",
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "<end_of_turn>",
    "<start_of_turn>model\n",
    "<|end|>",
)
"""What an attacker, or a data set about chat templates, would write."""

PIECES = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(
        ["\n", "\n\n", " ", "  ", "\t", "\r\n", "the answer", " is", "Paris", "é", "漢", "👩‍🔬", "<", "|", "end|>"]
    ),
    st.text(st.characters(exclude_categories=("C", "Z")), max_size=6),
)
TEXTS = st.lists(PIECES, min_size=1, max_size=8).map("".join).map(lambda text: text if text.strip() else "a")
POLICIES = ("plain", "stm:2.5", "share:0.3", "nll_budget:0.9", "random:stm:2.5", "lowest:stm:2.5", "soft:2.5",
            "frozen:dft", "stm:10 & keep:first:2")  # fmt: skip

quick = settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def conversations(draw: st.DrawFn) -> tuple[Message, ...]:
    """Turns of user and assistant in any number, at times with a system prompt, at times ending with the user."""
    turns = [Message(role="system", content=draw(TEXTS))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        turns += [Message(role="user", content=draw(TEXTS)), Message(role="assistant", content=draw(TEXTS))]
    if draw(st.booleans()):
        turns.append(Message(role="user", content=draw(TEXTS)))
    return tuple(turns)


class Rows:
    """Makes rows of conversations, and counts those that are refused, so that a test cannot pass on refusals alone."""

    def __init__(self) -> None:
        self.made = 0
        self.refused: Counter[str] = Counter()

    def make(
        self, family: str, messages: tuple[Message, ...], settings: DataSettings = DataSettings()
    ) -> Tokens | None:
        """The row; None where it is refused."""
        if family in NO_SYSTEM and messages[0]["role"] == "system":
            with pytest.raises(RefusedRow, match="refuses it"):
                tokenise(Example("row", messages), prepare(tokenizer(family)), settings)
            return None
        try:
            row = tokenise(Example("row", messages), prepare(tokenizer(family)), settings)
        except RefusedRow as refusal:
            self.refused[f"{family}: {refusal.reason}"] += 1
            return None
        self.made += 1
        return row

    def check(self, at_least: int) -> None:
        """Enough rows were made, and of what their templates take hardly one was refused."""
        assert self.made >= at_least, self.refused
        assert sum(self.refused.values()) <= 0.01 * self.made, self.refused


@pytest.fixture(autouse=True, scope="module")
def _quiet() -> None:
    datasets.disable_progress_bars()


def _special(made_by: PreTrainedTokenizerFast) -> set[int]:
    return {index for index, token in made_by.added_tokens_decoder.items() if token.special}


def test_text_of_others_never_becomes_response_nor_special() -> None:
    rows = Rows()

    @quick
    @given(family=st.sampled_from(FAMILIES), messages=conversations())
    def check(family: str, messages: tuple[Message, ...]) -> None:
        row = rows.make(family, messages)
        if row is None:
            return
        made_by = tokenizer(family)
        answers = [message["content"] or "" for message in messages if message["role"] == "assistant"]
        reference = rows.make(family, tuple(Message(role=m["role"], content="hello") for m in messages))
        assert reference is not None
        special = _special(made_by)
        assert [i for i in row.ids_T.tolist() if i in special] == [i for i in reference.ids_T.tolist() if i in special]
        ends = row.ends_turn_T.nonzero()[0].tolist()
        assert len(ends) == len(answers)
        starts = [0, *(end + 1 for end in ends)]
        for answer, start, end in zip(answers, starts, ends, strict=False):
            ids = [int(row.ids_T[t]) for t in range(start, end) if row.in_response_T[t]]
            said = made_by.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            # A template may trim the answer, and a token over the border to the header is left out of the response.
            said = FRAME.sub("", "".join(said.split()), count=1)
            assert said in "".join(answer.split())

    check()
    rows.check(at_least=300)


FRAME = re.compile(r"\A((<think>)?</think>|<\|channel\|>final<\|message\|>)")
"""What a model writes before an answer without reasoning: an empty block of it, or a channel's header."""


def test_a_row_begins_as_its_sampler_would() -> None:
    rows = Rows()

    @quick
    @given(family=st.sampled_from(FAMILIES), messages=conversations())
    def check(family: str, messages: tuple[Message, ...]) -> None:
        row = rows.make(family, messages)
        if row is None:
            return
        last = max(i for i, message in enumerate(messages) if message["role"] == "assistant")
        chat = prepare(tokenizer(family))
        prompt = chat.prompt_ids(messages[:last])
        # Without reasoning some templates leave out the block of it that the prompt opens.
        without = prompt[: -len(chat.text_ids(chat.ends.opener))] if chat.ends.opener else prompt
        begins = [row.ids_T[: len(ids)].tolist() == ids.tolist() for ids in (prompt, without)]
        assert any(begins)
        start = len(prompt) if begins[0] else len(without)
        assert not row.in_response_T[start - 1] or row.ends_turn_T[start - 1]
        assert row.in_response_T[start]

    check()
    rows.check(at_least=300)


@pytest.mark.parametrize("policy", POLICIES)
def test_no_policy_and_no_export_trains_a_token_outside_a_response(policy: str) -> None:
    rows, exported = Rows(), Counter[str]()

    @settings(max_examples=45, deadline=None, suppress_health_check=list(HealthCheck))
    @given(family=st.sampled_from(FAMILIES), data=st.data())
    def check(family: str, data: st.DataObject) -> None:
        drawn = data.draw(st.lists(conversations(), min_size=1, max_size=4))
        last_turn_only = data.draw(st.booleans())
        read = DataSettings(last_turn_only=last_turn_only)
        made = [row for row in (rows.make(family, messages, read) for messages in drawn) if row is not None]
        assert not last_turn_only or all(tokens.ends_turn_T.sum() == 1 for tokens in made)
        rng = np.random.default_rng(data.draw(st.integers(0, 2**16)))
        scored = [Scored(row, {"base": Scores(rng.exponential(1.0, len(row)).astype(np.float32))}) for row in made]
        rule = fit(SelectSettings(policy=policy), lambda: scored)
        chosen = [select_tokens(row, rule) for row in scored]
        for row in chosen:
            assert not (row.train_T & ~row.tokens.in_response_T).any()
            assert row.train_T[row.tokens.ends_turn_T].all()
        if not any(row.train_T[1:].any() for row in chosen):
            return
        with tempfile.TemporaryDirectory() as folder:
            for name, convention in TRAINERS.items():
                kind = data.draw(st.sampled_from(convention.formats))
                place = export(of(chosen), Path(folder) / name, to=name, format=kind, weights="round")
                result = verify_export(place, name, selected=of(chosen), how="rules")
                assert result.ok, result.describe()
                exported[name] += 1

    check()
    rows.check(at_least=40)
    assert set(exported) == set(TRAINERS)
    assert min(exported.values()) >= 30


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELD_NAMES = (
    "messages",
    "conversations",
    "role",
    "content",
    "from",
    "value",
    "prompt",
    "completion",
    "instruction",
    "output",
    "input",
    "history",
    "system",
    "tools",
    "tool_calls",
    "id",
    "origin",
    "sampled_ids",
)
FIELDS = st.sampled_from(FIELD_NAMES)


@settings(max_examples=400, deadline=None)
@given(rows=st.lists(st.dictionaries(FIELDS, VALUES, max_size=5), min_size=1, max_size=4))
def test_any_json_ends_in_examples_counted_drops_or_our_own_error(rows: list[dict[str, object]]) -> None:
    _read("".join(json.dumps(row) + "\n" for row in rows).encode("utf-8", "surrogatepass"))


@settings(max_examples=400, deadline=None)
@given(content=st.binary(max_size=200))
def test_any_bytes_end_in_examples_counted_drops_or_our_own_error(content: bytes) -> None:
    _read(content)
    _read(b'{"prompt": "a", "completion": "b"}\n' + content)


@settings(max_examples=400, deadline=None)
@given(content=st.binary(max_size=120), suffix=st.sampled_from([".csv", ".json", ".parquet", ".jsonl.gz", ".tsv"]))
def test_any_bytes_under_any_suffix(content: bytes, suffix: str) -> None:
    _read(content, suffix)


def _read(content: bytes, suffix: str = ".jsonl") -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{suffix}"
        path.write_bytes(content)
        tally = Tally()
        try:
            examples = list(read_examples(path, DataSettings(), tally))
        except TokensieveError:
            return
        assert len(examples) == tally.counts.rows_out
