"""Scores under the quantised model that a QLoRA run will train."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tokensieve.config import ModelSettings
from tokensieve.data.dataset import in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.errors import EnvironmentProblem
from tokensieve.models import LoadedModel, load_model
from tokensieve.scoring import score
from tokensieve.scoring.store import model_digest
from tokensieve.types import Tokens, bools, ints

Plain = Callable[[LoadedModel, list[int]], tuple[list[float], list[float], list[int]]]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("quantisation", ["nf4", "int8"])
def test_quantised_weights_are_scored_as_they_are(
    tiny_model: Callable[..., LoadedModel], plain_scores: Plain, tmp_path: Path, quantisation: str
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    made = tiny_model(hidden_size=128, intermediate_size=128)  # nf4 works on blocks of 64 values
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    settings = ModelSettings.model_validate({"model": str(tmp_path), "quantisation": quantisation})
    loaded, whole = load_model(settings), load_model(str(tmp_path))
    assert loaded.identity.weights_digest == whole.identity.weights_digest
    assert model_digest(loaded.identity) != model_digest(whole.identity)
    ids = [5, 9, 200, 31, 7, 7, 80]
    rows = in_memory([Tokens("r", ints(ids), bools([True] * 7), bools([False] * 7))], Manifest(stage="tokens"))
    found = next(iter(score(rows, loaded))).nll_T()[1:]
    # int8 products round their inputs to float16, whose sums depend on the shape of the batch.
    np.testing.assert_allclose(found, plain_scores(loaded, ids)[0], atol=5e-3 if quantisation == "int8" else 1e-4)
    assert not np.allclose(found, plain_scores(whole, ids)[0], atol=1e-3)


def test_without_bitsandbytes_its_install_line_is_given(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="pip install bitsandbytes"):
        load_model(ModelSettings(model=str(tiny_folder), quantisation="nf4"))
