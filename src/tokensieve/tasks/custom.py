"""The user's own task from a YAML file: rows, a prompt template, and a checker by name.

    name: capitals
    rows: {test: capitals.jsonl}
    prompt: "What is the capital of {{ country }}?"
    gold: "{{ capital }}"
    check: {kind: exact, answer: "{{ capital }}", ignore_case: true}

Paths are relative to the YAML file; templates are Jinja with a row's fields as variables.
"""

import difflib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

import yaml
from pydantic import BaseModel, Field, GetCoreSchemaHandler, ValidationError
from pydantic_core.core_schema import CoreSchema, tagged_union_schema

from tokensieve.config import STRICT, read_yaml
from tokensieve.data.manifest import digest_of
from tokensieve.errors import InputError, in_words
from tokensieve.tasks.benchmark_io import Row, read_rows, require_split
from tokensieve.tasks.custom_checkers import CHECKERS, Render
from tokensieve.tasks.task import Task
from tokensieve.types import Message, Problem
from tokensieve.user_code import function_digest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class _CheckByKind:
    """The schema of ``check``: the settings of the checker that its ``kind`` names."""

    def __get_pydantic_core_schema__(self, _: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {kind: handler.generate_schema(checker.settings) for kind, checker in CHECKERS.items()}
        return tagged_union_schema(choices, discriminator="kind")


class _Check(Protocol):
    """The settings of any checker."""

    @property
    def kind(self) -> str: ...


class CustomTask(BaseModel):
    """A task as its YAML file has it."""

    model_config = STRICT

    name: str = Field(pattern=r"^[\w.-]+$")
    """Its name, also the first part of its problems' ids."""
    title: str = ""
    """One line for people."""
    rows: dict[Literal["train", "validation", "test"], Path]
    """File of each split: JSON lines (also .gz), or one JSON array."""
    prompt: str
    """Template of the user's turn."""
    system: str | None = None
    """Template of a system turn before it."""
    gold: str
    """Template of the reference response."""
    id: str | None = None
    """Template of a problem's id; by default name, split and line number from 0."""
    check: Annotated[_Check, _CheckByKind()]
    """The checker of its answers."""
    max_new_tokens: int = Field(512, gt=0)
    """Length limit of an answer, in tokens."""


def read_task(path: Path) -> Task:
    """The task that a YAML file describes.

    Raises:
        InputError: the file is missing, no YAML or not a task's (names key and reason), a template or pattern is
            broken, or the user's function cannot be loaded.
    """
    try:
        described = CustomTask.model_validate(read_yaml(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"cannot read it: {error.strerror}", where=str(path)) from None
    except yaml.YAMLError as error:
        raise InputError(f"broken YAML: {error}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise InputError(f"not UTF-8 text: {error.reason} at byte {error.start}", where=str(path)) from None
    except ValidationError as error:
        raise _refused(error.errors()[0], path) from None
    order: tuple[Literal["train", "validation", "test"], ...] = ("train", "validation", "test")
    splits = tuple(split for split in order if split in described.rows)
    render = _templates(path)
    load = partial(_load, described, path.parent, splits, render)
    title = described.title or described.name
    checker = CHECKERS[described.check.kind]
    check = partial(checker.check, checker.prepare(described.check, path))
    function = getattr(described.check, "function", None)  # of the check by the user's own function alone
    code = "" if function is None else function_digest(str(function), path.parent)
    rules = digest_of([described.model_dump(mode="json", include={"check", "max_new_tokens"}), code])
    return Task(described.name, title, splits, load, check, described.max_new_tokens, rules=rules)


def _refused(complaint: "ErrorDetails", path: Path) -> InputError:
    """The first thing that is wrong with a task's file, by its key, with the keys that are known there."""
    place = [str(part) for part in complaint["loc"]]
    if complaint["type"] == "union_tag_invalid":
        kind = str(complaint["ctx"]["tag"])
        problem, known = f"check.kind: there is no checker {kind!r}", [*CHECKERS]
        given = kind
    else:
        # Within check, pydantic names the kind before the key.
        kind = place.pop(1) if place[:1] == ["check"] and len(place) > 2 else ""
        where = CHECKERS[kind].settings if kind in CHECKERS else CustomTask
        known, given = [*where.model_fields], place[-1] if place else ""
        beside = f" beside kind {kind}" if kind else ""
        said = f"no such key{beside}" if complaint["type"] == "extra_forbidden" else in_words(complaint)
        problem = f"{'.'.join(place) or 'the file'}: {said}"
    near = difflib.get_close_matches(given, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near and near[0] != given else ""
    return InputError(problem, where=str(path), fix=f"{hint}known: {', '.join(known)}")


def _templates(path: Path) -> Render:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)

    def render(template: str, row: Row) -> str:
        try:
            return environment.from_string(template).render(row.fields)
        except jinja2.UndefinedError as error:
            known = ", ".join(sorted(row.fields))
            raise InputError(
                f"the template {template!r}: {error.message}", where=row.where, fix=f"fields: {known}"
            ) from None
        except jinja2.TemplateError as error:
            raise InputError(f"the template {template!r}: {error.message}", where=str(path)) from None

    return render


def _load(
    task: CustomTask, base: Path, splits: tuple[str, ...], render: Render, split: str, folder: Path | None
) -> Iterator[Problem]:
    """The problems of a split; ``folder`` stands in for the YAML file's own where it has the rows."""
    require_split(task.name, split, splits)
    name = next(file for key, file in task.rows.items() if key == split)
    root = folder if folder is not None and (folder / name).is_file() else base
    path = root / name
    if not path.is_file():
        raise InputError("no such file", where=str(path), fix=f"rows.{split} in the task's YAML file")
    rows = read_rows(path)
    for number, row in enumerate(rows):
        turns: list[Message] = []
        if task.system is not None:
            turns.append({"role": "system", "content": render(task.system, row)})
        turns.append({"role": "user", "content": render(task.prompt, row)})
        own = render(task.id, row) if task.id is not None else f"{task.name}/{split}/{number}"
        read = CHECKERS[task.check.kind].facts(task.check, row, render, root)
        yield Problem(own, task.name, tuple(turns), render(task.gold, row), read.facts, read.files)
