"""Which rows go through the model together; depends on the rows and the token budget, on nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from tokensieve.scoring.request import Request

_LEAST_SHARED: Final = 16
_LEAST_SAVED: Final = 0.25
"""A prompt is run once for its responses where it is this long and that saves this share of their tokens; reading
from a cache has costs of its own."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows that go through the model together.

    Attributes:
        requests: the rows.
        shared: number of leading tokens that all of them have in common and that are run only once.
        packed: whether they lie end to end in one sequence rather than padded below each other.
    """

    requests: tuple[Request, ...]
    shared: int = 0
    packed: bool = False

    def halves(self) -> tuple["Batch", "Batch"]:
        """A batch that did not fit, in two."""
        middle = len(self.requests) // 2
        return replace(self, requests=self.requests[:middle]), replace(self, requests=self.requests[middle:])


@dataclass(frozen=True, slots=True)
class Layout:
    """How a model may be given its rows.

    Attributes:
        shares: rows that begin alike may be put together to run that beginning once.
        packs: rows may be laid end to end.
        longest_packed: only rows shorter than this; None where length does not matter.
    """

    shares: bool = False
    packs: bool = False
    longest_packed: int | None = None

    def may_pack(self, request: Request) -> bool:
        """Whether a row may lie in a packed sequence."""
        return self.packs and (self.longest_packed is None or len(request.inputs_T) < self.longest_packed)


def batches(requests: Sequence[Request], token_budget: int, layout: Layout = Layout()) -> list[Batch]:
    """Rows of similar length together, so that little of a batch is padding; the longest batch comes first.

    Args:
        requests: at least one place each.
        token_budget: most tokens in a batch, padding included; a longer row is a batch of its own.
        layout: what the model allows.

    Returns:
        Batches that hold every request once. Equal requests in equal order give equal batches.
    """
    families, singles = _families(requests) if layout.shares else ({}, list(requests))
    planned = _filled([one for one in singles if layout.may_pack(one)], token_budget, packed=True)
    planned += _filled([one for one in singles if not layout.may_pack(one)], token_budget)
    for (shared, _), members in families.items():
        planned += _filled(members, token_budget, shared=shared)
    return planned


def _families(
    requests: Sequence[Request],
) -> tuple[dict[tuple[int, bytes], list[Request]], list[Request]]:
    """Rows by the tokens before their first place, where running those once pays; and all other rows."""
    by_prompt: dict[tuple[int, bytes], list[Request]] = {}
    for request in requests:
        shared = int(request.sources_N[0])  # the first source itself has to be run for each
        by_prompt.setdefault((shared, request.ids_T[:shared].tobytes()), []).append(request)
    families: dict[tuple[int, bytes], list[Request]] = {}
    singles: set[int] = set()
    for key, members in by_prompt.items():
        saved = key[0] * (len(members) - 1)
        if key[0] >= _LEAST_SHARED and saved >= _LEAST_SAVED * sum(len(one.inputs_T) for one in members):
            families[key] = members
        else:
            singles.update(id(one) for one in members)
    return families, [request for request in requests if id(request) in singles]


def _filled(requests: Sequence[Request], token_budget: int, *, shared: int = 0, packed: bool = False) -> list[Batch]:
    lengths = [len(request.inputs_T) - shared for request in requests]
    order = sorted(range(len(requests)), key=lambda index: (-lengths[index], index))
    planned: list[list[Request]] = []
    longest, tokens = 0, 0
    for index in order:
        size = tokens + lengths[index] if packed else (len(planned[-1]) + 1) * longest if planned else 0
        if planned and size <= token_budget:
            planned[-1].append(requests[index])
            tokens += lengths[index]
        else:
            planned.append([requests[index]])
            longest = tokens = lengths[index]
    return [Batch(tuple(batch), shared, packed) for batch in planned]
