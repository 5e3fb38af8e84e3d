"""The audit of loss masks: every fault planted once, sound data sets in every convention, and every doubt refused."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.chat_tables import CONVERSATIONS
from tests.chat_tokenizers import KINDS, tokenizer
from tests.conftest import ModelFactory, make_tiny_tokenizer

from tokensieve.config import DataSettings, InspectSettings
from tokensieve.data.chat import RefusedRow, prepare
from tokensieve.data.dataset import Rows, in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.errors import InputError
from tokensieve.exports import TRAINERS, export
from tokensieve.inspection import MaskAudit, inspect_data
from tokensieve.inspection.audit import audit
from tokensieve.inspection.label_rows import LabelRow
from tokensieve.inspection.response_ids import ResponseFinder, response_finder
from tokensieve.models import LoadedModel
from tokensieve.types import BoolArray, Example, Message, Scored, Scores, Selected, Tokens

Record: TypeAlias = dict[str, list[int]]
Change: TypeAlias = Callable[[Record], Record]

BEGIN, END, PAD = 0, 2, 3
IGNORED = -100


@pytest.fixture(scope="module")
def model(tiny_model: ModelFactory) -> LoadedModel:
    return tiny_model("LlamaConfig")


def tokens_of(model: LoadedModel, name: str, *turns: str) -> Tokens:
    """A conversation of user and assistant in turns."""
    roles = ("user", "assistant")
    messages = tuple(Message(role=roles[i % 2], content=text) for i, text in enumerate(turns))
    return model.chat.tokenise(Example(name, messages))


def record_of(tokens: Tokens) -> Record:
    labels = np.where(tokens.in_response_T, tokens.ids_T, IGNORED)
    return {"input_ids": tokens.ids_T.tolist(), "labels": labels.tolist()}


def conversations(model: LoadedModel, n: int = 4) -> list[Record]:
    return [record_of(tokens_of(model, f"{i}", f"sum {i}?", f"it is {i}", "sure?", f"yes {i}")) for i in range(n)]


def places(record: Record) -> list[int]:
    """Places of the labels."""
    return [t for t, label in enumerate(record["labels"]) if label != IGNORED]


def audited(records: object, model: LoadedModel, **settings: object) -> MaskAudit:
    found = inspect_data(cast("list[Record]", records), model, InspectSettings.model_validate(settings))
    assert isinstance(found, MaskAudit)
    return found


def faults(found: MaskAudit, verdict: str = "fault") -> dict[str, tuple[int, tuple[str, ...]]]:
    return {check.name: (check.found, check.rows) for check in found.checks if check.verdict == verdict}


def labelled(record: Record, *at: int) -> Record:
    labels = [record["input_ids"][t] if t in at else label for t, label in enumerate(record["labels"])]
    return {**record, "labels": labels}


def unlabelled(record: Record, *at: int) -> Record:
    labels = [IGNORED if t in at else label for t, label in enumerate(record["labels"])]
    return {**record, "labels": labels}


def stops(record: Record) -> list[int]:
    return [t for t in places(record) if record["input_ids"][t] == END]


def padded(record: Record, *, trained: bool, left: bool = False, attention: bool = True) -> Record:
    ids, labels = [PAD] * 3, [PAD if trained else IGNORED] * 3
    parts = {"input_ids": (record["input_ids"], ids), "labels": (record["labels"], labels)}
    if attention:
        parts["attention_mask"] = ([1] * len(record["labels"]), [0] * 3)
    return {name: b + a if left else a + b for name, (a, b) in parts.items()}


def packed(record: Record, how: str, *, crossing: bool) -> Record:
    """The row twice in one, with a column that tells the border; crossing: the second's first token has a label."""
    once = {name: [begin, *values] for (name, values), begin in zip(record.items(), (BEGIN, IGNORED), strict=True)}
    length = len(once["input_ids"])
    both = {name: values * 2 for name, values in (once if how == "BOS" else record).items()}
    if how != "BOS":
        length = len(record["input_ids"])
    if crossing:
        both = labelled(both, length)
    columns = {
        "position_ids": list(range(length)) * 2,
        "seq_lengths": [length] * 2,
        "seq_start_id": [0, length],
        "attention_mask": [1] * length + [2] * length,
    }
    return both if how == "BOS" else {**both, how: columns[how]}


def cut(record: Record) -> Record:
    return {name: values[: stops(record)[-1]] for name, values in record.items()}


