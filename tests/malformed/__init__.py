"""Malformed data sets, by kind: what users really hand in, and what has to come of it.

Every case is a file (or folder) and the outcome that is owed: an error whose message holds given words, a row that is
dropped under a given reason, or, where the row is odd but sound, a row that is kept. ``CASES`` holds all of them.
"""

from tests.malformed.case import Case
from tests.malformed.files import bytes_cases, files_cases
from tests.malformed.rows import forms_cases, json_cases, text_cases, tools_cases, turns_cases, types_cases

__all__ = ["CASES", "Case"]

_GROUPS = (
    json_cases, bytes_cases, types_cases, turns_cases, tools_cases, forms_cases, files_cases, text_cases,
)  # fmt: skip
CASES = [case for group in _GROUPS for case in group()]
