"""Rows of each stage as Arrow columns, and back."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa

from tokensieve.data.manifest import Stage
from tokensieve.types import (
    Anchor,
    BoolArray,
    Example,
    FloatArray,
    IntArray,
    Origin,
    Outcome,
    Sample,
    Scored,
    Scores,
    Selected,
    Tokens,
    Verdict,
)

StageRow: TypeAlias = Example | Tokens | Scored | Selected | Sample | Anchor
R = TypeVar("R", bound=StageRow)

_IDS = pa.large_list(pa.int32())
_FLAGS = pa.large_list(pa.bool_())


def to_table(rows: Sequence[StageRow], stage: Stage) -> pa.Table:
    """One shard's rows as a table; NaN becomes null."""
    return pa.table(_COLUMNS[stage](rows))


def from_table(table: pa.Table, stage: Stage) -> list[R]:
    """Rows of one shard, of the type that the stage makes; null becomes NaN, or None for a sample never judged."""
    return list(_ROWS[stage](table))


def _example_columns(rows: Sequence[Example]) -> dict[str, pa.Array]:
    ids = [None if row.sampled_ids is None else row.sampled_ids for row in rows]
    return {
        "id": pa.array([row.id for row in rows], pa.string()),
        "task": pa.array([row.task for row in rows], pa.string()),
        "origin": pa.array([str(row.origin) for row in rows], pa.string()),
        "messages": pa.array([json.dumps(row.messages, ensure_ascii=False) for row in rows], pa.string()),
        "sampled_ids": pa.array(ids, _IDS),
        "tools": pa.array([json.dumps(row.tools, ensure_ascii=False) for row in rows], pa.string()),
    }


def _example(record: Mapping[str, Any]) -> Example:
    sampled = record["sampled_ids"]
    return Example(
        id=str(record["id"]),
        messages=tuple(json.loads(record["messages"])),
        task=str(record["task"]),
        origin=Origin(str(record["origin"])),
        sampled_ids=None if sampled is None else np.asarray(sampled, dtype=np.int32),
        tools=tuple(json.loads(record["tools"])),
    )


def _sample_columns(rows: Sequence[Sample]) -> dict[str, pa.Array]:
    verdicts = [row.verdict for row in rows]
    nlls = [None if np.isnan(row.nll) else row.nll for row in rows]
    columns = {
        "id": pa.array([row.problem_id for row in rows], pa.string()),
        "task": pa.array([row.task for row in rows], pa.string()),
        "index": pa.array([row.index for row in rows], pa.int32()),
        "text": pa.array([row.text for row in rows], pa.string()),
        "ids": pa.array([list(row.ids) for row in rows], _IDS),
        "finished": pa.array([row.finished for row in rows], pa.bool_()),
        "nll": pa.array(nlls, pa.float64()),
        "retokenised": pa.array([row.retokenised for row in rows], pa.bool_()),
        "verdict": pa.array([None if v is None else str(v.outcome) for v in verdicts], pa.string()),
        "extracted": pa.array([None if v is None else v.extracted for v in verdicts], pa.string()),
        "reason": pa.array([None if v is None else v.reason for v in verdicts], pa.string()),
    }
    if any(row.token_nll for row in rows):
        columns["token_nll"] = pa.array([list(row.token_nll) for row in rows], pa.large_list(pa.float32()))
    return columns


def _sample(record: Mapping[str, Any]) -> Sample:
    verdict = None
    if record["verdict"] is not None:
        verdict = Verdict(Outcome(record["verdict"]), record["extracted"], str(record["reason"]))
    nll = record["nll"]
    return Sample(
        problem_id=str(record["id"]),
        task=str(record["task"]),
        index=record["index"],
        text=str(record["text"]),
        ids=tuple(record["ids"]),
        finished=bool(record["finished"]),
        verdict=verdict,
        nll=float("nan") if nll is None else nll,
        retokenised=bool(record["retokenised"]),
        token_nll=tuple(record.get("token_nll") or ()),
    )


