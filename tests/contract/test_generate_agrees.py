"""Assumptions about transformers' models in our own decoding loop: greedy answers are those of ``generate``."""

import numpy as np
import pytest
import torch

from tokensieve.config import SampleSettings
from tokensieve.models import LoadedModel
from tokensieve.sampling import LocalSampler, Request
from tokensieve.types import Sample

FAMILIES: dict[str, dict[str, object]] = {
    "LlamaConfig": {},
    "Qwen3Config": {"head_dim": 8},
    "MistralConfig": {"sliding_window": 9},
    "Gemma2Config": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 9},
    "GPT2Config": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "BloomConfig": {"n_layer": 2, "n_head": 4},  # takes no positions
    "Qwen3NextConfig": {  # recurrent layers between those that attend
        "head_dim": 8,
        "num_hidden_layers": 4,
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
}


def requests(n: int = 1, count: int = 9) -> list[Request]:
    rng = np.random.default_rng(5)
    prompts = [rng.integers(6, 260, int(rng.integers(3, 30))).astype(np.int32) for _ in range(count)]
    return [Request(f"p/{i}", (), 24, n=n, prompt_T=prompt) for i, prompt in enumerate(prompts)]


def drawn(loaded: LoadedModel, settings: SampleSettings, n: int = 1, count: int = 9) -> dict[tuple[str, int], Sample]:
    samples = LocalSampler(loaded).draw(requests(n, count), settings)
    return {(sample.problem_id, sample.index): sample for sample in samples}


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_are_those_of_generate(tiny_model, family: str) -> None:  # type: ignore[no-untyped-def]
    loaded: LoadedModel = tiny_model(family, **FAMILIES[family])
    ours = drawn(loaded, SampleSettings(batch_size=4))
    for request in requests():
        assert request.prompt_T is not None
        prompt = torch.from_numpy(request.prompt_T.astype(np.int64))[None]
        theirs = loaded.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=24, do_sample=False, eos_token_id=2
        )
        assert list(ours[request.id, 0].ids) == theirs[0, prompt.shape[1] :].tolist()
