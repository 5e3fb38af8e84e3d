"""The tree in docs/architecture.md names every file of the package, and nothing else."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "tokensieve"


def test_the_tree_in_the_docs_is_the_tree_on_disk() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    tree = page.split("<!-- tree -->")[1]
    named: set[str] = set()
    folders: list[str] = []
    for line in tree.splitlines():
        found = re.match(r"^( *)([\w./-]+)(?: {2,}\S|$)", line)
        if not found or line.startswith("```"):
            continue
        depth = len(found[1]) // 2
        name = found[2]
        folders = folders[:depth]
        path = "/".join([*folders, name.rstrip("/")])
        named.add(path.removeprefix("tokensieve/"))
        if name.endswith("/"):
            folders.append(name.rstrip("/"))
    on_disk = {
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name not in ("__init__.py", "py.typed")
    }
    files_named = {name for name in named if "." in name.rsplit("/", 1)[-1]}
    assert on_disk - files_named == set(), "files that the tree does not name"
    assert files_named - on_disk == set(), "files that the tree names and that are not there"
