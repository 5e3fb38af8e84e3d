"""Recipes: a study's settings as YAML, shipped in the package and run by name, or a file of the user's own."""

import difflib
import json
import shlex
from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path

import yaml
from pydantic import ValidationError

from tokensieve.config import StudySettings, read_yaml
from tokensieve.errors import InputError, explain
from tokensieve.types import JSON


def recipe_names() -> list[str]:
    """Names of the shipped recipes, as ``tokensieve run`` takes them; those in a folder as ``folder/name``."""
    root = _shipped()
    files = [path for path in root.iterdir() if path.name.endswith(".yaml")]
    nested = [
        (d.name, path) for d in root.iterdir() if d.is_dir() for path in d.iterdir() if path.name.endswith(".yaml")
    ]
    names = [path.name.removesuffix(".yaml") for path in files]
    return sorted(names + [f"{folder}/{path.name.removesuffix('.yaml')}" for folder, path in nested])


def read_recipe(name: str | Path) -> StudySettings:
    """A study's settings from a shipped recipe's name or a YAML file.

    Raises:
        InputError: no such recipe or file, YAML that does not parse (with its line), an unknown key (the nearest
            valid one is named), or a value of the wrong form.
    """
    path = Path(name)
    shipped = _shipped() / f"{name}.yaml"
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise InputError("no such recipe file", where=str(path))
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"not UTF-8 text: {error.reason} at byte {error.start}", where=str(path)) from None
    elif shipped.is_file():
        text = shipped.read_text(encoding="utf-8")
    else:
        known = recipe_names()
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"no recipe {str(name)!r}", fix=f"{hint}shipped: {', '.join(known)}; or give a .yaml file")
    return _validated(text, str(name))


def _shipped() -> "resources.abc.Traversable":
    return resources.files("tokensieve") / "recipes"


def _validated(text: str, where: str) -> StudySettings:
    try:
        raw = read_yaml(text)
    except yaml.YAMLError as error:
        raise InputError(f"not valid YAML: {error}", where=where) from None
    if not isinstance(raw, dict):
        raise InputError("expected a mapping of settings", where=where, fix="start from a shipped recipe")
    try:
        return StudySettings.model_validate(raw)
    except ValidationError as error:
        raise InputError(explain(error, StudySettings), where=where) from None


def command_of(settings: StudySettings, recipe: str | Path) -> str:
    """The command that makes a study's run again: its recipe, and every setting that differs from it.

    Args:
        settings: the study.
        recipe: a shipped recipe's name, or a YAML file, of which the name without its folder is told.
    """
    file = Path(recipe)
    words = ["tokensieve", "run", file.name if file.suffix in (".yaml", ".yml") else str(recipe)]
    written = read_recipe(recipe).model_dump(mode="json")
    for key, value in _changes(written, settings.model_dump(mode="json")):
        words += ["--set", f"{key}={json.dumps(value, ensure_ascii=False)}"]
    return shlex.join(words)


def _changes(old: Mapping[str, JSON], new: Mapping[str, JSON], prefix: str = "") -> Iterator[tuple[str, JSON]]:
    """Dotted key and new value of every setting that differs; a list is one setting."""
    for key, value in new.items():
        held = old.get(key)
        if isinstance(value, dict) and isinstance(held, dict):
            yield from _changes(held, value, f"{prefix}{key}.")
        elif value != held:
            yield f"{prefix}{key}", value


def with_overrides(settings: StudySettings, changes: dict[str, object]) -> StudySettings:
    """Settings with some of them replaced.

    Args:
        settings: a recipe's.
        changes: dotted key, e.g. ``train.learning_rate``, to the new value.

    Raises:
        InputError: an unknown key (the nearest valid one is named), or a value of the wrong form.
    """
    raw = settings.model_dump()
    for key, value in changes.items():
        place = raw
        *path, last = key.split(".")
        for part in path:
            nested = place.setdefault(part, {})
            if not isinstance(nested, dict):
                raise InputError(f"{part!r} in {key!r} holds no settings of its own", where="--set")
            place = nested
        place[last] = value
    try:
        return StudySettings.model_validate(raw)
    except ValidationError as error:
        raise InputError(explain(error, StudySettings), where="--set") from None
