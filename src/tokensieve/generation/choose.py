"""Which of a prompt's answers becomes training data: pure functions of samples and their perplexities."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from tokensieve.types import Outcome, Sample

Rule: TypeAlias = Literal["lowest-perplexity", "random", "shortest", "first"]

_FALSE = (Outcome.WRONG, Outcome.NO_ANSWER)


def usable(sample: Sample) -> bool:
    """True for a sample that may become training data: not empty, and ended by the model.

    One that the length limit ended has no end-of-turn token, so it would teach not to stop, and the rest of it is not
    known; a correct one is left out too.
    """
    return sample.finished and bool(sample.text.strip())


def correct_ones(samples: Sequence[Sample]) -> list[Sample]:
    """The usable samples that their checker found correct."""
    return [s for s in samples if usable(s) and s.verdict is not None and s.verdict.correct]


def wrong_ones(samples: Sequence[Sample]) -> list[Sample]:
    """The usable samples that were judged and not found correct."""
    return [s for s in samples if usable(s) and s.verdict is not None and s.verdict.outcome in _FALSE]


def choose(candidates: Sequence[Sample], rule: Rule, seed: int, nll: Mapping[int, float]) -> Sample | None:
    """One of a prompt's candidates; None where there is none. Equal ones are decided by number.

    Args:
        candidates: samples of one prompt.
        rule: lowest mean nll, at random, fewest tokens, or the first drawn.
        seed: of the random rule.
        nll: sample number to mean nll in nats; read by the rule lowest-perplexity only, NaN comes last.
    """
    if not candidates:
        return None
    if rule == "lowest-perplexity":
        return min(candidates, key=lambda s: (nll[s.index] != nll[s.index], nll[s.index], s.index))
    if rule == "random":
        return min(candidates, key=lambda s: _lot(seed, s.problem_id, s.index))
    if rule == "shortest":
        return min(candidates, key=lambda s: (len(s.ids) or len(s.text), s.index))
    return min(candidates, key=lambda s: s.index)


def want_correct(available: Mapping[str, tuple[bool, bool]], share: float, seed: int) -> dict[str, bool]:
    """For each prompt whether its answer is to be a correct one, so that ``share`` of them are.

    A prompt that has answers of one kind only gives that kind, except at a share of 0 or 1, which takes nothing else
    and so leaves it without an answer. Those that have both kinds fill up the share, drawn by lot.

    Args:
        available: prompt id to whether it has correct answers and whether it has wrong ones.
        share: fraction of prompts.
        seed: of the lots.
    """
    if share in (0, 1):
        return dict.fromkeys(available, share == 1)
    answered = [key for key, kinds in available.items() if any(kinds)]
    wanted = {key: kinds == (True, False) for key, kinds in available.items()}
    both = sorted((key for key in answered if all(available[key])), key=lambda key: _lot(seed, key, 0))
    missing = round(share * len(answered)) - sum(wanted.values())
    return wanted | {key: place < missing for place, key in enumerate(both)}


def _lot(seed: int, problem_id: str, index: int) -> bytes:
    return hashlib.blake2b(f"{seed}\0{problem_id}\0{index}".encode(), digest_size=8).digest()
