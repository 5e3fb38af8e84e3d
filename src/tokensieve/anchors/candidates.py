"""Candidates for anchors: dialogues, the base's own answers, rows, plain text; those left out are counted."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokensieve.config import AnchorSettings, DataSettings, DriftSettings, GenerateSettings
from tokensieve.data.dataset import Rows, in_memory
from tokensieve.data.hashing import seeded_hash
from tokensieve.data.manifest import Counts, Manifest, digest_of
from tokensieve.drift.probe_rows import TASK_PREFIX, answer_rows, counted_since, dialogue_rows, text_rows
from tokensieve.errors import InputError
from tokensieve.generation import generate
from tokensieve.models import LoadedModel
from tokensieve.pipeline import first, load
from tokensieve.pipeline.rows import tell_unread
from tokensieve.tasks import get_task, split_name
from tokensieve.types import IntArray, Progress, Tokens

SAME_TOKENS: Final = "same tokens as another"
NEARLY_SAME_TOKENS: Final = "nearly the same tokens as another"
EMPTY: Final = "no response token"
_SPLIT: Final = "train"

_NEAR: Final = 0.8
"""Share of the n-grams of two rows that both have (Jaccard), from which on they count as nearly the same."""
_NGRAM: Final = 4
"""Tokens of an n-gram: of 100 tokens two may differ, in different places, for a share of 0.8."""
_BANDS: Final = 16
_BAND_HASHES: Final = 4
"""Two rows of share 0.8 meet in one of 16 bands of 4 hashes with probability 0.9998, two of share 0.3 with 0.12."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Rows to choose anchors from.

    Attributes:
        rows: each with a response token, no two with the same or nearly the same tokens.
        drawn: rows there were before any was left out.
        dropped: rows left out, by reason.
    """

    rows: tuple[Tokens, ...]
    drawn: int
    dropped: Mapping[str, int]


def find_candidates(
    base: LoadedModel, settings: AnchorSettings, work: Path, progress: Progress | None = None
) -> Candidates:
    """The rows that the settings' source gives, each with tokens of its own: of near-duplicates the first is kept.

    Args:
        base: the model, which writes dialogues and answers.
        settings: source, data, number and sampling.
        work: folder that keeps drawn rows.
        progress: called with the drawn turns or prompts and those in all.

    Raises:
        InputError: a source without its data, a task's split that is not for training, or as in drawing and reading.
    """
    rows = _SOURCES[settings.source](base, settings, candidates_folder(base, settings, work), progress)
    kept, seen, dropped = [], SeenRows(), dict(rows.manifest.counts.dropped)
    for row in rows:
        reason = seen.add(row.ids_T) if row.in_response_T[1:].any() else EMPTY
        if reason is None:
            kept.append(row)
        else:
            dropped[reason] = dropped.get(reason, 0) + 1
    return Candidates(tuple(kept), rows.manifest.counts.rows_in, dropped)


class SeenRows:
    """Rows by their tokens, to find those that share all or nearly all n-grams with an earlier one.

    Rows that may be alike are found by MinHash with bands (Broder 1997; Leskovec et al., Mining of Massive Datasets,
    chapter 3), and are then compared n-gram by n-gram, so that none is left out for a chance of hashing.
    """

    def __init__(self) -> None:
        self._exact: set[bytes] = set()
        self._grams: list[NDArray[np.uint64]] = []
        self._bands: dict[bytes, list[int]] = {}
        rng = np.random.default_rng(0)  # fixed, so that a call always leaves out the same rows
        self._factors_H = rng.integers(1, 2**63, size=_BANDS * _BAND_HASHES, dtype=np.uint64) * 2 + 1

    def add(self, ids_T: IntArray) -> str | None:
        """Why the row is left out; None where it is unlike all that were added before, and it is then one of them."""
        key = ids_T.tobytes()
        if key in self._exact:
            return SAME_TOKENS
        self._exact.add(key)
        grams = _ngrams(ids_T)
        # Multiplication by an odd number permutes the 64-bit numbers; its high bits are well mixed.
        least_H = (grams[None, :] * self._factors_H[:, None]).min(1).reshape(_BANDS, _BAND_HASHES)
        bands = [bytes([band]) + least.tobytes() for band, least in enumerate(least_H)]
        near = {index for band in bands for index in self._bands.get(band, ())}
        if any(_share(grams, self._grams[index]) >= _NEAR for index in near):
            return NEARLY_SAME_TOKENS
        for band in bands:
            self._bands.setdefault(band, []).append(len(self._grams))
        self._grams.append(grams)
        return None


def _ngrams(ids_T: IntArray) -> NDArray[np.uint64]:
    """Hashes of the row's n-grams, each once; of a row shorter than one n-gram a hash of the whole row."""
    size = min(_NGRAM, len(ids_T))
    windows_ND = np.lib.stride_tricks.sliding_window_view(ids_T.astype(np.uint64), size)
    hashes_N = np.zeros(len(windows_ND), dtype=np.uint64)
    for place in range(size):
        hashes_N = (hashes_N ^ windows_ND[:, place]) * np.uint64(0x9E3779B97F4A7C15)
        hashes_N ^= hashes_N >> np.uint64(29)
    return np.unique(hashes_N)


