"""Rows to be scored, and a backend that counts what it is asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tokensieve.config import ScoreSettings
from tokensieve.data.dataset import Rows, in_memory
from tokensieve.data.manifest import Manifest, ModelIdentity
from tokensieve.scoring.backend import Measures, ScoreRecord, ScoreRequest
from tokensieve.types import JSON, Tokens, bools, ints


def tokens_of(name: str, ids: Sequence[int], start: int) -> Tokens:
    length = len(ids)
    return Tokens(name, ints(ids), bools([i >= start for i in range(length)]), bools([False] * length))


def score_rows(count: int, seed: int = 0) -> Rows[Tokens]:
    generator = np.random.default_rng(seed)
    made = []
    for index in range(count):
        length = int(generator.integers(2, 24))
        made.append(tokens_of(f"row-{seed}-{index}", generator.integers(0, 262, length).tolist(), length // 2))
    return in_memory(made, Manifest(stage="tokens", inputs={"seed": f"{seed}, {count} rows"}))


@dataclass
class Counting:
    """A backend whose scores are the request's places; counts what it is asked."""

    asked: list[ScoreRequest] = field(default_factory=list)
    fails_after: int = 10**9
    identity: ModelIdentity = field(default_factory=lambda: ModelIdentity(name="counting", weights_digest="w"))
    facts: dict[str, JSON] = field(default_factory=lambda: {"token_budget": 64})
    max_length: int | None = None
    vocab_size: int | None = None
    has_entropy: bool = True
    has_rank: bool = True

    def resumed(self, facts: object) -> "Counting":
        return self

    def score(self, requests: Sequence[ScoreRequest], measures: Measures) -> Sequence[ScoreRecord | None]:
        self.asked += requests
        if len(self.asked) > self.fails_after:
            raise KeyboardInterrupt
        return [ScoreRecord(r.positions_N.astype(np.float32), None, None) for r in requests]


PLAIN = ScoreSettings(entropy=False, rank=False, shard_rows=4)
