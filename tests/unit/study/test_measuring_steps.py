"""The shown rows under a trained model: written by id, read back with what was not scored as NaN."""

import json
from pathlib import Path

import numpy as np

from tokensieve.study.measuring_steps import TOKENS_NAME, read_shown_tokens


def test_what_was_not_scored_is_nan(tmp_path: Path) -> None:
    (tmp_path / TOKENS_NAME).write_text(json.dumps({"a": [None, 0.5], "b": []}))
    found = read_shown_tokens(tmp_path)
    assert np.isnan(found["a"][0])
    assert found["a"][1] == np.float32(0.5)
    assert len(found["b"]) == 0
