import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tokensieve.config import ModelSettings
from tokensieve.data.hashing import template_digest, tokenizer_digest
from tokensieve.errors import EnvironmentProblem, InputError, Note
from tokensieve.models import LoadedModel, fingerprint, from_memory, load_model, load_tokenizer


def _copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def _edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _lora(model: LoadedModel, folder: Path, *, trained: bool) -> Path:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=True)
    adapted = get_peft_model(model.model, config)
    if trained:
        with torch.no_grad():
            for name, parameter in adapted.named_parameters():
                if "lora_B" in name:
                    parameter.fill_(0.3)
    adapted.save_pretrained(str(folder), save_embedding_layers=False)
    return folder


def test_a_folder_is_loaded_with_its_identity(tiny_folder: Path) -> None:
    loaded = load_model(str(tiny_folder))
    assert not loaded.model.training
    assert loaded.device == torch.device("cpu")
    assert loaded.identity.dtype == "float32"
    assert loaded.identity.attention == "sdpa"
    assert loaded.identity.adapter_digest is None
    assert loaded.identity.revision is None
    assert len(loaded.identity.weights_digest) == len(loaded.identity.tokenizer_digest) == 64


def test_the_weights_digest_is_that_of_the_content_not_of_the_place(tiny_folder: Path, tmp_path: Path) -> None:
    first = load_model(str(tiny_folder)).identity.weights_digest
    copy = _copy(tiny_folder, tmp_path / "copy")
    assert load_model(str(copy)).identity.weights_digest == first
    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] + 1e-3
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    assert load_model(str(copy)).identity.weights_digest != first


def test_the_weights_digest_knows_the_configuration(tiny_folder: Path, tmp_path: Path) -> None:
    first = load_model(str(tiny_folder)).identity.weights_digest
    copy = _copy(tiny_folder, tmp_path / "copy")
    _edit(copy / "config.json", rms_norm_eps=1e-2)
    assert load_model(str(copy)).identity.weights_digest != first
    _edit(copy / "config.json", rms_norm_eps=1e-6, transformers_version="0.0.0", _name_or_path="elsewhere")
    assert load_model(str(copy)).identity.weights_digest == first


def test_the_tokenizer_digest_does_not_change_with_use(tiny_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_folder))
    before = tokenizer_digest(tokenizer)
    tokenizer(["a", "longer"], padding=True, truncation=True, max_length=3)
    assert tokenizer_digest(tokenizer) == before
    tokenizer.add_tokens(["<|new|>"])
    assert tokenizer_digest(tokenizer) != before


def test_the_template_digest_follows_the_template(tiny_folder: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_folder))
    before = template_digest(tokenizer)
    tokenizer.chat_template = tokenizer.chat_template + " "
    assert template_digest(tokenizer) != before
    tokenizer.chat_template = None
    assert template_digest(tokenizer) == ""


def test_a_model_in_memory_has_the_digest_of_its_present_weights(
    tiny_model: Callable[..., LoadedModel],
) -> None:
    loaded = tiny_model(seed=1)
    assert loaded.identity.weights_digest == tiny_model(seed=1).identity.weights_digest
    assert loaded.identity.weights_digest != tiny_model(seed=2).identity.weights_digest
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[0, 0] += 1
    assert from_memory(loaded.model, loaded.tokenizer).identity.weights_digest != loaded.identity.weights_digest


