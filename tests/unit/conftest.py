"""Fixtures of unit tests: the sandbox of this machine, and the published benchmark rows, where a machine has them."""

import os
from pathlib import Path

import pytest

from tokensieve.errors import EnvironmentProblem
from tokensieve.sandbox import describe


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the benchmarks as published: ``TOKENSIEVE_DATA``, else ``shared/data`` beside the repository."""
    named = os.environ.get("TOKENSIEVE_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no benchmark data at {folder}; TOKENSIEVE_DATA names another place")
    return folder


@pytest.fixture(scope="session")
def sandbox() -> str:
    """The kind of sandbox that this machine has; tests that run code skip where it has none."""
    try:
        return describe()
    except EnvironmentProblem as error:
        pytest.skip(f"no sandbox here: {error}")
