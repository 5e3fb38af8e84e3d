"""Rows that are mixed into a selection whole: rehearsal data, such as dialogues of the model with itself."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tokensieve.config import DataSettings, ModelSettings
from tokensieve.data.dataset import Rows, open_rows
from tokensieve.data.manifest import ModelIdentity
from tokensieve.errors import InputError
from tokensieve.pipeline.rows import tokens_of
from tokensieve.selection.controls import row_lot
from tokensieve.types import FloatArray, Scored, Scores, Selected, Tokens

if TYPE_CHECKING:
    from tokensieve.data.arrow_io import StageRow


def parse_mix(mix: str) -> tuple[Path, float]:
    """Folder and share of ``FOLDER:SHARE``.

    Raises:
        InputError: it is spelled otherwise, or the share is not between 0 and 1.
    """
    folder, _, share = mix.rpartition(":")
    try:
        value = float(share)
    except ValueError:
        value = math.nan
    if not folder or not 0 < value < 1:
        raise InputError(f"expected FOLDER:SHARE with a share between 0 and 1, got {mix!r}", fix="--mix dialogues:0.3")
    return Path(folder), value


def mix_digest(mix: str | None) -> dict[str, str]:
    """Identity of what is mixed in, by the name that it has among a manifest's inputs; empty for nothing."""
    return {} if mix is None else {"mix": open_rows(parse_mix(mix)[0]).manifest.digest}


def mixed_in(
    folder: Path, share: float, rows: int, seed: int, model: ModelIdentity | None, like: Mapping[str, Scores]
) -> Iterator[Selected]:
    """Whole rows from a folder, as many as make up ``share`` of the result; the draw depends on seed and ids only.

    Args:
        folder: of generate, of a later stage, or of anchors.
        share: fraction of the result's rows.
        rows: number of the result's other rows.
        seed: of the draw.
        model: whose tokens the other rows are.
        like: scores of one of the other rows; what a row has not of them is NaN, since it needs none.

    Raises:
        InputError: too few rows, or tokens of another tokenizer.
    """
    rehearsal = _rows(folder, model)
    order = sorted(row_lot(seed, row.tokens.id) for row in rehearsal)
    wanted = round(rows * share / (1 - share))
    if wanted > len(order):
        raise InputError(
            f"a share of {share} beside {rows} rows takes {wanted} rows, the folder has {len(order)}",
            where=str(folder),
            fix="make more of them, or lower the share",
        )
    last = order[wanted - 1] if wanted else b""
    for row in rehearsal:
        if wanted and row_lot(seed, row.tokens.id) <= last:
            scores = {name: _filled(row.scores.get(name), pattern, len(row.tokens)) for name, pattern in like.items()}
            yield Selected(Scored(row.tokens, scores), row.tokens.in_response_T.copy())


def _rows(folder: Path, model: ModelIdentity | None) -> Rows[Scored]:
    """The folder's rows with the tokens that they have, or where it holds examples, with tokens made by the model's."""
    from tokensieve.pipeline.load import load

    earlier: Rows[StageRow] | Rows[Tokens] = open_rows(folder)
    made_by = earlier.manifest.model
    if earlier.manifest.stage == "examples":
        if model is None:
            raise InputError("it is not known whose tokens the selection's rows are", where=str(folder))
        rules = DataSettings(last_turn_only=True)
        earlier = load(folder, _settings_of(model), rules)
        made_by = earlier.manifest.model
    elif earlier.manifest.stage not in ("tokens", "scored", "selected", "anchors"):
        raise InputError(
            f"a folder of {earlier.manifest.stage} rows holds no training data",
            where=str(folder),
            fix="a folder of tokensieve generate, score, select or anchors",
        )
    if model is not None and made_by is not None and made_by.tokenizer_digest != model.tokenizer_digest:
        raise InputError(
            f"its tokens are of another tokenizer, that of {made_by.name}, than that of {model.name}",
            where=str(folder),
            fix="make it with the model whose rows it is mixed into",
        )
    return Rows(earlier.manifest, lambda: (_scored(row) for row in earlier))


def _settings_of(model: ModelIdentity) -> ModelSettings:
    return ModelSettings(model=model.name, revision=model.revision, template_kwargs=model.template_kwargs)


def _scored(row: "StageRow") -> Scored:
    if isinstance(row, Selected):
        return row.scored
    return row if isinstance(row, Scored) else Scored(tokens_of(row), {})


def _filled(scores: Scores | None, like: Scores, length: int) -> Scores:
    """Scores with the arrays that ``like`` has, NaN where a row has none of its own."""

    def array(own_T: FloatArray | None, pattern_T: FloatArray | None) -> FloatArray | None:
        return None if pattern_T is None else nothing_T if own_T is None else own_T

    nothing_T = np.full(length, np.nan, dtype=np.float32)
    own = scores or Scores(nothing_T)
    return Scores(
        own.nll_T,
        array(own.entropy_T, like.entropy_T),
        array(own.rank_T, like.rank_T),
        top_entropy_T=array(own.top_entropy_T, like.top_entropy_T),
    )