def another_label(record: Record) -> Record:
    at = places(record)[1]
    return {**record, "labels": [99 if t == at else label for t, label in enumerate(record["labels"])]}


def without_response(record: Record) -> Record:
    at = places(record)[0] - 2  # the header of the first response
    return {name: values[:at] for name, values in labelled(record, 1).items()}


FAULTS: list[tuple[str, Change, str, int]] = [
    ("stop token not trained", lambda r: unlabelled(r, stops(r)[1]), "stop token", 1),
    ("both stop tokens not trained", lambda r: unlabelled(r, *stops(r)), "stop token", 2),
    ("first token not trained", lambda r: unlabelled(r, places(r)[0]), "first token", 1),
    ("end of the header trained", lambda r: labelled(r, places(r)[0] - 1), "prompt", 1),
    ("user's tokens trained", lambda r: labelled(r, 2, 3, 4), "prompt", 3),
    ("second user's turn trained", lambda r: labelled(r, stops(r)[0] + 3), "prompt", 1),
    ("padding trained", lambda r: padded(r, trained=True), "padding", 3),
    ("padding on the left trained", lambda r: padded(r, trained=True, left=True), "padding", 2),
    ("padding trained, no attention mask", lambda r: padded(r, trained=True, attention=False), "padding", 3),
    (
        "BOS doubled",
        lambda r: {"input_ids": [BEGIN, BEGIN, *r["input_ids"]], "labels": [IGNORED] * 2 + r["labels"]},
        "doubled BOS",
        1,
    ),
    ("no label", lambda r: unlabelled(r, *places(r)), "no label", 1),
    ("cut before the end of turn", cut, "cut off", 1),
    ("a label that is another token", another_label, "labels", 1),
    *(
        (f"border crossed, told by {how}", lambda r, how=how: packed(r, how, crossing=True), "packing border", 1)
        for how in ("position_ids", "seq_lengths", "seq_start_id", "attention_mask", "BOS")
    ),
]


@pytest.mark.parametrize(("change", "name", "count"), [case[1:] for case in FAULTS], ids=[case[0] for case in FAULTS])
@pytest.mark.parametrize("shifted", [False, True], ids=["unshifted", "shifted"])
def test_a_fault_that_is_planted_once_is_the_only_one_found(
    model: LoadedModel, change: Change, name: str, count: int, shifted: bool
) -> None:
    bad = change(conversations(model, 1)[0])
    rows = [*conversations(model), bad]
    if shifted:
        rows = [shift(row) for row in rows]
    found = audited([{**row, "id": f"{i}"} for i, row in enumerate(rows)], model)
    assert faults(found) == {name: (count, ("4",))}
    assert not found.ok
    assert found.labels == ("shifted" if shifted else "unshifted")


def shift(record: Record, by: int = 1) -> Record:
    """The row with labels to the left by one, as trainers that do not shift take them; nothing is cut off."""
    labels = record["labels"]
    moved = labels[by:] + [IGNORED] * by if by > 0 else [IGNORED] * -by + labels[:by]
    return {**record, "labels": moved}


def test_a_row_of_another_kind_is_named(model: LoadedModel) -> None:
    found = audited([*conversations(model), without_response(conversations(model, 1)[0])], model)
    assert faults(found) == {"no response": (1, ("rows/4",))}


@pytest.mark.parametrize("by", [-1, 2])
def test_labels_that_are_shifted_wrongly_are_a_fault(model: LoadedModel, by: int) -> None:
    found = audited([shift(row, by) for row in conversations(model)], model)
    assert "shift" in faults(found)
    assert found.labels == {-1: "shifted back", 2: "shifted twice"}[by]


def masked(record: Record, name: str, *, shifted: bool = False, labels: bool = False) -> Record:
    mask = [int(label != IGNORED) for label in (shift(record) if shifted else record)["labels"]]
    made = {"input_ids": record["input_ids"], name: mask}
    return {**made, "labels": record["input_ids"]} if labels else made


def with_holes(record: Record) -> Record:
    inside = [t for t in places(record) if t not in stops(record)]
    return unlabelled(record, inside[0], *inside[2::3])


def line_break_behind(record: Record) -> Record:
    line_break = record["input_ids"][places(record)[0] - 1]
    return {name: [*values, line_break] for name, values in record.items()}


