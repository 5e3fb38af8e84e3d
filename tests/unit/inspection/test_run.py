"""Inspect on rows with labels: files of every kind, our own exports, settings that have no effect."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.conftest import ModelFactory
from tests.label_records import Record, audited, conversations, faults, stops, tokens_of, unlabelled

from tokensieve.config import DataSettings
from tokensieve.data.dataset import Rows, in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.errors import InputError
from tokensieve.exports import TRAINERS, export
from tokensieve.inspection import MaskAudit, inspect_data
from tokensieve.models import LoadedModel
from tokensieve.types import Scored, Scores, Selected


@pytest.fixture(scope="module")
def model(tiny_model: ModelFactory) -> LoadedModel:
    return tiny_model("LlamaConfig")


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
