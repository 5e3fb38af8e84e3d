"""Functions of the user's own, named as ``file.py:name``."""

import hashlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

from tokensieve.errors import InputError


def load_function(place: str, folder: Path, where: str) -> Callable[..., object]:
    """Import a function from a Python file.

    Args:
        place: ``file.py:name``.
        folder: the file's path is relative to it.
        where: the setting, for messages.

    Raises:
        InputError: no such file or function, or importing the file fails.
    """
    file_name, colon, name = place.rpartition(":")
    file = folder / file_name
    if not colon or not file.is_file():
        raise InputError(f"expected file.py:name in {folder.absolute()}, got {place!r}", where=where)
    function = getattr(_module(file, where), name, None)
    if not callable(function):
        raise InputError(f"{file_name} has no function {name!r}", where=where)
    found: Callable[..., object] = function
    return found


def _module(file: Path, where: str) -> ModuleType:
    """The file as a module; two files of one name are two modules."""
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    spec = importlib.util.spec_from_file_location(f"tokensieve_user_{file.stem}_{digest}", file)
    if spec is None or spec.loader is None:
        raise InputError(f"{file} is no Python file", where=where)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise InputError(f"importing {file} raised {type(error).__name__}: {error}", where=where) from error
    return module
