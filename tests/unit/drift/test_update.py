"""The weight update: that of LoRA's factors is that of their product; norms and ranks are those of dense algebra."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tests.conftest import ModelFactory

from tokensieve.drift.update import effective_rank, singular_of_factors, weight_update
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel

RANK, ALPHA = 3, 12
NAMES = tuple(f"model.layers.{layer}.self_attn.{kind}" for layer in (0, 1) for kind in ("q_proj", "v_proj"))


def adapter(folder: Path, base: LoadedModel, *, dora: bool = False, rslora: bool = False) -> dict[str, torch.Tensor]:
    """Write an adapter with random factors, and give the change of each weight, formed densely."""
    weights = dict(base.model.named_parameters())
    torch.manual_seed(0)
    tensors: dict[str, torch.Tensor] = {}
    changes: dict[str, torch.Tensor] = {}
    for name in NAMES:
        start = weights[f"{name}.weight"].detach()
        a, b = torch.randn(RANK, start.shape[1]) / 10, torch.randn(start.shape[0], RANK) / 10
        tensors |= {f"base_model.model.{name}.lora_{part}.weight": value for part, value in (("A", a), ("B", b))}
        moved = start + (ALPHA / (math.sqrt(RANK) if rslora else RANK)) * (b @ a)
        if dora:
            magnitude = start.norm(dim=1) * 1.1
            tensors[f"base_model.model.{name}.lora_magnitude_vector"] = magnitude
            moved = magnitude[:, None] * moved / moved.norm(dim=1, keepdim=True)
        changes[name] = moved - start
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "use_dora": dora, "use_rslora": rslora}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return changes


def whole(folder: Path, base: LoadedModel) -> dict[str, torch.Tensor]:
    """Write a whole model with two changed matrices and a changed norm, and give the changes."""
    torch.manual_seed(1)
    kinds = ("layers.0.self_attn.q_proj", "layers.1.mlp.down_proj", "layers.0.input_layernorm")
    state = {name: value.detach().clone() for name, value in base.model.named_parameters()}
    changes = {}
    for name in (f"model.{kind}" for kind in kinds):
        changes[name] = torch.randn_like(state[f"{name}.weight"]) / 100
        state[f"{name}.weight"] += changes[name]
    save_file(state, folder / "model.safetensors")
    return changes


@pytest.mark.parametrize(
    "write",
    [
        adapter,
        lambda folder, base: adapter(folder, base, dora=True),
        lambda folder, base: adapter(folder, base, rslora=True),
        whole,
    ],
    ids=["lora", "dora", "rslora", "full"],
)
def test_it_is_that_of_the_dense_difference(
    tiny_model: ModelFactory, tmp_path: Path, write: Callable[[Path, LoadedModel], dict[str, torch.Tensor]]
) -> None:
    base = tiny_model("LlamaConfig")
    changes = write(tmp_path, base)
    weights = {name: value.detach() for name, value in base.model.named_parameters()}
    found = weight_update(tmp_path, base)
    norm = math.hypot(*(float(change.norm()) for change in changes.values()))
    assert found.norm == pytest.approx(norm, rel=1e-4)
    by_kind = {one.kind: one for one in found.modules}
    for kind in {name.rpartition(".")[2] for name in changes}:
        own = {name: change for name, change in changes.items() if name.endswith(kind)}
        one = by_kind[kind]
        assert one.norm == pytest.approx(math.hypot(*(float(change.norm()) for change in own.values())), rel=1e-4)
        dense = [torch.linalg.svdvals(change.double()) for change in own.values() if change.ndim == 2]
        if not dense:
            assert one.effective_rank is None
            assert one.spectrum == ()
            continue
        expected = torch.stack(dense).mean(0)[: len(one.spectrum)]
        torch.testing.assert_close(torch.tensor(one.spectrum).double(), expected, rtol=1e-3, atol=1e-5)
        assert one.modules == len(own)
        assert one.effective_rank == pytest.approx(sum(map(effective_rank, dense)) / len(dense), rel=1e-2)
        start = math.hypot(*(float(weights[f"{name}.weight"].norm()) for name in own))
        assert one.relative_norm == pytest.approx(one.norm / start, rel=1e-4)


def test_ranks_of_known_spectra() -> None:
    assert effective_rank(torch.tensor([2.0, 2.0, 2.0, 0.0], dtype=torch.float64)) == pytest.approx(3.0)
    assert effective_rank(torch.tensor([5.0, 0.0], dtype=torch.float64)) == pytest.approx(1.0)
    assert math.isnan(effective_rank(torch.zeros(3, dtype=torch.float64)))
    b, a = torch.eye(5, 2), torch.eye(2, 7)
    assert singular_of_factors(b, a, -3.0).tolist() == pytest.approx([3.0, 3.0])


def test_an_untrained_adapter_has_an_update_of_zero(tiny_model: ModelFactory, tmp_path: Path) -> None:
    base = tiny_model("LlamaConfig")
    adapter(tmp_path, base)
    from safetensors.torch import load_file

    tensors = load_file(tmp_path / "adapter_model.safetensors")
    save_file(
        {name: value * (0 if "lora_B" in name else 1) for name, value in tensors.items()},
        tmp_path / "adapter_model.safetensors",
    )
    found = weight_update(tmp_path, base)
    assert found.norm == 0.0
    assert found.effective_rank is None


def test_another_models_adapter_and_a_folder_without_weights_are_refused(
    tiny_model: ModelFactory, tmp_path: Path
) -> None:
    base = tiny_model("LlamaConfig")
    with pytest.raises(InputError, match="no weights in safetensors"):
        weight_update(tmp_path, base)
    adapter(tmp_path, base)
    with pytest.raises(InputError, match="the base has no weight"):
        weight_update(tmp_path, tiny_model("GPT2Config"))
