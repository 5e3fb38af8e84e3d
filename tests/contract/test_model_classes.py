"""What scoring assumes of the model classes of transformers, held against each model's own full logits."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from tokensieve.config import ScoreSettings
from tokensieve.data.folder import in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.models import LoadedModel
from tokensieve.scoring import score
from tokensieve.scoring._network import open_network
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


def _make(tiny_model: ModelFactory, name: str) -> LoadedModel:
    config_name, changes = CLASSES[name]
    loaded = tiny_model(config_name, **changes)
    head = loaded.model.get_output_embeddings()
    if head.bias is not None:
        with torch.no_grad():
            head.bias.copy_(torch.linspace(-3, 3, len(head.bias)))
    return loaded


def _rows(lengths: list[int], seed: int = 0) -> list[Tokens]:
    generator = np.random.default_rng(seed)
    rows = []
    for index, length in enumerate(lengths):
        ids = generator.integers(0, 262, length)
        in_response = [place >= length // 3 for place in range(length)]
        rows.append(Tokens(f"row-{index}", ints(ids), bools(in_response), bools([False] * length)))
    return rows


@pytest.mark.parametrize("name", CLASSES)
def test_scores_are_those_of_the_models_own_logits(tiny_model: ModelFactory, plain_scores: Plain, name: str) -> None:
    loaded = _make(tiny_model, name)
    rows = _rows([40, 3, 17, 18, 31, 2, 9])
    scored = score(in_memory(rows, Manifest(stage="tokens")), loaded, ScoreSettings(token_budget=64))
    assert open_network(loaded, ScoreSettings()).head_path == "tiled"
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


@pytest.mark.parametrize(
    ("name", "attribute", "value"),
    [("gemma 2", "final_logit_softcapping", None), ("cohere", "logit_scale", 1.0), ("granite", "logits_scaling", 1.0)],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_scale_or_cap_that_we_miss_is_noticed(
    tiny_model: ModelFactory, name: str, attribute: str, value: float | None, dtype: torch.dtype
) -> None:
    """The probe at opening must see it, whatever the model's numbers, and leave the head to the model."""
    from tokensieve.scoring import _network

    loaded = _make(tiny_model, name)
    loaded.model.to(dtype)
    causal = loaded.model
    head = _network._head_of(causal, torch.float32, tf32=False)
    assert head is not None
    network = open_network(loaded, ScoreSettings())
    assert _network._agrees(network, causal, head)
    from dataclasses import replace

    wrong = replace(head, softcap=None) if attribute == "final_logit_softcapping" else replace(head, scale=1.0)
    assert not _network._agrees(replace(network, head=wrong), causal, wrong)
