"""Assumptions about TRL: the first step's loss is the mean nll of the tokens that were kept."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.selected_rows import make_rows

from tokensieve.config import LoraSettings, MachineSettings, ModelSettings, TrainSettings
from tokensieve.data.dataset import Rows
from tokensieve.models import load_model
from tokensieve.training import train
from tokensieve.types import Selected

ROWS = 8


def expected_loss(folder: Path, rows: Rows[Selected]) -> float:
    """Weighted mean nll over the trained tokens, one row at a time, from full float32 logits."""
    model = load_model(str(folder)).model
    total = count = 0.0
    for row in rows:
        ids = torch.from_numpy(row.tokens.ids_T.astype(np.int64))
        with torch.inference_mode():
            log_probs_TV = model(input_ids=ids[None]).logits[0].double().log_softmax(-1)
        nll_T = -log_probs_TV[:-1].gather(-1, ids[1:, None])[:, 0].numpy()
        weight_T = row.train_T.astype(np.float64) if row.weight_T is None else row.weight_T.astype(np.float64)
        total += float((nll_T * weight_T[1:]).sum())
        count += float(weight_T[1:].sum())
    return total / count


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
@pytest.mark.parametrize(
    ("micro", "packing"), [(None, False), (2, False), (1, False), (None, True), (4, True)], ids=str
)
def test_first_loss_is_the_mean_nll_of_the_kept_tokens(
    tiny_folder: Path, tmp_path: Path, method: str, micro: int | None, packing: bool
) -> None:
    rows = make_rows()
    settings = TrainSettings(
        method="full" if method == "full" else "lora",
        lora=LoraSettings(r=4, dora=method == "dora"),
        batch_size=ROWS,
        machine=MachineSettings(micro_batch_size=micro, packing=packing),
        epochs=1,
        warmup_steps=0,
    )
    adapter = train(rows, ModelSettings(model=str(tiny_folder)), settings, tmp_path / "out")
    assert adapter.log[0].loss == pytest.approx(expected_loss(tiny_folder, rows), rel=2e-6)
    assert adapter.log[0].trained_tokens == sum(int(row.train_T[1:].sum()) for row in rows)


@pytest.mark.parametrize("micro", [None, 2])
def test_soft_weights_give_the_weighted_mean(tiny_folder: Path, tmp_path: Path, micro: int | None) -> None:
    rows = make_rows(weights="soft")
    settings = TrainSettings(
        method="full", batch_size=ROWS, epochs=1, warmup_steps=0, machine=MachineSettings(micro_batch_size=micro)
    )
    adapter = train(rows, ModelSettings(model=str(tiny_folder)), settings, tmp_path / "out")
    assert adapter.log[0].loss == pytest.approx(expected_loss(tiny_folder, rows), rel=2e-6)
