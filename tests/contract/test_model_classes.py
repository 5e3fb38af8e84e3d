"""Assumptions of scoring about the model classes of transformers, held against each model's own full logits."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tokensieve.config import ScoreSettings
from tokensieve.data.dataset import in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.models import LoadedModel
from tokensieve.models.speed import measure_speed
from tokensieve.scoring import score, score_with
from tokensieve.scoring.backbone import open_backbone
from tokensieve.scoring.backend import request_for
from tokensieve.scoring.batching import batches
from tokensieve.scoring.hf import open_backend
from tokensieve.types import Tokens, bools, ints

ModelFactory = Callable[..., LoadedModel]
Plain = Callable[[LoadedModel, list[int]], tuple[list[float], list[float], list[int]]]

MOE = {"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2}

CLASSES: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("LlamaConfig", {}),
    "llama, tied": ("LlamaConfig", {"tie_word_embeddings": True}),
    "gemma 2": ("Gemma2Config", {"head_dim": 8, "final_logit_softcapping": 5.0, "sliding_window": 8}),
    "gemma 3": ("Gemma3TextConfig", {"head_dim": 8, "sliding_window": 8, "layer_types": None}),
    "mistral, sliding window": ("MistralConfig", {"sliding_window": 8}),
    "olmo 2": ("Olmo2Config", {}),
    "qwen 2": ("Qwen2Config", {}),
    "qwen 3": ("Qwen3Config", {"head_dim": 8}),
    "qwen 3 moe": ("Qwen3MoeConfig", {"head_dim": 8, "moe_intermediate_size": 24, "decoder_sparse_step": 1, **MOE}),
    "mixtral": ("MixtralConfig", {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "cohere": ("CohereConfig", {"logit_scale": 0.5, "spread": 12.0}),
    "granite": (
        "GraniteConfig",
        {"spread": 18.0, "logits_scaling": 2.0, "embedding_multiplier": 2.0, "residual_multiplier": 0.5},
    ),
    "phi, biased head": ("PhiConfig", {"num_key_value_heads": 4}),
    "gpt 2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}),
}


def make(tiny_model: ModelFactory, name: str) -> LoadedModel:
    """A small random model of a class, its head's bias set where it has one."""
    config_name, changes = CLASSES[name]
    loaded = tiny_model(config_name, **changes)
    head = loaded.model.get_output_embeddings()
    if head.bias is not None:
        with torch.no_grad():
            head.bias.copy_(torch.linspace(-3, 3, len(head.bias)))
    return loaded


