"""Random selected rows for tests of training; nothing here is meant to be learnable."""

from typing import Literal

import numpy as np

from tokensieve.data.dataset import Rows, in_memory
from tokensieve.data.manifest import Manifest, ModelIdentity
from tokensieve.types import Scored, Scores, Selected, Tokens


def make_rows(
    *,
    seed: int = 0,
    n: int = 8,
    weights: Literal["none", "binary", "soft"] = "none",
    model: ModelIdentity | None = None,
) -> Rows[Selected]:
    """Rows of uneven length; about half of each response is trained, an end-of-turn always.

    ``binary`` says the same by weights of 0 and 1, ``soft`` by weights in between.
    """
    rng = np.random.default_rng(seed)
    made = []
    for index in range(n):
        length = int(rng.integers(6, 40))
        ids_T = rng.integers(6, 260, length).astype(np.int32)
        in_response_T = np.arange(length) >= length // 3
        train_T = in_response_T & (rng.random(length) < 0.5)
        train_T[-1] = True
        ends_T = np.arange(length) == length - 1
        weight_T = None
        if weights == "binary":
            train_T, weight_T = in_response_T, train_T.astype(np.float32)
        elif weights == "soft":
            weight_T = np.where(train_T, rng.random(length), 0).astype(np.float32)
        tokens = Tokens(f"row/{index}", ids_T, in_response_T, ends_T)
        scores = {"base": Scores(np.full(length, np.nan, np.float32))}
        made.append(Selected(Scored(tokens, scores), train_T, weight_T))
    return in_memory(made, Manifest(stage="selected", model=model, facts={"seed": seed, "weights": weights}))
