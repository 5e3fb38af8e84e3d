"""The tree in docs/architecture.md names every file of the package and of the tools; scripts take --help."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = [
    path
    for folder in ("benchmarks", "docs", "examples", "tools")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if "__main__" in path.read_text(encoding="utf-8")
]
FOLDERS = {"tokensieve": ROOT / "src" / "tokensieve", "tools": ROOT / "tools"}


def test_the_tree_in_the_docs_is_the_tree_on_disk() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = page.split("<!-- tree -->")[1]
    named: set[str] = set()
    folders: list[str] = []
    for line in tree.splitlines():
        found = re.match(r"^( *)([\w./-]+)(?: {2,}\S|$)", line)
        if not found or line.startswith("```"):
            continue
        folders = folders[: len(found[1]) // 2]
        named.add("/".join([*folders, found[2]]))
        if found[2].endswith("/"):
            folders.append(found[2].rstrip("/"))
    files_named = {name for name in named if not name.endswith("/")}
    # A folder of data is one line: nothing inside it is named.
    data = {name for name in named - files_named if not any(other.startswith(name) for other in named - {name})}
    on_disk = {
        f"{name}/{path.relative_to(folder)}"
        for name, folder in FOLDERS.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name not in ("__init__.py", "py.typed")
    }
    unnamed = {path for path in on_disk - files_named if not path.startswith(tuple(data))}
    assert unnamed == set(), "files that the tree does not name"
    assert files_named - on_disk == set(), "files that the tree names and that are not there"
    assert data == {"tokensieve/pocket/problems/"}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_reads_its_arguments_by_argparse(script: Path) -> None:
    """So that each has --help, and refuses an option that it does not know."""
    nodes = ast.walk(ast.parse(script.read_text(encoding="utf-8")))
    names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert "ArgumentParser" in names
    assert "parse_args" in names
