"""The audit of loss masks: every fault planted once, sound data sets in every convention, and every doubt refused."""

from collections.abc import Callable
from typing import cast

import pytest
from tests.conftest import ModelFactory
from tests.label_records import (
    BEGIN,
    IGNORED,
    PAD,
    Change,
    Record,
    audited,
    conversations,
    faults,
    labelled,
    places,
    shift,
    stops,
    unlabelled,
)

from tokensieve.errors import InputError
from tokensieve.models import LoadedModel


@pytest.fixture(scope="module")
def model(tiny_model: ModelFactory) -> LoadedModel:
    return tiny_model("LlamaConfig")


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