@pytest.mark.parametrize(("rows", "problem"), [(64, "embeddings for 64"), (4096, "only 262")])
def test_a_tokenizer_of_another_model_is_refused(
    tiny_folder: Path, tiny_model: Callable[..., LoadedModel], tmp_path: Path, rows: int, problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        tiny_model(vocab_size=rows)


def test_a_special_id_outside_the_vocabulary_is_refused(tiny_model: Callable[..., LoadedModel]) -> None:
    with pytest.raises(InputError, match="end of sequence id 5000"):
        tiny_model(eos_token_id=[2, 5000])


def test_an_adapter_is_put_on_and_has_a_digest(
    tiny_folder: Path, tiny_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    adapter = _lora(tiny_model(), tmp_path / "adapter", trained=True)
    loaded = load_model(ModelSettings(model=str(tiny_folder), adapter=str(adapter)))
    assert loaded.identity.adapter_digest is not None
    ids = torch.tensor([[5, 6, 7]])
    assert not torch.equal(loaded.model(ids).logits, load_model(str(tiny_folder)).model(ids).logits)


def test_an_adapter_without_effect_is_refused(
    tiny_folder: Path, tiny_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    adapter = _lora(tiny_model(), tmp_path / "adapter", trained=False)
    with pytest.raises(InputError, match="does not change the model's output"):
        load_model(ModelSettings(model=str(tiny_folder), adapter=str(adapter)))


def test_an_adapter_of_another_size_is_refused(
    tiny_folder: Path, tiny_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    adapter = _lora(tiny_model(hidden_size=64), tmp_path / "adapter", trained=True)
    with pytest.raises(InputError, match="does not fit the model"):
        load_model(ModelSettings(model=str(tiny_folder), adapter=str(adapter)))


def test_an_adapter_given_as_the_model_names_the_right_option(
    tiny_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    adapter = _lora(tiny_model(), tmp_path / "adapter", trained=True)
    with pytest.raises(InputError, match="--adapter"):
        load_model(str(adapter))


def test_missing_weights_are_not_made_up(tiny_folder: Path, tmp_path: Path) -> None:
    copy = _copy(tiny_folder, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"lack 1 weights.*layers\.1\.mlp\.up_proj"):
        load_model(str(copy))


def test_a_damaged_weights_file_is_named(tiny_folder: Path, tmp_path: Path) -> None:
    copy = _copy(tiny_folder, tmp_path / "copy")
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="cannot be loaded"):
        load_model(str(copy))


@pytest.mark.parametrize("name", ["./nowhere", "/no/where/at/all", "a/b/c"])
def test_a_folder_that_is_not_there(name: str) -> None:
    with pytest.raises(InputError, match="no such folder"):
        load_model(name)


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json"):
        load_model(str(tmp_path))


def test_pickled_weights_are_not_opened(tiny_folder: Path, tmp_path: Path) -> None:
    copy = _copy(tiny_folder, tmp_path / "copy")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(InputError, match="safetensors"):
        load_model(str(copy))


def test_code_that_a_repository_ships_is_not_run(tiny_folder: Path, tmp_path: Path) -> None:
    copy = _copy(tiny_folder, tmp_path / "copy")
    (copy / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass C: ...\n")
    _edit(
        copy / "config.json",
        model_type="not-a-known-type",
        auto_map={"AutoConfig": "evil.C", "AutoModelForCausalLM": "evil.C"},
    )
    with pytest.raises(InputError):
        load_model(str(copy))
    assert not (tmp_path / "ran").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there(tiny_folder: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="no CUDA device"):
        load_model(ModelSettings(model=str(tiny_folder), device="cuda"))
    with pytest.raises(InputError, match="unknown device"):
        load_model(ModelSettings(model=str(tiny_folder), device="gpu"))


def test_bfloat16_on_request(tiny_folder: Path) -> None:
    loaded = load_model(ModelSettings(model=str(tiny_folder), dtype="bfloat16"))
    assert loaded.model.dtype == torch.bfloat16
    assert loaded.identity.dtype == "bfloat16"


def test_the_fingerprint_follows_content_and_numbers_and_not_the_place(tiny_folder: Path, tmp_path: Path) -> None:
    copy = _copy(tiny_folder, tmp_path / "copy")
    first = fingerprint(str(tiny_folder))
    assert fingerprint(str(copy)) == first
    assert fingerprint(ModelSettings(model=str(copy), dtype="bfloat16")) != first
    _edit(copy / "tokenizer_config.json", chat_template="{{ messages[0].content }}")
    (copy / "chat_template.jinja").unlink(missing_ok=True)
    assert fingerprint(str(copy)) != first


def _unchanged(_: dict[str, torch.Tensor]) -> None: ...


def _more_layers(weights: dict[str, torch.Tensor]) -> None:
    for key in [key for key in weights if "layers.1." in key]:
        weights[key.replace("layers.1.", "layers.2.")] = weights[key].clone()


DAMAGED: dict[str, tuple[Callable[[dict[str, torch.Tensor]], object], dict[str, object], str]] = {
    "more layers than the configuration": (
        _more_layers,
        {},
        r"9 weights that config\.json's model leaves out.*layers\.2",
    ),
    "a configuration of fewer layers": (_unchanged, {"num_hidden_layers": 1}, r"model leaves out.*layers\.1"),
    "a configuration of more layers": (_unchanged, {"num_hidden_layers": 3}, r"lack 9 weights.*layers\.2"),
    "a bias that the configuration leaves out": (
        lambda w: w.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)}),
        {},
        "leaves out.*bias",
    ),
    "an adapter saved with its base": (
        lambda w: w.update({"model.layers.0.self_attn.q_proj.lora_A.default.weight": torch.zeros(2, 32)}),
        {},
        "together with an adapter",
    ),
    "another shape": (
        lambda w: w.update({"model.norm.weight": torch.zeros(8)}),
        {},
        r"model\.norm\.weight has the shape \[8\] in the files, \[32\]",
    ),
    "a head that is neither there nor tied": (lambda w: w.pop("lm_head.weight"), {}, "lack 1 weights.*lm_head"),
    "NaN in one place": (lambda w: w["model.norm.weight"][3:4].fill_(float("nan")), {}, "norm.weight holds NaN"),
    "infinity": (lambda w: w["lm_head.weight"][0, 0:1].fill_(float("-inf")), {}, "lm_head.weight holds NaN or inf"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_weights_are_those_of_the_configuration(tiny_folder: Path, tmp_path: Path, case: str) -> None:
    change, config, words = DAMAGED[case]
    copy = _copy(tiny_folder, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    change(weights)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    _edit(copy / "config.json", **config)
    with pytest.raises(InputError, match=words) as caught:
        load_model(str(copy))
    assert str(copy) in str(caught.value)


def test_weights_of_parts_that_a_language_model_lacks_are_noted(tiny_folder: Path, tmp_path: Path) -> None:
    copy = _copy(tiny_folder, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    weights["vision_tower.patch_embed.weight"] = torch.zeros(4)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(Note, match=r"1 weights .* are left out: vision_tower"):
        load_model(str(copy))


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22e\nsize 12345\n"


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "config.json", "tokenizer_config.json"])
def test_a_git_lfs_pointer_is_named(tiny_folder: Path, tmp_path: Path, name: str) -> None:
    copy = _copy(tiny_folder, tmp_path / "copy")
    (copy / name).write_bytes(POINTER)
    with pytest.raises(InputError, match=r"(?s)Git-LFS pointer.*git lfs pull") as caught:
        load_model(str(copy))
    assert caught.value.where == str(copy / name)


@pytest.mark.parametrize("rows", [261, 262])
def test_a_tokenizer_with_an_id_more_than_the_embedding_is_let_through(
    tiny_model: Callable[..., LoadedModel], rows: int
) -> None:
    assert len(tiny_model(vocab_size=rows).tokenizer) == 262


def test_every_form_of_a_model_is_taken(tiny_folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(tiny_folder) for kind in (AutoModelForCausalLM, AutoTokenizer))
    loaded = load_model(str(tiny_folder))
    assert load_model(loaded) is loaded
    for given in (tiny_folder, ModelSettings(model=str(tiny_folder)), model, (model, tokenizer)):
        assert load_model(given).identity.tokenizer_digest == loaded.identity.tokenizer_digest
    assert load_model(model).identity.name == str(tiny_folder)


def test_what_is_no_model_is_said(tiny_model: Callable[..., LoadedModel]) -> None:
    made = tiny_model()
    for given, words in ((made.model, "where its tokenizer is"), ((made.model, 3), r"\(LlamaForCausalLM, int\)")):
        with pytest.raises(InputError, match=words):
            load_model(given)
    with pytest.raises(InputError, match="expected a model's name, folder or settings, got int"):
        load_model(7)


def test_a_head_of_its_own_beside_a_configuration_that_ties_it_is_noted(
    tiny_model: Callable[..., LoadedModel], tmp_path: Path
) -> None:
    made = tiny_model(tie_word_embeddings=True)
    made.model.save_pretrained(tmp_path)
    made.tokenizer.save_pretrained(tmp_path)
    load_model(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"] + 1
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(Note, match="ties the LM head"):
        loaded = load_model(tmp_path)
    assert torch.equal(loaded.model.lm_head.weight, weights["lm_head.weight"])
