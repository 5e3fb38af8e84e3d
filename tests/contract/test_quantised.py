"""Scores and training (QLoRA) of quantised models."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from tests.selected_rows import make_rows

from tokensieve.config import LoraSettings, ModelSettings, TrainSettings
from tokensieve.data.dataset import in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.models import LoadedModel, load_model
from tokensieve.scoring import score
from tokensieve.scoring.store import model_digest
from tokensieve.training import train
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


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_is_trained_on_quantised_weights_which_themselves_are_not(
    tiny_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    made = tiny_model(hidden_size=128, intermediate_size=128)
    made.model.save_pretrained(tmp_path / "base")
    made.tokenizer.save_pretrained(tmp_path / "base")
    base = ModelSettings(model=str(tmp_path / "base"), quantisation="nf4")
    rules = TrainSettings(learning_rate=1e-3, epochs=6, batch_size=8, warmup_steps=0, lora=LoraSettings(r=4))
    adapter = train(make_rows(), base, rules, tmp_path / "out")
    assert adapter.log[-1].loss < adapter.log[0].loss
    assert adapter.model.quantisation == "nf4"
    ids = torch.arange(6, 30)[None]
    with torch.inference_mode():
        logits = [load_model(one).model(ids).logits for one in (base, adapter.on(base))]
    assert not torch.allclose(*logits)
    with pytest.raises(InputError, match="quantised"):
        train(make_rows(), base, rules.model_copy(update={"method": "full"}), tmp_path / "full")


def test_the_settings_of_qlora_are_those_of_its_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.metadata
    import importlib.util

    from tokensieve.models import weights

    there = importlib.util.find_spec("json")
    known = importlib.metadata.version
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: there)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "1.0" if name == "bitsandbytes" else known(name))
    found = cast(
        Any, weights._quantisation(ModelSettings(quantisation="nf4", dtype="bfloat16", device="cpu"))
    ).to_dict()
    assert (found["load_in_4bit"], found["bnb_4bit_quant_type"]) == (True, "nf4")
    assert (found["bnb_4bit_use_double_quant"], found["bnb_4bit_compute_dtype"]) == (True, "bfloat16")
    assert cast(Any, weights._quantisation(ModelSettings(quantisation="int8", device="cpu"))).load_in_8bit


def test_without_bitsandbytes_its_install_line_is_given(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match="pip install bitsandbytes"):
        load_model(ModelSettings(model=str(tiny_folder), quantisation="nf4"))
