"""Functions of the user's own: found by file and name, and what is wrong with the ones that are not."""

import hashlib
from pathlib import Path

import pytest

from tokensieve.errors import InputError
from tokensieve.user_code import function_digest, load_function


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


MODULES = {
    "mine.py": "import json\nimport near\n\ndef f():\n    from pack.deep import value\n    return value\n",
    "near.py": "import nearer as n\nfrom broken import x\n",
    "nearer.py": "import near\n",
    "broken.py": "def (",
    "pack/__init__.py": "",
    "pack/deep.py": "from . import beside\nfrom .sub import inner\nfrom .. import top\nfrom ... import outside\n",
    "pack/beside.py": "from nested import one\n",
    "pack/sub/inner.py": "",
    "pack/unread.py": "",
    "nested/one.py": "",
    "top.py": "",
    "far.py": "",
    "json.txt": "",
}


def test_the_digest_of_a_function_changes_with_the_users_own_modules_that_it_imports(tmp_path: Path) -> None:
    for name, text in MODULES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    before = function_digest("mine.py:f", tmp_path)
    counted = set()
    for name, text in MODULES.items():
        (tmp_path / name).write_text(f"{text}\n# changed\n")
        if function_digest("mine.py:f", tmp_path) != before:
            counted.add(name)
        (tmp_path / name).write_text(text)
    assert counted == MODULES.keys() - {"pack/unread.py", "far.py", "json.txt"}
    assert function_digest("mine.py:f", tmp_path) == before
    (tmp_path / "near.py").rename(tmp_path / "pack" / "near.py")
    assert function_digest("mine.py:f", tmp_path) != before, "a module that is gone"


def test_a_function_without_own_modules_has_the_digest_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import json\n\ndef f():\n    return 1\n")
    assert function_digest("mine.py:f", tmp_path) == hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_module_beside_the_file_that_python_does_not_find_is_named_with_the_way_to_it(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import near_the_file\n\ndef f():\n    return 1\n")
    with pytest.raises(InputError, match="No module named 'near_the_file'") as caught:
        load_function("mine.py:f", tmp_path, "policy")
    assert caught.value.fix is None
    (tmp_path / "near_the_file.py").touch()
    with pytest.raises(InputError, match="No module named 'near_the_file'") as caught:
        load_function("mine.py:f", tmp_path, "policy")
    assert f"PYTHONPATH={tmp_path} " in str(caught.value.fix)
