"""Which rows go through the model together; depends on the rows and the token budget, on nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tokensieve.scoring._request import Request

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
    """

    requests: tuple[Request, ...]
    shared: int = 0

    def halves(self) -> tuple["Batch", "Batch"]:
        """A batch that did not fit, in two."""
        middle = len(self.requests) // 2
        return Batch(self.requests[:middle], self.shared), Batch(self.requests[middle:], self.shared)


def batches(requests: Sequence[Request], token_budget: int, *, share: bool = False, pack: bool = False) -> list[Batch]:
    """Rows of similar length together, so that little of a batch is padding; the longest batch comes first.

    Args:
        requests: at least one place each.
        token_budget: most tokens in a batch, padding included; a longer row is a batch of its own.
        share: whether rows that begin alike are put together to run that beginning once.
        pack: whether rows will be laid end to end, so that there is no padding to count.

    Returns:
        Batches that hold every request once. Equal requests in equal order give equal batches.
    """
    families, singles = _families(requests) if share else ({}, list(requests))
    planned = _filled(singles, token_budget, shared=0, pack=pack)
    for shared, members in families.items():
        planned += _filled(members, token_budget, shared=shared[0], pack=False)
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


def _filled(requests: Sequence[Request], token_budget: int, *, shared: int, pack: bool) -> list[Batch]:
    lengths = [len(request.inputs_T) - shared for request in requests]
    order = sorted(range(len(requests)), key=lambda index: (-lengths[index], index))
    planned: list[list[Request]] = []
    longest, tokens = 0, 0
    for index in order:
        size = tokens + lengths[index] if pack else (len(planned[-1]) + 1) * longest if planned else 0
        if planned and size <= token_budget:
            planned[-1].append(requests[index])
            tokens += lengths[index]
        else:
            planned.append([requests[index]])
            longest = tokens = lengths[index]
    return [Batch(tuple(batch), shared) for batch in planned]