def make_rows(lengths: list[int], seed: int = 0) -> list[Tokens]:
    """Random rows of which the last two thirds are response."""
    generator = np.random.default_rng(seed)
    rows = []
    for index, length in enumerate(lengths):
        ids = generator.integers(0, 262, length)
        in_response = [place >= length // 3 for place in range(length)]
        rows.append(Tokens(f"row-{index}", ints(ids), bools(in_response), bools([False] * length)))
    return rows


@pytest.mark.parametrize("name", CLASSES)
def test_the_speed_of_every_class_can_be_measured(tiny_model: ModelFactory, name: str) -> None:
    speed = measure_speed(make(tiny_model, name))
    assert min(speed.read_s, speed.drawn_s, speed.spectrum_s) > 0


@pytest.mark.parametrize("name", CLASSES)
def test_scores_are_those_of_the_models_own_logits(tiny_model: ModelFactory, plain_scores: Plain, name: str) -> None:
    loaded = make(tiny_model, name)
    rows = make_rows([40, 3, 17, 18, 31, 2, 9])
    scored = score(in_memory(rows, Manifest(stage="tokens")), loaded, ScoreSettings(token_budget=64))
    assert open_backbone(loaded, ScoreSettings()).head_path == "tiled"
    spread = []
    for row, result in zip(rows, scored, strict=True):
        nll, entropy, rank = plain_scores(loaded, row.ids_T.tolist())
        scores = result.scores["base"]
        places = np.flatnonzero(row.in_response_T & (np.arange(len(row)) > 0))
        assert np.array_equal(np.flatnonzero(scores.scored_T), places)
        assert scores.entropy_T is not None
        assert scores.rank_T is not None
        np.testing.assert_allclose(scores.nll_T[places], np.array(nll)[places - 1], atol=1e-5, rtol=0)
        np.testing.assert_allclose(scores.entropy_T[places], np.array(entropy)[places - 1], atol=1e-5, rtol=0)
        np.testing.assert_array_equal(scores.rank_T[places], np.array(rank)[places - 1])
        spread += list(scores.nll_T[places])
    assert np.std(spread) > 0.3, "the distributions are too flat for this test to mean anything"


@pytest.mark.parametrize("name", CLASSES)
@pytest.mark.parametrize("packing", [False, True])
def test_a_shared_prompt_and_packing_change_nothing(tiny_model: ModelFactory, name: str, packing: bool) -> None:
    """Six responses to each of two prompts of 20 tokens, of which the model reads 19 once; and six packed rows."""
    loaded = make(tiny_model, name)
    generator = np.random.default_rng(1)
    rows = []
    for number in range(2):
        prompt = generator.integers(0, 262, 20).tolist()
        for index, length in enumerate([1, 3, 12, 5, 9, 2]):
            ids = [*prompt, *generator.integers(0, 262, length).tolist()]
            flags = bools([place >= 20 for place in range(len(ids))])
            rows.append(Tokens(f"shared-{number}-{index}", ints(ids), flags, bools([False] * len(ids))))
    rows += make_rows([40, 3, 17])
    settings = ScoreSettings(token_budget=1, use_store=False)
    alone = score(in_memory(rows, Manifest(stage="tokens")), loaded, settings)
    together = settings.model_copy(update={"token_budget": 4096, "packing": packing})
    backend = open_backend(loaded, together)
    assert backend.backbone.layout.packs == packing
    planned = batches([request_for(row, prompts=False) for row in rows], 4096, backend.backbone.layout)
    assert {batch.shared for batch in planned} == {0, 19}
    assert [len(batch.prompts()[0]) for batch in planned if batch.shared] == [2]
    assert any(batch.packed for batch in planned) == packing
    found = score_with(in_memory(rows, Manifest(stage="tokens")), backend, together)
    for one, other in zip(alone, found, strict=True):
        np.testing.assert_allclose(other.nll_T(), one.nll_T(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("config_name", "changes"),
    [
        ("MambaConfig", {"state_size": 4, "expand": 2, "conv_kernel": 4}),
        (
            "Qwen3NextConfig",
            {
                "head_dim": 8,
                "linear_num_value_heads": 4,
                "linear_num_key_heads": 2,
                "linear_key_head_dim": 8,
                "linear_value_head_dim": 8,
                "num_experts": 4,
                "num_experts_per_tok": 2,
                "moe_intermediate_size": 24,
                "shared_expert_intermediate_size": 24,
                "layer_types": ["linear_attention", "full_attention"],
            },
        ),
        ("Lfm2Config", {"layer_types": ["conv", "full_attention"], "block_auto_adjust_ff_dim": False}),
        ("MiniMaxConfig", {"head_dim": 8, "layer_types": ["linear_attention", "full_attention"], **MOE}),
        ("JambaConfig", {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False, **MOE}),
    ],
)
def test_models_with_a_running_state_are_scored_unpacked(
    tiny_model: ModelFactory, plain_scores: Plain, config_name: str, changes: dict[str, object]
) -> None:
    loaded = tiny_model(config_name, spread=2.0, **changes)
    backend = open_backend(loaded, ScoreSettings(packing=True))
    assert not backend.backbone.layout.packs
    assert not backend.backbone.layout.shares
    assert "unpacked" in str(backend.facts["notes"])
    rows = make_rows([30, 3, 17, 18])
    for row, result in zip(rows, score(in_memory(rows, Manifest(stage="tokens")), loaded), strict=True):
        places = np.flatnonzero(result.scores["base"].scored_T)
        nll = np.array(plain_scores(loaded, row.ids_T.tolist())[0])
        np.testing.assert_allclose(result.nll_T()[places], nll[places - 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "attribute", "value"),
    [("gemma 2", "final_logit_softcapping", None), ("cohere", "logit_scale", 1.0), ("granite", "logits_scaling", 1.0)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_scale_or_cap_that_we_miss_is_noticed(
    tiny_model: ModelFactory, name: str, attribute: str, value: float | None, dtype: torch.dtype
) -> None:
    """The probe at opening must see it, whatever the model's numbers, and leave the head to the model."""
    from tokensieve.scoring import lm_head

    loaded = make(tiny_model, name)
    loaded.model.to(dtype)
    causal = loaded.model
    head = lm_head.tiled_head_of(causal, torch.float32, tf32=False)
    assert head is not None
    ids_BT = torch.arange(16).view(2, 8) * 16
    with torch.inference_mode():
        hidden_ND = open_backbone(loaded, ScoreSettings()).hidden(ids_BT).flatten(0, 1)
    assert lm_head.reproduces(head, causal, ids_BT, hidden_ND)
    from dataclasses import replace

    wrong = replace(head, softcap=None) if attribute == "final_logit_softcapping" else replace(head, scale=1.0)
    assert not lm_head.reproduces(wrong, causal, ids_BT, hidden_ND)


def test_rows_that_would_reach_into_each_other_are_not_packed(
    tiny_model: ModelFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A state that the configuration does not speak of, in a model that says it may be packed."""
    from tokensieve.scoring import backbone

    loaded = tiny_model("MambaConfig", spread=2.0, state_size=4, expand=2, conv_kernel=4)
    monkeypatch.setattr(backbone, "is_recurrent", lambda _: False)
    split = open_backbone(loaded, ScoreSettings(packing=True))
    assert not split.layout.packs
    assert "scored unpacked" in split.notes[0]
