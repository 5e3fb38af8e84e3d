"""Fixtures of unit tests: the sandbox of this machine."""

import pytest

from tokensieve.errors import EnvironmentProblem
from tokensieve.sandbox import describe


@pytest.fixture(scope="session")
def sandbox() -> str:
    """The kind of sandbox that this machine has; tests that run code skip where it has none."""
    try:
        return describe()
    except EnvironmentProblem as error:
        pytest.skip(f"no sandbox here: {error}")