SOUND: list[tuple[str, Change, set[str]]] = [
    ("whole responses", dict, set()),
    ("last turn only", lambda r: unlabelled(r, *[t for t in places(r) if t <= stops(r)[0]]), {"turn not trained"}),
    ("shifted", shift, {"shift"}),
    (
        "shifted, the last token cut off",
        lambda r: {"input_ids": r["input_ids"][:-1], "labels": r["labels"][1:]},
        {"shift"},
    ),
    ("padded", lambda r: padded(r, trained=False), set()),
    ("padded on the left", lambda r: padded(r, trained=False, left=True), set()),
    ("padded, no attention mask", lambda r: padded(r, trained=False, attention=False), set()),
    ("one BOS", lambda r: {"input_ids": [BEGIN, *r["input_ids"]], "labels": [IGNORED, *r["labels"]]}, set()),
    ("packed", lambda r: packed(r, "position_ids", crossing=False), set()),
    ("packed, told by BOS", lambda r: packed(r, "BOS", crossing=False), set()),
    ("labels of all tokens with a loss mask", lambda r: masked(r, "loss_mask", labels=True), set()),
    ("a loss mask alone", lambda r: masked(r, "loss_mask"), set()),
    ("a shifted loss mask alone", lambda r: masked(r, "loss_mask", shifted=True), {"shift"}),
    ("TRL's completion mask", lambda r: masked(r, "completion_mask"), set()),
    ("tokens left out within responses", with_holes, {"first token"}),
    ("white space behind the end of turn", line_break_behind, {"after end of turn"}),
    ("torchtune's column", lambda r: {"tokens": r["input_ids"], "labels": r["labels"]}, set()),
]


@pytest.mark.parametrize(("change", "notes"), [case[1:] for case in SOUND], ids=[case[0] for case in SOUND])
def test_sound_masks_pass_in_every_convention(model: LoadedModel, change: Change, notes: set[str]) -> None:
    found = audited([change(row) for row in conversations(model)], model)
    assert faults(found) == {}
    assert set(faults(found, "note")) == notes
    assert found.ok
    assert found.responses == (16 if found.tokens > 250 else 8)


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


def refused(change: Change, *, first: Change = dict) -> Callable[[list[Record]], list[Record]]:
    return lambda rows: [first(rows[0]), *(change(row) for row in rows[1:])]


DOUBTS: list[tuple[str, Callable[[list[Record]], list[Record]], str]] = [
    ("rows shifted and not", refused(shift), "differ in how far their labels are shifted"),
    ("labels of other tokens", refused(lambda r: {**r, "labels": r["input_ids"][::-1]}), "not the rows' tokens"),
    (
        "labels that fit both ways",
        lambda rows: [{"input_ids": [9] * 6, "labels": [IGNORED, IGNORED, 9, 9, IGNORED, IGNORED]}],
        "no row tells whether",
    ),
    (
        "another template",
        lambda rows: [{"input_ids": [9, 10, 11, 12, 2], "labels": [IGNORED, IGNORED, 11, 12, 2]}],
        "another chat template",
    ),
    ("ids of another tokenizer", refused(lambda r: {**r, "input_ids": [999, *r["input_ids"][1:]]}), "token id 999"),
    ("labels of another length", refused(lambda r: {**r, "labels": r["labels"][1:]}), "labels has"),
    (
        "no integers",
        refused(lambda r: {**r, "labels": cast("list[int]", ["a"] * len(r["labels"]))}),
        "list of integers",
    ),
    (
        "labels and mask disagree",
        refused(lambda r: {**r, "loss_mask": [1] * len(r["labels"])}),
        "labels and loss_mask disagree",
    ),
    (
        "positions that jump",
        refused(lambda r: {**r, "position_ids": [*range(5), *range(9, len(r["labels"]) + 4)]}),
        "neither count on nor begin again at token 5",
    ),
    ("lengths that do not add up", refused(lambda r: {**r, "seq_lengths": [3, 4]}), "seq_lengths add up to 7"),
    ("no row", lambda rows: [], "no rows|no model|holds no"),
]


