"""GGUF files: what is read is what was written, and what cannot be read is said."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tokensieve.config import LoraSettings, ModelSettings, TrainSettings
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.models import LoadedModel, context_length, fingerprint, load_model

LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def _interleaved(weight: np.ndarray[tuple[int, ...], np.dtype[np.float32]], heads: int) -> object:
    """Rows of a query or key projection in the order that GGUF files of Llama keep for rotary embeddings."""
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


@pytest.fixture(scope="module")
def file(tiny_model: Callable[..., LoadedModel], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama as a GGUF file of float32 tensors, without a tokenizer."""
    gguf = pytest.importorskip("gguf", reason="gguf is not installed")
    model = tiny_model("LlamaConfig").model
    config, weights = model.config, {key: value.numpy() for key, value in model.state_dict().items()}
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    writer.add_eos_token_id(2)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for theirs, ours in {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}.items():
        writer.add_tensor(f"{theirs}.weight", weights[f"{ours}.weight"])
    for layer in range(config.num_hidden_layers):
        for theirs, ours in LAYER.items():
            weight = weights[f"model.layers.{layer}.{ours}.weight"]
            written = _interleaved(weight, heads[theirs]) if theirs in heads else weight
            writer.add_tensor(f"blk.{layer}.{theirs}.weight", np.ascontiguousarray(written))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def settings(file: Path, tiny_folder: Path) -> ModelSettings:
    return ModelSettings(model=str(file), tokenizer=str(tiny_folder))


def test_a_gguf_file_is_a_model_like_any_other(settings: ModelSettings, tiny_folder: Path, tmp_path: Path) -> None:
    loaded, same = load_model(settings), load_model(tiny_folder)
    ids = torch.tensor([[5, 9, 200, 31, 7]])
    torch.testing.assert_close(loaded.model(ids).logits, same.model(ids).logits, atol=1e-5, rtol=1e-5)
    assert loaded.identity.weights_digest not in ("", same.identity.weights_digest)
    assert context_length(settings) == 256
    assert fingerprint(settings) != fingerprint(str(tiny_folder))
    loaded.model.save_pretrained(tmp_path / "saved")
    loaded.tokenizer.save_pretrained(tmp_path / "saved")
    assert torch.equal(load_model(tmp_path / "saved").model(ids).logits, loaded.model(ids).logits)


def test_an_adapter_of_a_gguf_file_names_it_and_loads(
    settings: ModelSettings, tiny_folder: Path, tmp_path: Path
) -> None:
    from tests.selected_rows import make_rows

    from tokensieve.training import train

    rules = TrainSettings(learning_rate=1e-3, epochs=1, warmup_steps=0, lora=LoraSettings(r=2))
    trained = train(make_rows(), settings, rules, tmp_path / "out")
    assert load_model(trained.on(settings)).identity.adapter_digest
    assert f'"base_model_name_or_path": "{settings.model}"' in (tmp_path / "out" / "adapter_config.json").read_text()
    with pytest.raises(InputError, match="trained on other weights"):
        load_model(ModelSettings(model=str(tiny_folder), adapter=str(tmp_path / "out")))


CASES: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "it is something else": (lambda content: b"PK" + content, "x.gguf", "does not start with GGUF"),
    "it is empty": (lambda content: b"", "x.gguf", "does not start with GGUF"),
    "it is a pointer": (lambda content: b"version https://git-lfs.github.com/spec/v1\n", "x.gguf", "Git-LFS pointer"),
    "it is cut short": (lambda content: content[:100], "x.gguf", "cannot be read"),
    "its weights are cut short": (lambda content: content[:-5000], "x.gguf", "cannot be (read|loaded)"),
    "it is a part": (lambda content: content, "x-00001-of-00003.gguf", "one part of a GGUF file"),
    "it is of an unknown kind": (lambda content: content.replace(b"llama", b"lemma"), "x.gguf", "cannot be read"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_file_that_cannot_be_read_is_said(settings: ModelSettings, tmp_path: Path, case: str) -> None:
    change, name, words = CASES[case]
    (tmp_path / name).write_bytes(change(Path(settings.model).read_bytes()))
    with pytest.raises(InputError, match=words) as caught:
        load_model(settings.model_copy(update={"model": str(tmp_path / name)}))
    assert str(tmp_path / name) in str(caught.value)


def test_what_is_given_beside_a_gguf_file_is_refused_in_words(
    settings: ModelSettings, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_model(str(tmp_path / "no.gguf"))
    with pytest.raises(InputError, match=r"but a GGUF file\n.*tiny\.gguf"):
        load_model(file.parent)
    with pytest.raises(InputError, match=r"no usable tokenizer.*\n.*--tokenizer"):
        load_model(file)
    with pytest.raises(InputError, match="quantisation nf4 cannot be put on a GGUF file"):
        load_model(settings.model_copy(update={"quantisation": "nf4"}))
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gguf" else find(name))
    with pytest.raises(EnvironmentProblem, match=r"pip install 'tokensieve\[gguf\]'"):
        load_model(settings)
