"""Random selected rows for tests of exports and trainers."""

from collections.abc import Sequence

import numpy as np

from tokensieve.data.dataset import Rows, in_memory
from tokensieve.data.manifest import Manifest, ModelIdentity
from tokensieve.types import Scored, Scores, Selected, Tokens


def selected_row(rng: np.random.Generator, name: str, *, soft: bool = False, share: float = 0.6) -> Selected:
    """One conversation of one or two turns, each response ending in token 2, some of its tokens selected."""
    ids: list[int] = []
    in_response: list[bool] = []
    for _ in range(int(rng.integers(1, 3))):
        prompt, answer = int(rng.integers(2, 12)), int(rng.integers(1, 16))
        ids += [*rng.integers(6, 260, prompt), *rng.integers(6, 260, answer), 2, 7]
        in_response += [False] * prompt + [True] * (answer + 1) + [False]
    ids_T = np.asarray(ids, dtype=np.int32)
    in_response_T = np.asarray(in_response)
    ends_T = in_response_T & (ids_T == 2)
    train_T = in_response_T & ((rng.random(len(ids)) < share) | ends_T)
    weight_T = np.where(train_T, rng.choice([0.25, 0.5, 1.0], len(ids)), 0).astype(np.float32) if soft else None
    scores = Scores(rng.exponential(1.0, len(ids)).astype(np.float32))
    return Selected(Scored(Tokens(name, ids_T, in_response_T, ends_T), {"base": scores}), train_T, weight_T)


def selected_rows(n: int = 12, *, seed: int = 0, soft: bool = False) -> Rows[Selected]:
    """Rows of uneven lengths."""
    rng = np.random.default_rng(seed)
    return of([selected_row(rng, f"row/{index}", soft=soft) for index in range(n)])


def of(rows: Sequence[Selected]) -> Rows[Selected]:
    """Given rows, with the manifest of a selection."""
    identity = ModelIdentity(name="tiny", tokenizer_digest="0" * 64, template_digest="1" * 64)
    manifest = Manifest(stage="selected", settings={"policy": "stm:2.5", "scorer": "base"}, model=identity)
    return in_memory(rows, manifest)
