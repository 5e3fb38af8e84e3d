"""Functions of the user's own, named as ``file.py:name``."""

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
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


def function_digest(place: str, folder: Path) -> str:
    """Digest of the code behind a function, 64 hex digits: its file, and the user's own modules that this imports.

    Own are the modules in the file's folder and below it that import statements name, wherever in the code they stand,
    and those that these import in turn. Installed packages, and modules whose names are made at run time, are not
    followed. Nothing is run. Without own modules it is the SHA-256 of the file.

    Args:
        place: ``file.py:name``.
        folder: the file's path is relative to it.

    Raises:
        OSError: the file cannot be read.
    """
    file = folder / place.rpartition(":")[0]
    digest = hashlib.sha256(file.read_bytes())
    for module in _own_modules(file):
        name = module.relative_to(file.parent).as_posix()
        digest.update(f"\n{name} {hashlib.sha256(module.read_bytes()).hexdigest()}".encode())
    return digest.hexdigest()


def _own_modules(file: Path) -> list[Path]:
    """Files of the modules that a file imports from its own folder, and of those that these import, sorted."""
    found, waiting = {file}, [file]
    while waiting:
        one = waiting.pop()
        for parts in _imported(one, file.parent):
            for end in range(1, len(parts) + 1):  # importing a.b runs a too
                stem = file.parent.joinpath(*parts[:end])
                new = {path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()} - found
                found |= new
                waiting += new
    return sorted(found - {file})


def _imported(file: Path, root: Path) -> Iterator[tuple[str, ...]]:
    """Names that a file's import statements may take for modules, in parts, as seen from a folder."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):  # importing it says so
        return
    package = file.parent.relative_to(root).parts
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level <= len(package) + 1:
            start = package[: len(package) + 1 - node.level] if node.level else ()
            module = (*start, *(node.module.split(".") if node.module else ()))
            yield from ((*module, alias.name) for alias in node.names)


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
        beside = isinstance(error, ModuleNotFoundError) and _own_modules(file)
        fix = f"PYTHONPATH={file.parent.absolute()} before the command, for modules beside the file" if beside else None
        raise InputError(f"importing {file} raised {type(error).__name__}: {error}", where=where, fix=fix) from error
    return module
