"""Rows of a stage come back from disk as they were."""

from pathlib import Path

import numpy as np
import pytest

from tokensieve.data.dataset import in_memory, open_rows
from tokensieve.data.manifest import Manifest
from tokensieve.errors import InputError
from tokensieve.types import Anchor, Tokens


def _anchor(name: str, length: int, start: int, k: int, drift: float) -> Anchor:
    in_response_T = np.arange(length) >= start
    tokens = Tokens(name, np.arange(length, dtype=np.int32), in_response_T, np.zeros(length, dtype=np.bool_))
    places = int(in_response_T[1:].sum())
    top_ids_NK = np.arange(places * k, dtype=np.int32).reshape(places, k)
    return Anchor(tokens, top_ids_NK, (-top_ids_NK / 7).astype(np.float32), drift, at_random=bool(drift > 1))


def test_anchors_survive_the_disk(tmp_path: Path) -> None:
    rows = [_anchor("a", 6, 2, 3, 0.25), _anchor("b", 3, 0, 3, float("nan")), _anchor("c", 4, 3, 3, 1.5)]
    in_memory(rows, Manifest(stage="anchors")).save(tmp_path / "anchors")
    again = list(open_rows(tmp_path / "anchors"))
    assert len(again) == len(rows)
    for before, after in zip(rows, again, strict=True):
        assert isinstance(after, Anchor)
        np.testing.assert_array_equal(before.top_ids_NK, after.top_ids_NK)
        np.testing.assert_array_equal(before.top_log_p_NK, after.top_log_p_NK)
        np.testing.assert_array_equal(before.tokens.ids_T, after.tokens.ids_T)
        np.testing.assert_equal((before.drift, before.at_random), (after.drift, after.at_random))


def test_distributions_that_do_not_fit_the_response_are_refused() -> None:
    anchor = _anchor("a", 6, 2, 3, 0.25)
    with pytest.raises(InputError, match=r"expected \(4, K\)"):
        Anchor(anchor.tokens, anchor.top_ids_NK[:3], anchor.top_log_p_NK[:3])
