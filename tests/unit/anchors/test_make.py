"""Anchors made from pocket's own dialogues and a short pilot; a second call does nothing."""

from pathlib import Path
from typing import cast

import numpy as np
import pytest
from tests.conftest import ModelFactory
from tests.selected_rows import make_rows

from tokensieve.anchors import make_anchors
from tokensieve.anchors.make import estimate_seconds
from tokensieve.config import AnchorSettings, DataSettings, ModelSettings, PilotSettings
from tokensieve.errors import InputError
from tokensieve.models import load_model
from tokensieve.pipeline import load, select
from tokensieve.scoring import score


def test_anchors_from_dialogues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = ModelSettings(model="pocket")
    scored = score(load("task:pocket_sql_house/train", base, DataSettings(limit=8)), base)
    chosen = select(scored, "plain", tmp_path / "chosen")
    settings = AnchorSettings(
        candidates=12,
        count=4,
        random_share=0.5,
        top_k=8,
        max_new_tokens=64,
        pilot=PilotSettings(rows=8, batch_size=4, method="full", learning_rate=1e-3),
    )
    anchors = make_anchors(chosen, base, settings, tmp_path / "anchors")
    rows = list(anchors)
    assert len(rows) == 4
    assert sorted(row.at_random for row in rows) == [False, False, True, True]
    assert all(row.drift > 0 and row.top_ids_NK.shape == (len(row.places_N), 8) for row in rows)
    facts = anchors.manifest.facts
    assert facts["anchors_at_random"] == 2
    clusters = cast("list[dict[str, int]]", facts["clusters"])
    assert sum(entry["anchors"] for entry in clusters) == 4
    loaded = load_model(base)
    row = max(rows, key=lambda one: len(one.places_N))
    import torch

    with torch.inference_mode():
        logits_TV = loaded.model(torch.from_numpy(row.tokens.ids_T.astype(np.int64))[None]).logits[0]
    log_p_NV = logits_TV.log_softmax(-1)[row.places_N - 1]
    np.testing.assert_allclose(log_p_NV.topk(8).values.numpy(), row.top_log_p_NK, atol=1e-4)

    monkeypatch.setattr("tokensieve.anchors.make.train", lambda *_: pytest.fail("the pilot ran again"))
    again = list(make_anchors(chosen, base, settings, tmp_path / "anchors"))
    assert [one.tokens.id for one in again] == [one.tokens.id for one in rows]


def test_without_rows_or_a_run_there_is_no_pilot(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected training rows for the pilot"):
        make_anchors(None, "pocket", AnchorSettings(), tmp_path / "anchors")


def test_seconds_follow_the_sizes(tiny_model: ModelFactory) -> None:
    base = tiny_model()
    few, many = (estimate_seconds(AnchorSettings(candidates=n), base, make_rows()) for n in (100, 10_000))
    assert few.keys() == many.keys() == {"candidates", "pilot", "drift"}
    assert many["candidates"] > 10 * few["candidates"] > 0
    assert many["drift"] > 10 * few["drift"] > 0
    text = estimate_seconds(AnchorSettings(source="text", data="x"), base, None)
    assert (text["candidates"], text["pilot"]) == (0, 0)
