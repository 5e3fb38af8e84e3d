"""Training rows and flips for the page's browsers: a stable draw, and the data that the page's script reads."""

import hashlib
import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from tokensieve.analysis import PERPLEXITY_STEPS
from tokensieve.report.browser_schema import WORDS, SampleRow
from tokensieve.report.schema import ArmReport, Report, TargetReport
from tokensieve.types import BASE_SCORER, JSON, BoolArray, FloatArray, IntArray, Selected, Tokens

ROWS: Final = 24
"""Rows of an arm that the page shows by default."""
TOKENS: Final = 1200
"""Tokens of a row that the page shows by default."""
TOKENS_ON_PAGE: Final = 70_000
"""Tokens of all arms' rows in the token browser, each at about 30 bytes; the first row of an arm is always there."""


def sample_rows(
    rows: Iterable[Selected],
    piece: Callable[[int], str],
    *,
    limit: int = ROWS,
    max_tokens: int = TOKENS,
    scorer: str = BASE_SCORER,
    protected_T: Callable[[Tokens], BoolArray] | None = None,
    preferred: Callable[[Sequence[Tokens]], Sequence[IntArray]] | None = None,
    tuned: Mapping[str, FloatArray] | None = None,
) -> tuple[SampleRow, ...]:
    """Draw rows for the token browser in one pass, keeping ``limit`` of them in memory.

    The draw depends on the rows' ids and nothing else. Longer rows are shown from their beginning, and say how much
    is not shown.

    Args:
        rows: an arm's training set.
        piece: token id to text.
        limit: how many rows.
        max_tokens: how much of each.
        scorer: whose nll is shown.
        protected_T: a row's protected tokens; None is its end-of-turn tokens.
        preferred: the base's likeliest tokens at the places of some rows, as ``preferred_ids`` gives them; None leaves
            them out.
        tuned: nll of the rows' tokens under the arm's trained model, by row id; without it those of another scorer than
            ``scorer`` are shown, where the rows have one.

    Raises:
        InputError: a row without scores of that name.
    """
    drawn = drawn_rows(rows, limit)
    protected = protected_T or (lambda tokens: tokens.ends_turn_T)
    likeliest = [None] * len(drawn) if preferred is None else preferred([row.tokens for row in drawn])
    return tuple(
        _sample_row(row, piece, max_tokens, scorer, protected(row.tokens), ids_T, (tuned or {}).get(row.tokens.id))
        for row, ids_T in zip(drawn, likeliest, strict=True)
    )


def drawn_rows(rows: Iterable[Selected], limit: int = ROWS) -> list[Selected]:
    """The rows that are shown: those of the lowest digests of their ids, so that any training set draws alike."""
    return heapq.nsmallest(limit, rows, key=lambda row: hashlib.sha256(row.tokens.id.encode()).digest())


def _sample_row(
    row: Selected,
    piece: Callable[[int], str],
    max_tokens: int,
    scorer: str,
    protected_T: BoolArray,
    preferred_T: IntArray | None,
    tuned_T: FloatArray | None,
) -> SampleRow:
    tokens, shown = row.tokens, slice(max_tokens)
    scores = row.scored.scores.get(scorer)
    nll_T = row.scored.nll_T(scorer)[shown]
    tuned = "the trained model"
    if tuned_T is None:
        tuned = next((name for name in row.scored.scores if name != scorer), "")
        tuned_T = row.scored.nll_T(tuned) if tuned else None
    entropy_T, rank_T = (None, None) if scores is None else (scores.entropy_T, scores.rank_T)
    return SampleRow(
        id=tokens.id,
        pieces=tuple(piece(int(token)) for token in tokens.ids_T[shown]),
        nll=_rounded(nll_T, 4),
        entropy=() if entropy_T is None else _rounded(entropy_T[shown], 3),
        rank=() if rank_T is None else tuple(None if rank != rank else int(rank) for rank in rank_T[shown]),
        weight=() if row.weight_T is None else tuple(round(float(weight), 3) for weight in row.weight_T[shown]),
        tuned_nll=() if tuned_T is None else _rounded(tuned_T[shown], 3),
        tuned_name=tuned,
        preferred=() if preferred_T is None else tuple(piece(int(i)) if i >= 0 else "" for i in preferred_T[shown]),
        in_response=tuple(bool(flag) for flag in tokens.in_response_T[shown]),
        train=tuple(bool(flag) for flag in row.train_T[shown]),
        protected=tuple(bool(flag) for flag in protected_T[shown]),
        not_shown=max(0, len(tokens) - max_tokens),
    )


