"""Select: a policy's decision on every row, with the account of what it left out; and rows mixed in whole."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from tokensieve.config import ModelSettings, SelectSettings, as_settings
from tokensieve.data.dataset import Rows, as_rows
from tokensieve.data.manifest import Counts, Manifest, ModelIdentity, package_versions
from tokensieve.data.row_counts import Tally
from tokensieve.errors import InputError
from tokensieve.pipeline.load import STRUCTURE_IDS, tokenizer_of
from tokensieve.pipeline.mix import mix_digest, mixed_in, parse_mix
from tokensieve.pipeline.rows import WEIGHTED_ROWS, collect, first
from tokensieve.selection import Policy, PolicyLike, Rule, as_policy, code_digest, fit, parse_policy, select_tokens
from tokensieve.selection.combine import UserFunction
from tokensieve.types import JSON, IntArray, Scored, Scores, Selected

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NOTHING_LEFT: Final = "no token left to train"
_PAPERS_THRESHOLD_NATS: Final = math.log(2.5)

_ERROR_NATS: Final = {"float32": 1e-5, "tf32": 2e-3, "float16": 0.02, "bfloat16": 0.1}
"""Rounding error (nats) of the nll of about 99 % of the tokens, by the dtype of backbone or LM head: float32 is tested,
the 16-bit ones were measured on pocket, tf32 is taken from its digits. ``tokensieve compare-backends`` measures one."""

_ERROR_OF_OTHER_BACKENDS_NATS: Final = 0.3
"""vLLM against transformers, at most, as its users report."""


def select(
    scored: Rows[Scored] | str | Path,
    settings: SelectSettings | PolicyLike | Mapping[str, object] = SelectSettings(),
    out: str | Path | None = None,
    *,
    policy: PolicyLike | None = None,
    mix: str | None = None,
    limit: int | None = None,
    tokenizer: "PreTrainedTokenizerBase | None" = None,
) -> Rows[Selected]:
    """Decide which tokens teach.

    Args:
        scored: rows with the scores that decide, or their folder.
        settings: policy, scorer, protection and seed, also as a dict; or the policy alone: its text (``"stm:2.5"``),
            an object such as ``Stm(2.5)``, or a function of a scored row that gives flags or weights ``[T]``.
        out: folder for the result; None keeps it in memory.
        policy: the policy as an object or a function, in place of the settings' text.
        mix: ``FOLDER:SHARE``: rows that ``generate``, ``score`` or ``select`` has made, or anchors, mixed in with every
            response token trained, so many that they make up that share of the result's rows; drawn by the seed.
        limit: the first N rows only.
        tokenizer: of the rows, for a policy that reads the tokens' texts; None loads it by the model's name.

    Returns:
        The rows; those left without a trained token are dropped and counted. The manifest's facts tell the
        threshold (nats), the response, trained and protected tokens, the shares left out, the share of the kept nll
        that protected tokens hold, how many of the tokens above the threshold (2.5 where the policy has none) are white
        space that a normalisation would change, and how many lie so near to it that rounding decides
        (``nll_error_nats``, of the dtype and the backend they were scored in).

    Raises:
        InputError: rows without scores, a policy or mix that cannot be read, or a response token without a score; a
            policy that reads texts, where the tokenizer is not that of the rows.
    """
    scored = as_rows(Scored, scored)
    if isinstance(settings, Mapping):
        settings = as_settings(SelectSettings, settings, "settings")
    settings, chosen = _policy_of(settings, policy)
    rows = first(scored, limit)
    facts = scored.manifest.facts
    structure = scored.manifest.fact(STRUCTURE_IDS, dict[str, list[int]])
    top_k = scored.manifest.fact("entropy_top_k", dict[str, int])
    piece = _piece(scored.manifest.model, tokenizer) if chosen.traits.token_texts else None
    rule = fit(settings, lambda: iter(rows), policy=chosen, structure=structure, top_k=top_k, piece=piece)
    error_nats = _nll_error(scored.manifest, settings.scorer)
    code = code_digest(chosen)  # an input: in a folder of another function's result nothing may be taken for this one's
    sums = _Sums(rule, error_nats, _white_space(scored.manifest))
    manifest = Manifest(
        stage="selected",
        settings={**settings.model_dump(mode="json"), "mix": mix, "limit": limit},
        inputs={"scored": scored.manifest.digest, **mix_digest(mix), **({"policy": code} if code else {})},
        model=scored.manifest.model,
        versions=dict(package_versions()),
        seed=settings.seed,
        facts={
            "threshold_nats": rule.threshold_nats if math.isfinite(rule.threshold_nats) else None,
            "noted": facts.get("noted", {}),
            "structure_known": structure is not None,
            STRUCTURE_IDS: facts.get(STRUCTURE_IDS),
        },
    )
    weighted = bool(facts.get(WEIGHTED_ROWS))
    selected = (_with_loss_weights(row, weighted) for row in _selected(rows, rule, mix, sums, scored.manifest.model))
    return collect(selected, manifest, None if out is None else Path(out), lambda: (sums.counts(), sums.facts()))


def _piece(model: ModelIdentity | None, tokenizer: "PreTrainedTokenizerBase | None") -> Callable[[int], str]:
    """Token id to text by the tokenizer that made the rows; empty for special tokens.

    Raises:
        InputError: nobody knows whose tokens the rows are, or the model's tokenizer is another one by now.
    """
    from tokensieve.data.hashing import tokenizer_digest

    if tokenizer is None:
        if model is None:
            raise InputError(
                "the policy reads the tokens' texts, and it is not known whose tokens the rows are",
                where="policy",
                fix="select(…, tokenizer=TOKENIZER)",
            )
        tokenizer, _ = tokenizer_of(ModelSettings(model=model.name, revision=model.revision))
    if model is not None and tokenizer_digest(tokenizer) != model.tokenizer_digest:
        raise InputError(
            f"the policy reads the tokens' texts, and the tokenizer of {model.name} is not the one that made the rows",
            where="policy",
            fix="load and score the data again, or select(…, tokenizer=TOKENIZER)",
        )
    return lru_cache(maxsize=None)(lambda token: str(tokenizer.decode([token], skip_special_tokens=True)))


def _policy_of(settings: SelectSettings | PolicyLike, policy: PolicyLike | None) -> tuple[SelectSettings, Policy]:
    """The settings with the policy's text as it is written, and the policy itself.

    Raises:
        InputError: the policy's text is wrong.
    """
    given = policy if policy is not None else settings
    rest = settings if isinstance(settings, SelectSettings) else SelectSettings()
    if isinstance(given, SelectSettings):
        return given, parse_policy(given.policy)
    chosen = as_policy(given)
    text = given if isinstance(given, str) else chosen.place if isinstance(chosen, UserFunction) else repr(chosen)
    return rest.model_copy(update={"policy": text}), chosen


@dataclass(slots=True)
class _Sums:
    """Sums over a selection's rows while they go by.

    Attributes:
        rule: tells the threshold above which a token counts as one of high perplexity, and what is protected.
        error_nats: how far a score may be from the exact one.
        white_space: ids of tokens that a normalisation of white space changes, by its name.
    """

    rule: Rule
    error_nats: float
    white_space: Mapping[str, IntArray]
    response: int = 0
    trained: int = 0
    mixed_rows: int = 0
    protected: int = 0
    nll: float = 0.0
    nll_kept: float = 0.0
    nll_protected: float = 0.0
    shares: float = 0.0
    kept: int = 0
    tally: Tally = field(default_factory=Tally)
    high: int = 0
    near: int = 0
    high_white_space: Counter[str] = field(default_factory=Counter)

    def add(self, row: Selected, scorer: str) -> None:
        in_response_T = row.tokens.in_response_T
        response, trained = int(in_response_T.sum()), int(row.train_T.sum())
        self.response += response
        self.trained += trained
        self.shares += 1 - trained / response if response else 0.0
        protected_T = self.rule.protected_T(row.tokens)
        self.protected += int(protected_T.sum())
        if scorer in row.scored.scores:
            nll_T = row.scored.nll_T(scorer)
            # Rows that are mixed in need no scores.
            kept_T = nll_T * (row.train_T if row.weight_T is None else row.weight_T)
            self.nll += float(np.nansum(nll_T[in_response_T], dtype="float64"))
            self.nll_kept += float(np.nansum(kept_T[in_response_T], dtype="float64"))
            self.nll_protected += float(np.nansum(kept_T[protected_T], dtype="float64"))
            high_nats = _high_nats(self.rule)
            high_ids = row.tokens.ids_T[in_response_T & (nll_T > high_nats)]
            self.high += len(high_ids)
            self.near += int((np.abs(nll_T[in_response_T] - high_nats) <= self.error_nats).sum())
            for kind, ids in self.white_space.items():
                self.high_white_space[kind] += int(np.isin(high_ids, ids).sum())

    def counts(self) -> Counts:
        return self.tally.counts

    def facts(self) -> dict[str, JSON]:
        return {
            "response_tokens": self.response,
            "trained_tokens": self.trained,
            "mixed_rows": self.mixed_rows,
            "left_out_pooled": 1 - self.trained / self.response if self.response else 0.0,
            "left_out_mean_per_row": self.shares / self.tally.rows_in if self.tally.rows_in else 0.0,
            "left_out_nll": 1 - self.nll_kept / self.nll if self.nll else 0.0,
            "protected_tokens": self.protected,
            "protected_share_of_kept_nll": self.nll_protected / self.nll_kept if self.nll_kept > 0 else 0.0,
            "high_perplexity_tokens": self.high,
            "near_threshold_tokens": self.near,
            "nll_error_nats": self.error_nats,
            "high_perplexity_white_space": {kind: self.high_white_space[kind] for kind in self.white_space},
        }


def _high_nats(rule: Rule) -> float:
    """The policy's threshold; for a policy without one, that of the paper."""
    return rule.threshold_nats if math.isfinite(rule.threshold_nats) else _PAPERS_THRESHOLD_NATS


