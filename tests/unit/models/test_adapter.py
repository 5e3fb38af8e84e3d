"""Adapters that belong to another model, or of which only a part would be applied."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tokensieve.config import ModelSettings
from tokensieve.data.manifest import Manifest, ModelIdentity
from tokensieve.errors import InputError, Note
from tokensieve.models import LoadedModel, load_model

Weights = dict[str, torch.Tensor]

WEIGHTS = "adapter_model.safetensors"
LAYER = "base_model.model.model.layers.1.self_attn.q_proj.lora_A.weight"


@pytest.fixture(scope="module")
def adapter(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter on two projections of both layers, with an effect."""
    from peft import LoraConfig, get_peft_model

    adapted = get_peft_model(load_model(str(tiny_folder)).model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.3)
    folder = tmp_path_factory.mktemp("made") / "adapter"
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def _changed(adapter: Path, to: Path, change: Callable[[Weights], object] | None = None, **config: object) -> Path:
    """A copy of an adapter with other weights, or other entries of its configuration."""
    shutil.copytree(adapter, to)
    weights = load_file(to / WEIGHTS)
    if change is not None:
        change(weights)
    save_file(weights, to / WEIGHTS)
    path = to / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return to


def _load(base: Path, adapter: Path) -> LoadedModel:
    return load_model(ModelSettings(model=str(base), adapter=str(adapter)))


def _unchanged(_: Weights) -> None: ...


def _rename(weights: Weights) -> None:
    for key in list(weights):
        weights[key.removeprefix("base_model.model.")] = weights.pop(key)


def _saved_apart(weights: Weights) -> None:
    weights["base_model.model.model.embed_tokens.weight"] = torch.zeros(400, 32)


CASES: dict[str, tuple[Callable[[Weights], object], dict[str, object], str]] = {
    "a layer's key is missing": (lambda w: w.pop(LAYER), {}, r"lack 1 weights.*layers\.1\.self_attn\.q_proj"),
    "a layer's key has another name": (
        lambda w: w.update({LAYER.replace("q_proj", "query"): w.pop(LAYER)}),
        {},
        r"lack 1 weights.*q_proj.*hold 1 that no layer takes.*query",
    ),
    "all keys lack their prefix": (_rename, {}, "lack 8 weights.*hold 8 that no layer takes"),
    "a key too many": (
        lambda w: w.update({LAYER.replace("layers.1", "layers.2"): w[LAYER].clone()}),
        {},
        r"hold 1 that no layer takes.*layers\.2",
    ),
    "the configuration names fewer layers": (_unchanged, {"target_modules": ["q_proj"]}, "hold 4 that no layer takes"),
    "the configuration names more layers": (
        _unchanged,
        {"target_modules": ["q_proj", "v_proj", "up_proj"]},
        "lack 4 weights",
    ),
    "the configuration has another rank": (_unchanged, {"r": 4}, r"has the shape \[2, 32\] in the adapter, \[4, 32\]"),
    "only some layers are to be changed": (_unchanged, {"layers_to_transform": [0]}, "hold 4 that no layer takes"),
    "it is a DoRA adapter without magnitudes": (_unchanged, {"use_dora": True}, "lack 4 weights.*magnitude"),
    "a module to save is not there": (_unchanged, {"modules_to_save": ["lm_head"]}, "lack the weight.*lm_head"),
    "its vocabulary was resized": (
        _saved_apart,
        {},
        "after the vocabulary had been resized.*400 ids, the model has 320",
    ),
    "a weight is NaN": (lambda w: w[LAYER].fill_(float("nan")), {}, "lora_A.*NaN or infinity"),
    "it is of an unknown kind": (_unchanged, {"peft_type": "NEWER"}, "NEWER|newer"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:Adapter .* was active", "ignore:Model has `tie_word_embeddings=True`")  # peft 0.18
def test_an_adapter_is_applied_whole_or_not_at_all(tiny_folder: Path, adapter: Path, tmp_path: Path, case: str) -> None:
    change, config, words = CASES[case]
    broken = _changed(adapter, tmp_path / "broken", change, **config)
    with pytest.raises(InputError) as caught:
        _load(tiny_folder, broken)
    assert re.search(words, str(caught.value), re.S), caught.value
    assert caught.value.where == str(broken)
    assert not caught.value.problem.endswith(":")


def test_the_digest_of_the_base_decides_where_the_manifest_holds_it(
    tiny_folder: Path, adapter: Path, tiny_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    base = load_model(str(tiny_folder))
    ours = _changed(adapter, tmp_path / "ours")
    Manifest(stage="trained", model=base.identity).write(ours)
    assert _load(tiny_folder, ours).identity.adapter_digest
    moved = tmp_path / "moved"
    shutil.copytree(tiny_folder, moved)
    assert _load(moved, ours).identity.adapter_digest  # the same weights at another place
    other = tmp_path / "other"
    twin = tiny_model(seed=1)  # of the same shapes
    twin.model.save_pretrained(other)
    twin.tokenizer.save_pretrained(other)
    with pytest.raises(InputError, match="trained on other weights") as caught:
        _load(other, ours)
    assert base.identity.weights_digest[:16] in str(caught.value)
    assert "--model" in str(caught.value)


@pytest.mark.parametrize(
    ("named", "noted"),
    [("", False), (None, False), ("owner/SOME-Model", True), ("{base}", False), ("owner/{short}", False)],
)
def test_a_name_of_another_base_is_noted(
    tiny_folder: Path, adapter: Path, tmp_path: Path, named: str | None, noted: bool
) -> None:
    name = named and named.format(base=tiny_folder, short=tiny_folder.name)
    made = _changed(adapter, tmp_path / "made", base_model_name_or_path=name)
    if noted:
        with pytest.warns(Note, match="trained on owner/SOME-Model"):
            _load(tiny_folder, made)
    else:
        _load(tiny_folder, made)  # a note would be an error here


def test_a_manifest_of_rows_says_nothing_of_an_adapter(tiny_folder: Path, adapter: Path, tmp_path: Path) -> None:
    ours = _changed(adapter, tmp_path / "ours")
    Manifest(stage="trained", model=ModelIdentity(name="of an older version")).write(ours)
    assert _load(tiny_folder, ours).identity.adapter_digest
