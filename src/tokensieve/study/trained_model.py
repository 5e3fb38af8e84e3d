"""Measures of a trained model that a study takes beside its answers: its weight update, and the rows of the page."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tokensieve.data.manifest import write_atomically
from tokensieve.types import FloatArray

if TYPE_CHECKING:
    from tokensieve.models import LoadedModel

TOKENS_NAME: Final = "tokens.json"
"""File with the nll of the shown rows' tokens under the trained model, nats, by row id; null is not scored."""


def write_update(trained: Path, base: "LoadedModel", folder: Path) -> None:
    """Write the weight update of a trained model into a folder."""
    from tokensieve.drift.update import UPDATE_NAME, weight_update

    found = weight_update(trained, base)
    write_atomically(folder / UPDATE_NAME, found.model_dump_json(indent=2).encode())


def write_shown_tokens(selected: Path, model: "LoadedModel", folder: Path) -> None:
    """Score the training rows that the page's token browser shows under the trained model, and write their nll."""
    from tokensieve.pipeline import open_selected
    from tokensieve.report.browsers import drawn_rows
    from tokensieve.scoring.preferred import nll_of_rows

    rows = [row.tokens for row in drawn_rows(open_selected(selected))]
    found = {
        row.id: [None if nll != nll else round(float(nll), 4) for nll in nll_T]
        for row, nll_T in zip(rows, nll_of_rows(rows, model), strict=True)
    }
    write_atomically(folder / TOKENS_NAME, json.dumps(found).encode())


def read_shown_tokens(folder: Path) -> dict[str, FloatArray]:
    """The nll of the shown rows' tokens by row id, ``[T]`` in nats; NaN is not scored."""
    read = json.loads((folder / TOKENS_NAME).read_text(encoding="utf-8"))
    return {
        name: np.array([np.nan if nll is None else nll for nll in values], dtype=np.float32)
        for name, values in read.items()
    }
