"""Profile of scored or selected rows before training, with the model's own answers beside them and advice."""

import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tokensieve.config import InspectSettings, ModelSettings, SelectSettings
from tokensieve.data.dataset import Rows
from tokensieve.errors import InputError
from tokensieve.inspection.advice import Facts, advise
from tokensieve.inspection.results import AnswerPair, Inspection, OwnAnswers
from tokensieve.inspection.survey import survey
from tokensieve.selection import parse_policy
from tokensieve.selection.policy import Traits, protected_T
from tokensieve.types import BASE_SCORER, Scored, Selected

if TYPE_CHECKING:
    from tokensieve.models import LoadedModel


def profile_scored(
    rows: Rows[Scored],
    source: str,
    model: "LoadedModel | ModelSettings | str",
    settings: InspectSettings,
    *,
    limit: int | None = None,
) -> Inspection:
    """Profile scored rows under the settings' policy; see ``profile_selected``."""
    from tokensieve.pipeline import first, select, tokenizer_of

    # Decided where select decides; on disk, so that memory does not grow with the rows.
    with tempfile.TemporaryDirectory() as place:
        rules, tokenizer = SelectSettings(policy=settings.policy), tokenizer_of(model)[0]
        selected = select(first(rows, limit), rules, Path(place) / "selected", tokenizer=tokenizer)
        return profile_selected(selected, source, model, settings)


def profile_selected(
    rows: Rows[Selected],
    source: str,
    model: "LoadedModel | ModelSettings | str",
    settings: InspectSettings,
    *,
    limit: int | None = None,
) -> Inspection:
    """Profile selected rows.

    Args:
        rows: the selection.
        source: its name, for the result.
        model: whose tokenizer tells the tokens' texts, and who scores its own answers.
        settings: thresholds, lengths of lists, the folder of own answers.
        limit: number of rows to read; None reads all.

    Raises:
        InputError: no own answer has the id of a row.
    """
    from tokensieve.pipeline import first, tokenizer_of

    tokenizer = tokenizer_of(model)[0]
    rows = first(rows, limit)
    decided = _Decided.of(rows)
    text = lru_cache(maxsize=None)(
        lambda token: str(tokenizer.decode([token]))
    )  # at most one entry for each of the vocabulary
    found = survey(
        lambda: iter(rows),
        scorer=decided.settings.scorer,
        thresholds=settings.thresholds,
        threshold_nats=decided.threshold_nats,
        error_nats=decided.error_nats,
        piece=text,
        protected_T=lambda tokens: protected_T(tokens, decided.settings, decided.structure),
        top=settings.top,
    )
    own: OwnAnswers | None = None
    if settings.own_answers is not None:
        answers = score_answers(settings.own_answers, model)
        own = compare_answers(rows, decided.settings.scorer, answers, settings.top)
        if not own.rows:
            raise InputError(
                f"no answer has the id of a row; an answer's is {answers[0].tokens.id if answers else 'not there'}",
                where=str(settings.own_answers),
                fix="tokensieve generate for the same task and split",
            )
    return Inspection(
        source=source,
        policy=decided.settings.policy,
        model=rows.manifest.model,
        profile=found.whole,
        sources=found.sources,
        classes=found.classes,
        most_masked=found.most_masked,
        most_affected=found.most_affected,
        near=found.near,
        protected=found.protected,
        own_answers=own,
        advice=advise(Facts(found, _traits(decided.settings.policy), own)),
        dropped=dict(rows.manifest.counts.dropped),
    )


@dataclass(frozen=True, slots=True)
class _Decided:
    """A selection's settings and facts, as its manifest tells them."""

    settings: SelectSettings
    threshold_nats: float
    error_nats: float
    structure: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, rows: Rows[Selected]) -> "_Decided":
        """Read the manifest."""
        written, facts = rows.manifest.settings, rows.manifest.facts
        known = {key: value for key, value in written.items() if key in SelectSettings.model_fields}
        if known.get("paper_exact"):
            known.pop("protect", None)
        threshold = facts.get("threshold_nats")
        error = facts.get("nll_error_nats")
        return cls(
            settings=SelectSettings.model_validate(known),
            threshold_nats=float(threshold) if isinstance(threshold, int | float) else math.inf,
            error_nats=float(error) if isinstance(error, int | float) else 1e-5,
            structure=rows.manifest.fact("structure_ids", dict[str, list[int]]) or {},
        )


def _traits(policy: str) -> Traits:
    """A policy's answers about itself; those of none in particular for a function of the user's own."""
    try:
        return parse_policy(policy).traits
    except InputError:
        return Traits()


# --- own answers -----------------------------------------------------------------------------------------------------


def score_answers(folder: Path, model: "LoadedModel | ModelSettings | str") -> list[Scored]:
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
