"""Assumptions about TRL and the plain Trainer: they train exactly what an exported folder's labels say."""

import json
from pathlib import Path
from typing import cast

import datasets
import numpy as np
import pytest
import torch
from tests.export_rows import of, selected_rows
from tests.trl_steps import collated, first_loss

from tokensieve.config import ScoreSettings
from tokensieve.data.dataset import Rows
from tokensieve.exports import Format, export
from tokensieve.models import load_model
from tokensieve.pipeline import load, select
from tokensieve.scoring import score
from tokensieve.types import Selected
from tokensieve.verify import verify_export


@pytest.fixture(autouse=True)
def _quiet() -> None:
    datasets.disable_progress_bars()


@pytest.mark.parametrize("trainer", ["trl", "hf"])
@pytest.mark.parametrize("kind", ["parquet", "jsonl", "save_to_disk"])
def test_the_trainer_itself_trains_what_was_selected(tmp_path: Path, trainer: str, kind: Format) -> None:
    rows = selected_rows(10)
    folder = export(rows, tmp_path / "out", format=kind)
    result = verify_export(folder, trainer, selected=rows, how="trainer")
    assert result.ok, result.describe()
    assert result.rows == 10
    assert result.trained_tokens == sum(int(row.train_T[1:].sum()) for row in rows)


@pytest.mark.parametrize("column", ["completion_mask", "loss_mask"])
def test_trl_ignores_masks_that_are_no_labels(tmp_path: Path, column: str) -> None:
    """Why the export writes labels: TRL trains every token of pre-tokenised rows that carry a mask instead."""
    rows = selected_rows(4)
    data = datasets.Dataset.from_list(
        [{"input_ids": row.tokens.ids_T.tolist(), column: row.train_T.astype(int).tolist()} for row in rows]
    )
    batch = collated(data)
    trained = int((batch["labels"] != -100).sum())
    assert trained == sum(len(row.tokens) for row in rows)


def _mean_nll(model: Path, rows: Rows[Selected]) -> float:
    """Mean nll (nats) of the kept tokens, one row at a time from full logits."""
    from transformers import AutoModelForCausalLM

    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    total, count = 0.0, 0
    for row in rows:
        ids = torch.from_numpy(row.tokens.ids_T.astype("int64"))
        with torch.inference_mode():
            log_p_TV = network(input_ids=ids[None]).logits[0].double().log_softmax(-1)
        nll_T = -log_p_TV[:-1].gather(-1, ids[1:, None])[:, 0].numpy()
        total += float(nll_T[row.train_T[1:]].sum())
        count += int(row.train_T[1:].sum())
    return total / count


@pytest.mark.parametrize(("packing", "micro"), [(False, 8), (False, 2), (False, 1), (True, 8), (True, 2)])
def test_first_loss_of_the_exported_folder_is_the_mean_nll_of_the_kept_tokens(
    tiny_folder: Path, tmp_path: Path, packing: bool, micro: int
) -> None:
    rows = selected_rows(8, seed=3)
    folder = export(rows, tmp_path / "out")
    loss = first_loss(folder, tiny_folder, rows=len(rows), packing=packing, micro=micro)
    assert loss == pytest.approx(_mean_nll(tiny_folder, rows), rel=2e-6)


@pytest.fixture(scope="module")
def chosen(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Rows[Selected]:
    """Conversations from a file, scored into a store, of which the likelier half of the tokens was selected."""
    place = tmp_path_factory.mktemp("chosen")
    rows = [{"prompt": "go" * (n % 3 + 1), "completion": f"{'yes ' * (n % 4)}{n}"} for n in range(8)]
    (place / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = load_model(str(tiny_folder))
    scored = score(load(place / "my.jsonl", model), model, ScoreSettings(store=place / "store"), out=place / "scored")
    return select(scored, "share:0.5", place / "selected")


@pytest.mark.parametrize(("packing", "micro"), [(False, 8), (False, 3), (False, 1), (True, 8), (True, 2)])
def test_first_loss_of_an_exported_folder_is_the_mean_of_the_stored_scores(
    tiny_folder: Path, tmp_path: Path, chosen: Rows[Selected], packing: bool, micro: int
) -> None:
    kept = np.concatenate([row.scored.nll_T()[row.train_T] for row in chosen]).astype(np.float64)
    assert 0 < len(kept) < sum(int(row.tokens.in_response_T.sum()) for row in chosen)
    assert max(len(row.tokens) for row in chosen) <= 64  # what the step packs into
    folder = export(chosen, tmp_path / "out")
    loss = first_loss(folder, tiny_folder, rows=len(chosen), packing=packing, micro=micro)
    assert loss == pytest.approx(kept.mean(), rel=1e-5)


def test_a_wrong_label_is_found_and_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = selected_rows(5)
    folder = export(rows, tmp_path / "out")
    table = pq.read_table(folder / "data" / "train.parquet")
    labels = cast("list[list[int]]", table.column("labels").to_pylist())
    labels[2][1] = 99
    pq.write_table(
        table.set_column(2, "labels", pa.array(labels, pa.list_(pa.int32()))), folder / "data" / "train.parquet"
    )
    result = verify_export(folder, "trl", selected=rows, how="trainer")
    assert not result.ok
    assert "row 2 (row/2), position 1, token 99: trained but not selected" in result.describe()


def test_rows_in_which_nothing_is_trained_do_not_reach_the_trainer(tmp_path: Path) -> None:
    chosen = list(selected_rows(3))
    nothing = Selected(chosen[1].scored, chosen[1].train_T & False)
    rows = of([chosen[0], nothing, chosen[2]])
    result = verify_export(export(rows, tmp_path / "out"), "trl", selected=rows, how="trainer")
    assert result.ok
    assert result.rows == 2
