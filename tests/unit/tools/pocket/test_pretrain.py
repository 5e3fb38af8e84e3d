"""Pretraining: its schedule, its batches, and that a killed run goes on as if nothing had happened."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from tools.pocket import batches as batches
from tools.pocket.generator.corpus import dialogues
from tools.pocket.pretrain import Settings, Trainer
from transformers import AutoTokenizer

from tokensieve.pocket import POCKET

SMALL = Settings(tokens=1000, batch=512, rate=1e-2, decay=0.5, warm_up=1, hidden=32, layers=1, heads=2, inner=32)


@pytest.mark.parametrize(("seen", "factor"), [(0, 1.0), (500, 1.0), (750, 0.5), (1000, 0.0), (1100, 0.0)])
def test_the_rate_falls_to_nothing_at_the_end(seen: int, factor: float) -> None:
    trainer = Trainer(SMALL)
    trainer.seen, trainer.steps = seen, 10
    assert trainer.factor() == pytest.approx(factor)


def test_the_shipped_run_is_within_its_limits() -> None:
    trainer = Trainer(Settings())
    assert sum(parameter.numel() for parameter in trainer.full.parameters()) <= 4_000_000


def test_batches_hold_every_dialogue_once_and_stay_within_their_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "CHUNK", 50)
    tokenizer = AutoTokenizer.from_pretrained(POCKET)
    made = list(batches.chunk(tokenizer, 1, 0, 1000))
    assert all(ids.shape == weights.shape and ids.size <= 1000 for ids, weights in made)
    assert sum(len(ids) for ids, _ in made) == 50
    rows = batches.encode(tokenizer, list(islice(dialogues(1, 0, mixture=batches.PLAN[0][1]), 50)))
    real = sum(int((weights > 0).sum()) + len(weights) for _, weights in made)
    assert real == sum(len(ids) for ids, _ in rows)


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    steps = [(rng.integers(0, 1024, (2, 16)), np.ones((2, 16), np.float32)) for _ in range(4)]
    whole = Trainer(SMALL)
    losses = [whole.step(batch) for batch in steps]
    first = Trainer(SMALL)
    for batch in steps[:2]:
        first.step(batch)
    first.save(tmp_path / "state.pt")
    second = Trainer(SMALL)
    second.resume(tmp_path / "state.pt")
    assert [second.step(batch) for batch in steps[2:]] == losses[2:]
    for one, other in zip(whole.full.parameters(), second.full.parameters(), strict=True):
        assert torch.equal(one, other)


def test_padding_has_no_part_in_the_loss() -> None:
    ids = np.arange(1, 9).reshape(1, 8)
    weights = np.ones((1, 8), np.float32)
    padded = np.concatenate([ids, np.zeros((1, 4), np.int64)], axis=1)
    alone = Trainer(SMALL).step((ids, weights))
    beside = Trainer(SMALL).step((padded, np.concatenate([weights, np.zeros((1, 4), np.float32)], axis=1)))
    assert beside == pytest.approx(alone, rel=1e-2)