def _token_columns(rows: Sequence[Tokens]) -> dict[str, pa.Array]:
    columns = {
        "id": pa.array([row.id for row in rows], pa.string()),
        "task": pa.array([row.task for row in rows], pa.string()),
        "origin": pa.array([str(row.origin) for row in rows], pa.string()),
        "ids": _lists([row.ids_T for row in rows], pa.int32()),
        "in_response": _lists([row.in_response_T for row in rows], pa.bool_()),
        "ends_turn": _lists([row.ends_turn_T for row in rows], pa.bool_()),
    }
    if any(row.loss_weight_T is not None for row in rows):
        weights = [
            row.in_response_T.astype(np.float32) if row.loss_weight_T is None else row.loss_weight_T for row in rows
        ]
        columns["loss_weight"] = _lists(weights, pa.float32())
    return columns


def _scored_columns(rows: Sequence[Scored]) -> dict[str, pa.Array]:
    columns = _token_columns([row.tokens for row in rows])
    for name in sorted({name for row in rows for name in row.scores}):
        scores = [row.scores[name] for row in rows]
        columns[f"nll.{name}"] = _lists([s.nll_T for s in scores], pa.float32())
        optional: dict[str, tuple[list[FloatArray | None], pa.DataType]] = {
            f"entropy.{name}": ([s.entropy_T for s in scores], pa.float32()),
            f"rank.{name}": ([s.rank_T for s in scores], pa.int32()),
            f"top_entropy.{name}": ([s.top_entropy_T for s in scores], pa.float32()),
        }
        for column, (arrays, kind) in optional.items():
            present = [array for array in arrays if array is not None]
            if len(present) == len(arrays):
                columns[column] = _lists(present, kind)
    return columns


def _selected_columns(rows: Sequence[Selected]) -> dict[str, pa.Array]:
    columns = _scored_columns([row.scored for row in rows])
    columns["train"] = _lists([row.train_T for row in rows], pa.bool_())
    if any(row.weight_T is not None for row in rows):
        weights = [row.train_T.astype(np.float32) if row.weight_T is None else row.weight_T for row in rows]
        columns["weight"] = _lists(weights, pa.float32())
    return columns


def _anchor_columns(rows: Sequence[Anchor]) -> dict[str, pa.Array]:
    columns = _token_columns([row.tokens for row in rows])
    columns["top_ids"] = _lists([row.top_ids_NK.ravel() for row in rows], pa.int32())
    columns["top_log_p"] = _lists([row.top_log_p_NK.ravel() for row in rows], pa.float32())
    columns["drift"] = pa.array([None if np.isnan(row.drift) else row.drift for row in rows], pa.float64())
    columns["at_random"] = pa.array([row.at_random for row in rows], pa.bool_())
    return columns


def _anchors(table: pa.Table) -> list[Anchor]:
    tokens = _tokens(table)
    ids, log_p = _ids(table, "top_ids"), _floats(table, "top_log_p")
    drifts, drawn = (table.column(name).to_pylist() for name in ("drift", "at_random"))
    anchors = []
    for row, ids_X, log_p_X, drift, at_random in zip(tokens, ids, log_p, drifts, drawn, strict=True):
        shape = (int(np.count_nonzero(row.in_response_T[1:])), -1) if len(ids_X) else (0, 0)
        value = float("nan") if drift is None else drift
        anchors.append(Anchor(row, ids_X.reshape(shape), log_p_X.reshape(shape), value, at_random))
    return anchors


def _lists(arrays: Sequence[IntArray | FloatArray | BoolArray], kind: pa.DataType) -> pa.Array:
    """Arrays of different lengths as one list column, without a Python object per value; NaN becomes null."""
    offsets = np.zeros(len(arrays) + 1, dtype=np.int64)
    np.cumsum([len(array) for array in arrays], out=offsets[1:])
    flat = np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int32)
    missing = np.isnan(flat) if flat.dtype.kind == "f" else None
    if missing is not None and pa.types.is_integer(kind):
        flat = np.nan_to_num(flat).astype(np.int32)
    values = pa.array(flat, type=kind, mask=missing)
    return pa.LargeListArray.from_arrays(pa.array(offsets), values)