@pytest.mark.parametrize(("make", "message"), [case[1:] for case in DOUBTS], ids=[case[0] for case in DOUBTS])
def test_doubts_are_refused(model: LoadedModel, make: Callable[[list[Record]], list[Record]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        audited(make(conversations(model)), model)


def test_the_user_settles_a_doubt_about_the_shift(model: LoadedModel) -> None:
    rows = [shift(row) for row in conversations(model)]
    found = audited([*rows, conversations(model, 1)[0]], model, labels="shifted")
    assert set(faults(found)) >= {"labels"}
    assert faults(found)["labels"] == (1, ("rows/4",))


def test_a_template_whose_header_is_plain_text_is_refused(model: LoadedModel) -> None:
    plain = make_tiny_tokenizer()
    plain.chat_template = (  # type: ignore[attr-defined]
        "{% for m in messages %}{% if m['role'] == 'user' %}USER: {{ m['content'] }} ASSISTANT:{% else %}"
        " {{ m['content'] }}<|end|>{% endif %}{% endfor %}"
    )
    with pytest.raises(InputError, match="in plain text"):
        response_finder(prepare(plain))


@pytest.mark.parametrize("changes", [{"policy": "plain"}, {"top": 3}, {"thresholds": (2.0,)}, {"own_answers": "x"}])
def test_settings_without_effect_on_labels_are_refused(model: LoadedModel, changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match="has no effect on rows that have labels"):
        audited(conversations(model), model, **changes)


def test_a_model_is_needed_and_readers_settings_are_refused(model: LoadedModel) -> None:
    with pytest.raises(InputError, match="no model is given"):
        inspect_data(conversations(model))
    with pytest.raises(InputError, match="--last-turn-only has no effect"):
        inspect_data(conversations(model), model, read=DataSettings(last_turn_only=True))


def test_columns_that_say_nothing_are_named(model: LoadedModel) -> None:
    found = audited([{**row, "length": 3, "source": "web"} for row in conversations(model)], model)
    assert found.unread == ("length", "source")


# --- files ----------------------------------------------------------------------------------------------------------


def write_parquet(rows: list[Record], folder: Path) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    return folder / "rows.parquet"


def write_jsonl(rows: list[Record], folder: Path) -> Path:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder / "rows.jsonl"


def save_to_disk(rows: list[Record], folder: Path) -> Path:
    import datasets

    datasets.Dataset.from_list(rows).save_to_disk(str(folder / "saved"))
    return folder / "saved"


@pytest.mark.parametrize("write", [write_parquet, write_jsonl, save_to_disk])
def test_files_of_every_kind_are_read(
    model: LoadedModel, tmp_path: Path, write: Callable[[list[Record], Path], Path]
) -> None:
    rows = conversations(model)
    rows[2] = unlabelled(rows[2], stops(rows[2])[0])
    found = inspect_data(write(rows, tmp_path), model)
    assert isinstance(found, MaskAudit)
    assert set(faults(found)) == {"stop token"}
    limited = inspect_data(write(rows, tmp_path), model, read=DataSettings(limit=2))
    assert isinstance(limited, MaskAudit)
    assert (limited.rows, limited.ok) == (2, True)


def selection(model: LoadedModel, *, left_out: str) -> Rows[Selected]:
    made = []
    for number in range(6):
        tokens = tokens_of(model, f"row/{number}", f"sum {number}?", f"it is {number}", "sure?", f"yes {number}")
        places_T = {
            "nothing": np.zeros(len(tokens), bool),
            "every third": np.arange(len(tokens)) % 3 == 0,
            "all but the end of turn": np.ones(len(tokens), bool),
        }
        left_out_T = places_T[left_out] & ~tokens.ends_turn_T
        scored = Scored(tokens, {"base": Scores(np.zeros(len(tokens), np.float32))})
        made.append(Selected(scored, tokens.in_response_T & ~left_out_T))
    settings = {"policy": "stm:2.5", "scorer": "base"}
    return in_memory(made, Manifest(stage="selected", settings=settings, model=model.identity))


@pytest.mark.parametrize("to", TRAINERS)
@pytest.mark.parametrize("left_out", ["nothing", "every third", "all but the end of turn"])
def test_our_own_exports_pass(model: LoadedModel, tmp_path: Path, to: str, left_out: str) -> None:
    rows = selection(model, left_out=left_out)
    found = inspect_data(export(rows, tmp_path / "out", to=to), model)
    assert isinstance(found, MaskAudit)
    assert found.ok, found
    assert found.trained_tokens == sum(int(row.train_T.sum()) for row in rows)
    assert found.responses == 12
    assert (found.labels == "shifted") == (to == "automodel")


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
