"""The public names of ``import tokensieve``."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import tokensieve

SOURCE = Path(tokensieve.__file__).read_text(encoding="utf-8")


def test_what_type_checkers_see_is_what_is_there() -> None:
    (block,) = (node for node in ast.parse(SOURCE).body if isinstance(node, ast.If))
    seen = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert seen == set(tokensieve.__all__)


@pytest.mark.parametrize("name", tokensieve.__all__)
def test_every_public_name_is_there_and_says_what_it_is(name: str) -> None:
    assert getattr(tokensieve, name).__doc__
    assert name in dir(tokensieve)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'skore'"):
        tokensieve.skore  # noqa: B018


def test_importing_the_package_imports_no_heavy_library() -> None:
    heavy = "torch", "transformers", "datasets", "trl", "peft", "pyarrow", "numpy"
    code = f"import sys, tokensieve; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