def _tokens(table: pa.Table) -> list[Tokens]:
    ids, in_response, ends_turn = (_ids(table, "ids"), _flags(table, "in_response"), _flags(table, "ends_turn"))
    names, tasks, origins = (table.column(c).to_pylist() for c in ("id", "task", "origin"))
    weights = _floats_or_none(table, "loss_weight")
    return [
        Tokens(name, i, r, e, task, Origin(origin), weight_T)
        for name, i, r, e, task, origin, weight_T in zip(
            names, ids, in_response, ends_turn, tasks, origins, weights, strict=True
        )
    ]


def _scored(table: pa.Table) -> list[Scored]:
    names = [c.removeprefix("nll.") for c in table.column_names if c.startswith("nll.")]
    by_scorer: dict[str, list[Scores]] = {}
    for name in names:
        nll = _floats(table, f"nll.{name}")
        others = [_floats_or_none(table, f"{kind}.{name}") for kind in ("entropy", "rank", "top_entropy")]
        by_scorer[name] = [Scores(*arrays) for arrays in zip(nll, *others, strict=True)]
    return [Scored(t, {name: by_scorer[name][i] for name in names}) for i, t in enumerate(_tokens(table))]


def _split(table: pa.Table, name: str) -> tuple[pa.Array, list[int]]:
    """Flat values of a list column, and the offsets between its rows."""
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # an empty column stays chunked
        column = pa.array([], type=column.type)
    offsets = column.offsets.to_numpy()
    return column.values.slice(offsets[0], offsets[-1] - offsets[0]), list(offsets[1:-1] - offsets[0])


def _ids(table: pa.Table, name: str) -> list[IntArray]:
    values, bounds = _split(table, name)
    return np.split(values.to_numpy().astype(np.int32), bounds) if len(table) else []


def _flags(table: pa.Table, name: str) -> list[BoolArray]:
    values, bounds = _split(table, name)
    return np.split(values.to_numpy(zero_copy_only=False).astype(np.bool_), bounds) if len(table) else []


def _floats(table: pa.Table, name: str) -> list[FloatArray]:
    values, bounds = _split(table, name)
    return np.split(values.to_numpy(zero_copy_only=False).astype(np.float32), bounds) if len(table) else []


def _floats_or_none(table: pa.Table, name: str) -> list[FloatArray] | list[None]:
    """A column's arrays; None for every row where there is no such column."""
    return _floats(table, name) if name in table.column_names else [None] * len(table)


def _examples(table: pa.Table) -> list[Example]:
    return [_example(record) for record in table.to_pylist()]


def _samples(table: pa.Table) -> list[Sample]:
    return [_sample(record) for record in table.to_pylist()]


def _selected(table: pa.Table) -> list[Selected]:
    scored = _scored(table)
    trains, weights = _flags(table, "train"), _floats_or_none(table, "weight")
    return [Selected(s, train_T, weight_T) for s, train_T, weight_T in zip(scored, trains, weights, strict=True)]


_COLUMNS: Final[Mapping[Stage, Callable[[Sequence[Any]], dict[str, pa.Array]]]] = {
    "examples": _example_columns,
    "samples": _sample_columns,
    "evaluated": _sample_columns,
    "tokens": _token_columns,
    "scored": _scored_columns,
    "selected": _selected_columns,
    "anchors": _anchor_columns,
}
_ROWS: Final[Mapping[Stage, Callable[[pa.Table], Sequence[Any]]]] = {
    "examples": _examples,
    "samples": _samples,
    "evaluated": _samples,
    "tokens": _tokens,
    "scored": _scored,
    "selected": _selected,
    "anchors": _anchors,
}