def _share(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> float:
    """Share of the hashes of two sorted lists that both have."""
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)


def candidates_folder(base: LoadedModel, settings: AnchorSettings, work: Path) -> Path:
    """Folder of the drawn rows, named after all that decides them."""
    read = ("source", "data", "candidates", "n", "max_new_tokens", "temperature", "seed")
    drawn = {"base": base.identity.model_dump(mode="json"), **settings.model_dump(mode="json", include=set(read))}
    return work / f"candidates-{digest_of(drawn)[:12]}"


def _sampling(settings: AnchorSettings) -> DriftSettings:
    """The settings of drawing; the seed is one of the anchors' own, so that drift is not measured on the same draws."""
    return DriftSettings(
        dialogues=settings.candidates,
        limit=settings.candidates,
        temperature=settings.temperature,
        max_new_tokens=settings.max_new_tokens,
        seed=int.from_bytes(seeded_hash(settings.seed, "anchors")[:4], "big"),
    )


def _dialogues(base: LoadedModel, settings: AnchorSettings, out: Path, progress: Progress | None) -> Rows[Tokens]:
    return dialogue_rows(base, _sampling(settings), out, progress)


def _answers(base: LoadedModel, settings: AnchorSettings, out: Path, progress: Progress | None) -> Rows[Tokens]:
    prompts = str(settings.data)
    if prompts.startswith(TASK_PREFIX):
        return _checked_answers(prompts, base, settings, out, progress)
    n = settings.n if settings.temperature else 1  # greedy answers are all the same
    return answer_rows(prompts, base, _sampling(settings), out, n=n, progress=progress)


def _checked_answers(
    prompts: str, base: LoadedModel, settings: AnchorSettings, out: Path, progress: Progress | None
) -> Rows[Tokens]:
    """The likeliest correct answer to each training prompt of a task."""
    name, split = split_name(prompts.removeprefix(TASK_PREFIX))
    if split not in ("", _SPLIT):
        raise InputError(
            f"anchors are training data, and {split!r} is a split to measure on",
            where="anchors.data",
            fix=f"--data {TASK_PREFIX}{name}/{_SPLIT}",
        )
    task = get_task(name)
    if task.likelihood_choice is not None or task.windows is not None:
        raise InputError(f"the model writes no answers to {name}", where="anchors.data", fix="another task")
    sampling = _sampling(settings)
    drawing = GenerateSettings.model_validate(
        {
            "arm": "self-output",
            "sampling": {
                "n": settings.n if settings.temperature else 1,
                "temperature": settings.temperature,
                "top_p": 1.0,
                "max_new_tokens": settings.max_new_tokens,
                "seed": sampling.seed,
            },
        }
    )
    examples = generate(name, base, drawing, out / "drawn", limit=settings.candidates, progress=progress)
    rows = load(examples, base, DataSettings(last_turn_only=True), out / "rows")
    return counted_since(examples.manifest.counts, rows)


def _rows(base: LoadedModel, settings: AnchorSettings, _: Path, __: Progress | None) -> Rows[Tokens]:
    data = str(settings.data)
    rows = load(data, base)
    tell_unread(data, rows.manifest.facts.get("noted"))
    return first(rows, settings.candidates)


def _text(base: LoadedModel, settings: AnchorSettings, _: Path, __: Progress | None) -> Rows[Tokens]:
    path = Path(str(settings.data))
    rows = text_rows(path, base.tokenizer, settings.candidates, settings.max_new_tokens)
    return in_memory(rows, Manifest(stage="tokens", model=base.identity, counts=Counts(rows_in=len(rows))))


_Source: TypeAlias = Callable[[LoadedModel, AnchorSettings, Path, Progress | None], Rows[Tokens]]
_SOURCES: Final[Mapping[str, _Source]] = {
    "dialogues": _dialogues,
    "answers": _answers,
    "rows": _rows,
    "text": _text,
}
