"""A report on disk: the page, and the same numbers as JSON beside it."""

import json
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from tokensieve.data.manifest import write_atomically
from tokensieve.errors import InputError
from tokensieve.report.page import render
from tokensieve.report.schema import SCHEMA_VERSION, Report

HTML_NAME: Final = "report.html"
JSON_NAME: Final = "report.json"


def write_report(report: Report, folder: str | Path) -> Path:
    """Write the page and its JSON twin into a folder, and return the page's path.

    Raises:
        EnvironmentProblem: the disk is full or refuses.
    """
    path = Path(folder)
    write_atomically(path / JSON_NAME, report.model_dump_json().encode() + b"\n")
    write_atomically(path / HTML_NAME, render(report).encode())
    return path / HTML_NAME


def read_report(folder: str | Path) -> Report:
    """The report of a folder, from its JSON.

    Raises:
        InputError: there is none, it is damaged, or it has another schema version.
    """
    path = Path(folder) / JSON_NAME
    again = "write it again: tokensieve report RUN_FOLDER"
    if not path.is_file():
        raise InputError(f"no {JSON_NAME} in this folder", where=str(folder), fix=again)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"the report is damaged: {error}", where=str(path), fix=again) from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(
            f"schema version {version!r}, this tokensieve reads {SCHEMA_VERSION}", where=str(path), fix=again
        )
    try:
        return Report.model_validate(raw)
    except ValidationError as error:
        raise InputError(f"the report does not fit its schema: {error}", where=str(path), fix=again) from None
