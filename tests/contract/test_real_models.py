"""Scores of real language models in GGUF files against the plain way: one row, full logits, float64 softmax."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tokensieve.config import ScoreSettings
from tokensieve.data.dataset import in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.models import LoadedModel, load_model
from tokensieve.scoring import score
from tokensieve.types import Tokens, bools, ints

FOLDER = Path(__file__).parents[2] / "build" / "real-models"

TEXT = (
    "The heart of a blue whale weighs about 180 kg. Ein Wal atmet Luft, 鲸是哺乳动物.\n"
    "def area(r):\n\treturn 3.14159 * r ** 2  # π r²\r\n"
)

Plain = Callable[[LoadedModel, list[int]], tuple[list[float], list[float], list[int]]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SmolLM2-135M-Instruct.Q4_1.gguf", "gemma-3-270m-q4_k_m.gguf"])
def test_scores_of_a_real_model_are_those_of_the_plain_loop(name: str, plain_scores: Plain) -> None:
    if not (FOLDER / name).is_file():
        pytest.skip(f"no {name} in build/real-models; `make real-models` fetches it")
    pytest.importorskip("gguf", reason="gguf is not installed")
    loaded = load_model(FOLDER / name)
    rows = []
    for text in (TEXT, "Yes."):  # of unlike lengths, so that batching is part of what is checked
        ids = loaded.tokenizer(text).input_ids
        rows.append(Tokens(text, ints(ids), bools([True] * len(ids)), bools([False] * len(ids))))
    scored = score(in_memory(rows, Manifest(stage="tokens")), loaded, ScoreSettings(use_store=False, prompts=True))
    for row in scored:
        nll, entropy, rank = plain_scores(loaded, row.tokens.ids_T.tolist())
        scores = row.scores["base"]
        assert scores.entropy_T is not None
        assert scores.rank_T is not None
        np.testing.assert_allclose(scores.nll_T[1:], nll, atol=2e-5, rtol=2e-6)
        np.testing.assert_allclose(scores.entropy_T[1:], entropy, atol=5e-5)
        assert np.mean(scores.rank_T[1:] == np.asarray(rank)) >= 0.95  # ties of float32 logits aside
        assert np.abs(scores.rank_T[1:] - np.asarray(rank)).max() <= 2 + 0.001 * max(rank)
