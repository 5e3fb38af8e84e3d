"""Sentence perplexities of a data set beside those of the model's own answers to the same prompts."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tokensieve.inspection.results import AnswerPair, OwnAnswers
from tokensieve.types import BASE_SCORER, Scored, Selected

if TYPE_CHECKING:
    from tokensieve.models import ModelLike


def score_answers(folder: Path, model: "ModelLike") -> list[Scored]:
    """The answers of a folder that generate made, scored by the model.

    Raises:
        InputError: the folder is of another stage, or as in ``score``.
    """
    from tokensieve.models import load_model
    from tokensieve.pipeline import load, open_examples
    from tokensieve.scoring import score

    loaded = load_model(model)
    return list(score(load(open_examples(folder), loaded), loaded))


def compare_answers(rows: Iterable[Selected], scorer: str, answers: Iterable[Scored], top: int) -> OwnAnswers:
    """Pair a data set's rows with the model's own answers by their ids.

    Args:
        rows: the data set.
        scorer: whose scores of it are read.
        answers: scored by the model under the name of the base.
        top: how many rows are listed.
    """
    own = dict(_perplexities(answers, BASE_SCORER))
    pairs, data_only = [], 0
    for row_id, perplexity in _perplexities((row.scored for row in rows), scorer):
        if row_id in own:
            pairs.append(AnswerPair(id=row_id, data=perplexity, own=own[row_id]))
        else:
            data_only += 1
    furthest = sorted(pairs, key=lambda pair: (-pair.data / pair.own, pair.id))[:top]
    return OwnAnswers(
        rows=len(pairs),
        data_only=data_only,
        own_only=len(own) - len(pairs),
        data_median=_median([pair.data for pair in pairs]),
        own_median=_median([pair.own for pair in pairs]),
        furthest=tuple(furthest),
    )


def _perplexities(rows: Iterable[Scored], scorer: str) -> Iterator[tuple[str, float]]:
    """Id and sentence perplexity of each row that has scores; one that is no finite number is left out."""
    for row in rows:
        if scorer not in row.scores:
            continue
        nll_T = row.nll_T(scorer)[row.tokens.in_response_T]
        known_T = nll_T[~np.isnan(nll_T)].astype(np.float64)
        if len(known_T) and known_T.mean() < math.log(np.finfo(np.float64).max):
            yield row.tokens.id, math.exp(known_T.mean())


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None
