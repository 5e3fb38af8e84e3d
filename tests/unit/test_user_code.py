"""Functions of the user's own: found by file and name, and what is wrong with the ones that are not."""

from pathlib import Path

import pytest

from tokensieve.errors import InputError
from tokensieve.user_code import load_function


def test_a_function_is_called_by_file_and_name(tmp_path: Path) -> None:
    for folder, value in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(f"def f():\n    return {value}\n")
    assert [load_function("mine.py:f", tmp_path / folder, "check")() for folder in "ab"] == [1, 2]


@pytest.mark.parametrize(
    ("source", "place", "message"),
    [
        ("x = 1", "mine.py", "expected file.py:name"),
        ("x = 1", "other.py:f", "expected file.py:name"),
        ("x = 1", "mine.py:f", "no function 'f'"),
        ("x = 1", "mine.py:x", "no function 'x'"),
        ("1 / 0", "mine.py:f", "raised ZeroDivisionError"),
    ],
)
def test_what_is_no_function_is_named(tmp_path: Path, source: str, place: str, message: str) -> None:
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(InputError, match=message) as caught:
        load_function(place, tmp_path, "policy")
    assert caught.value.where == "policy"
