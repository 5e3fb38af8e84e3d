"""Both kinds of walls, for the tests of hostile programs and queries."""

from collections.abc import Iterator

import pytest

from tokensieve.errors import EnvironmentProblem
from tokensieve.sandbox import pool


@pytest.fixture(scope="module", params=["namespaces", "landlock"])
def isolation(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run a whole module behind one kind of walls; skipped with the kernel's words where it does not grant them."""
    kind: str = request.param
    before = pool.pool()
    own = pool.Pool(isolation=kind)
    pool.use(own)
    try:
        with own.parent((), ()):
            pass
    except EnvironmentProblem as error:
        pool.use(before)
        pytest.skip(f"no sandbox by {kind} here: {error}")
    yield kind
    own.close()
    pool.use(before)