def _nll_error(scored: Manifest, scorer: str) -> float:
    """Error bound (nats) of the scores that decide, by the backend and dtype that computed them."""
    scorers = scored.fact("scorers", dict[str, dict[str, object]]) or {}
    made_by = scorers.get(scorer) or (scored.model.model_dump() if scored.model else {})
    if made_by.get("backend", "transformers") != "transformers":
        return _ERROR_OF_OTHER_BACKENDS_NATS
    return (
        max(_ERROR_NATS.get(str(made_by.get(part, "")), 0.0) for part in ("dtype", "head_dtype"))
        or _ERROR_NATS["float32"]
    )


def _white_space(scored: Manifest) -> Mapping[str, IntArray]:
    """Ids of white-space tokens that ``load`` found in the data; empty where it did not make the rows."""
    found = scored.fact("white_space_ids", dict[str, list[int]]) or {}
    return {kind: np.asarray(ids, dtype=np.int32) for kind, ids in found.items()}


def _with_loss_weights(row: Selected, always: bool) -> Selected:
    """The row with the loss weights of its turns: on their own, or as a factor of a soft policy's weights.

    Args:
        row: after the policy.
        always: give weights to a row that has none too, as trainers want them of all rows or of none.
    """
    if not always and row.tokens.loss_weight_T is None:
        return row
    weight_T = row.train_T.astype(np.float32) if row.weight_T is None else row.weight_T
    turn_T = row.tokens.loss_weight_T
    return replace(row, weight_T=weight_T if turn_T is None else np.where(row.train_T, weight_T * turn_T, 0))


def _selected(
    rows: Rows[Scored], rule: Rule, mix: str | None, sums: _Sums, model: ModelIdentity | None
) -> Iterator[Selected]:
    like: Mapping[str, Scores] = {}
    for row in rows:
        like = like or row.scores
        chosen = select_tokens(row, rule)
        sums.tally.take()
        sums.add(chosen, rule.settings.scorer)
        if chosen.train_T.any():
            sums.kept += 1
            yield chosen
        else:
            sums.tally.drop(NOTHING_LEFT, row.tokens.id)
    if mix is not None:
        for extra in mixed_in(*parse_mix(mix), sums.kept, rule.settings.seed, model, like):
            sums.tally.take()
            sums.mixed_rows += 1
            if rule.weighted:  # a trainer takes weights for all rows or for none
                extra = replace(extra, weight_T=extra.train_T.astype(np.float32))
            sums.add(extra, rule.settings.scorer)
            yield extra