def _rounded(values_T: FloatArray, digits: int) -> tuple[float | None, ...]:
    return tuple(None if value != value else round(float(value), digits) for value in values_T)


def token_data(report: Report) -> JSON:
    """Data of the token browser: each distinct text once, and for every arm the trained tokens as bits.

    Arms with many long rows show the first of them only, so that the page stays small; report.json holds all.
    """
    listed = [arm for target in report.targets for arm in target.arms if arm.samples]
    tokens_left = {id(arm): TOKENS_ON_PAGE // len(listed) for arm in listed}
    texts: list[JSON] = []
    places: dict[tuple[object, ...], int] = {}
    targets: list[JSON] = []
    for target in report.targets:
        arms: list[JSON] = []
        for arm in target.arms:
            rows: list[JSON] = []
            for row in arm.samples:
                tokens_left[id(arm)] -= len(row.pieces)
                if rows and tokens_left[id(arm)] < 0:
                    break
                key = (row.pieces, row.nll, row.in_response, row.protected, row.tuned_nll)
                if key not in places:
                    places[key] = len(texts)
                    nll: list[JSON] = [None if value is None else round(value, 4) for value in row.nll]
                    bits = {"response": _bits(row.in_response), "protected": _bits(row.protected)}
                    texts.append({"pieces": list(row.pieces), "nll": nll, **bits, **_measures(row)})
                shown: dict[str, JSON] = {"id": row.id, "text": places[key], "train": _bits(row.train)}
                if row.weight:
                    shown["weight"] = list(row.weight)
                rows.append({**shown, "notShown": row.not_shown})
            if rows:
                arms.append({"name": arm.name, "rows": rows})
        if arms:
            targets.append({"name": target.title or target.task, "arms": arms})
    return {"targets": targets, "texts": texts, "steps": list(PERPLEXITY_STEPS)}


def _measures(row: SampleRow) -> dict[str, JSON]:
    """Measures of a row beside the nll, as far as they are known: one value a response token, in their order."""
    lists = {"entropy": row.entropy, "rank": row.rank, "tuned": row.tuned_nll, "preferred": row.preferred}
    found: dict[str, JSON] = {
        name: [value for value, inside in zip(values, row.in_response, strict=True) if inside]
        for name, values in lists.items()
        if values
    }
    return {**found, "tunedName": row.tuned_name} if row.tuned_nll else found


def _bits(flags: Sequence[bool]) -> str:
    return "".join("1" if flag else "0" for flag in flags)


def flip_data(report: Report) -> dict[str, JSON] | None:
    """Targets with the problems whose answers flipped, and every arm's flips; None where there are none."""
    targets: list[JSON] = [_flips_of_target(target) for target in report.targets if target.flip_problems]
    if not targets:
        return None
    return {"targets": targets, "words": {str(outcome): word for outcome, word in WORDS.items()}}


def _flips_of_target(target: TargetReport) -> JSON:
    problems: list[JSON] = [
        {
            **problem.model_dump(mode="json", exclude={"nearest"}),
            "nearest": [[near.row, near.cosine] for near in problem.nearest],
        }
        for problem in target.flip_problems
    ]
    rows: list[JSON] = [row.model_dump(mode="json") for row in target.near_rows]
    arms: list[JSON] = [_flips_of_arm(arm) for arm in target.arms if arm.flips]
    return {"name": target.title or target.task, "problems": problems, "rows": rows, "arms": arms}


def _flips_of_arm(arm: ArmReport) -> JSON:
    tasks: list[JSON] = [cell.model_dump(mode="json") for cell in arm.flips]
    return {"name": arm.name, "tasks": tasks}
