"""Anchors are training rows for any trainer: exported, verified, mixed in."""

from pathlib import Path

import numpy as np
import pytest
from tests.export_rows import selected_rows

from tokensieve.data.dataset import Rows, as_training_rows, in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.errors import InputError
from tokensieve.exports import export
from tokensieve.pipeline import open_selected, select
from tokensieve.types import Anchor, Scored
from tokensieve.verify import verify_export


@pytest.fixture
def anchors(tmp_path: Path) -> Rows[Anchor]:
    made = []
    for row in selected_rows(6, seed=3):
        places = int(row.tokens.in_response_T[1:].sum())
        top_log_p_NK = np.full((places, 2), np.log(0.25), np.float32)
        made.append(Anchor(row.tokens, np.zeros((places, 2), np.int32), top_log_p_NK, 0.5))
    manifest = Manifest(stage="anchors", settings={"count": 6}, facts={"clusters": []})
    return in_memory(made, manifest).save(tmp_path / "anchors")


@pytest.mark.parametrize("trainer", ["trl", "axolotl", "ms-swift"])
def test_an_export_of_anchors_trains_their_responses(anchors: Rows[Anchor], tmp_path: Path, trainer: str) -> None:
    folder = export(tmp_path / "anchors", tmp_path / "out", to=trainer)
    found = verify_export(folder, trainer, how="rules")
    assert found.ok, found.describe()
    assert found.rows == 6
    assert found.trained_tokens == sum(len(anchor.places_N) for anchor in anchors)


def test_they_are_rows_of_the_policy_plain(anchors: Rows[Anchor], tmp_path: Path) -> None:
    for rows in (open_selected(tmp_path / "anchors"), as_training_rows(anchors)):
        assert rows.manifest.stage == "selected"
        assert rows.manifest.settings["policy"] == "plain"
        for row, anchor in zip(rows, anchors, strict=True):
            assert row.tokens.id == anchor.tokens.id
            np.testing.assert_array_equal(row.train_T, anchor.tokens.in_response_T)
    chosen = selected_rows(2)
    assert as_training_rows(chosen) is chosen
    with pytest.raises(InputError, match="expected selected rows, got samples rows"):
        as_training_rows(in_memory([], Manifest(stage="samples")))


def test_they_are_mixed_in_whole(anchors: Rows[Anchor], tmp_path: Path) -> None:
    scored: list[Scored] = [row.scored for row in selected_rows(9)]
    rows = in_memory(scored, Manifest(stage="scored"))
    chosen = list(select(rows, "plain", mix=f"{tmp_path / 'anchors'}:0.25"))
    assert len(chosen) == 12
    mixed = {anchor.tokens.ids_T.tobytes() for anchor in anchors}
    for row in chosen[9:]:
        assert row.tokens.ids_T.tobytes() in mixed
        np.testing.assert_array_equal(row.train_T, row.tokens.in_response_T)
