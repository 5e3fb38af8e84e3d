"""Which rows go through the model together; depends on the rows and the token budget, on nothing else."""

from collections.abc import Sequence

from tokensieve.scoring._request import Request


def batches(requests: Sequence[Request], token_budget: int) -> list[list[Request]]:
    """Rows of similar length together, so that little of a batch is padding; the longest batch comes first.

    Args:
        requests: at least one place each.
        token_budget: most tokens in a batch, padding included; a longer row is a batch of its own.

    Returns:
        Batches that hold every request once. Equal requests in equal order give equal batches.
    """
    order = sorted(range(len(requests)), key=lambda index: (-len(requests[index].inputs_T), index))
    planned: list[list[Request]] = []
    longest = 0
    for index in order:
        if planned and (len(planned[-1]) + 1) * longest <= token_budget:
            planned[-1].append(requests[index])
        else:
            planned.append([requests[index]])
            longest = len(requests[index].inputs_T)
    return planned


def halves(batch: list[Request]) -> tuple[list[Request], list[Request]]:
    """A batch that did not fit, in two."""
    middle = len(batch) // 2
    return batch[:middle], batch[middle:]
