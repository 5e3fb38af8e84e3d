"""Mean nll of candidate answers under the model that is to be trained, by the same scoring that selection uses."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from tokensieve.config import DataSettings, ScoreSettings
from tokensieve.data.chat import ChatTemplate, tokenise
from tokensieve.models import LoadedModel
from tokensieve.scoring import score_all
from tokensieve.types import Example, Tokens

_WINDOW: Final = 1024
_STRIDE: Final = 512
"""Window and stride of the authors' unconditional perplexity (paper.md section 2)."""


def conditional_nll(examples: Sequence[Example], loaded: LoadedModel) -> list[float]:
    """Mean nll in nats of each example's last response given its prompt, its end-of-turn included."""
    settings = DataSettings(last_turn_only=True)
    return _mean_nll([[tokenise(example, loaded.chat, settings)] for example in examples], loaded)


def unconditional_nll(texts: Sequence[str], loaded: LoadedModel) -> list[float]:
    """Mean nll in nats of each text alone, behind a begin-of-text token; long ones by overlapping windows.

    NaN for an empty text.
    """
    return _mean_nll([_windows(f"{number}", text, loaded.chat) for number, text in enumerate(texts)], loaded)


def _windows(name: str, text: str, chat: ChatTemplate) -> list[Tokens]:
    """Rows of at most 1,024 tokens; each token is counted in the first window that holds it."""
    ids_T = np.concatenate([[chat.begin_id], chat.text_ids(text)], dtype=np.int32)
    rows, counted = [], 1
    for first in range(0, max(1, len(ids_T) - _WINDOW + _STRIDE), _STRIDE):
        window_T = ids_T[first : first + _WINDOW]
        new_T = np.arange(first, first + len(window_T)) >= counted
        rows.append(Tokens(f"{name}/{first}", window_T, new_T, np.zeros(len(window_T), dtype=np.bool_)))
        counted = first + len(window_T)
    return rows


def _mean_nll(groups: Sequence[Sequence[Tokens]], loaded: LoadedModel) -> list[float]:
    """Mean over all response tokens of each group of rows."""
    rows = [row for group in groups for row in group]
    if not rows:
        return []
    renamed = [Tokens(f"{number}", row.ids_T, row.in_response_T, row.ends_turn_T) for number, row in enumerate(rows)]
    scored = iter(score_all(renamed, loaded, ScoreSettings(entropy=False, rank=False)))
    means = []
    for group in groups:
        nll_T = np.concatenate([row.nll_T()[row.tokens.in_response_T] for row in (next(scored) for _ in group)])
        known_T = nll_T[~np.isnan(nll_T)]
        means.append(float(known_T.mean(dtype=np.float64)) if len(known_T) else float("nan"))
    return means
