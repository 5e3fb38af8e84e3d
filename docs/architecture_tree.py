"""Write the source tree into docs/architecture.md, one line a file, from each docstring's first sentence.

``--check`` writes nothing and exits with 1 where the page is out of date.
"""

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "tokensieve"
MARK = "<!-- tree -->"
OTHERS = {
    "inspection.html.j2": "layout of the page of an inspection",
    "report.html.j2": "the page's template",
    "page.css": "its looks",
    "page.js": "its token browser",
    "README.md": "the model card",
    "model.safetensors": "the weights",
    "config.json": "the architecture",
    "generation_config.json": "how it answers by default",
    "tokenizer.json": "the tokenizer",
    "tokenizer_config.json": "its special tokens",
    "chat_template.jinja": "the chat template",
    "problems": "the tasks' problems, one gzipped JSON-lines file a split",
}
"""What the files are that have no docstring."""


def tree(folder: Path, depth: int) -> list[str]:
    """Lines of one folder: its own docstring, its files, its folders."""
    lines = [f"{'  ' * depth}{folder.name}/".ljust(38) + about(folder / "__init__.py")]
    entries = sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name))
    for path in entries:
        if path.name in ("__init__.py", "__pycache__", "py.typed"):
            continue
        if path.is_dir() and path.name in OTHERS:
            lines.append(f"{'  ' * (depth + 1)}{path.name}/".ljust(38) + about(path))
        elif path.is_dir() and any(inner.is_file() for inner in path.rglob("*") if "__pycache__" not in inner.parts):
            lines += tree(path, depth + 1)
        elif path.is_file():
            lines.append(f"{'  ' * (depth + 1)}{path.name}".ljust(38) + about(path))
    return [line.rstrip() for line in lines]


def about(path: Path) -> str:
    """One line on a file: its docstring's first sentence, or what is known of its kind."""
    if path.suffix == ".py" and path.is_file():
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        line = " ".join(text.split("\n\n")[0].split())
        end = line.find(". ")
        line = line if end < 0 else line[:end]
        return "  " + line.rstrip(".")
    if path.suffix == ".yaml":
        first = path.read_text(encoding="utf-8").splitlines()[0]
        return "  " + first.removeprefix("# ").rstrip(".")
    return "  " + OTHERS.get(path.name, "") if path.name in OTHERS else ""


def main() -> None:
    """Replace the tree between the two marks, or compare it with the page."""
    page = ROOT / "docs" / "architecture.md"
    text = page.read_text(encoding="utf-8")
    before, _, after = text.split(MARK)
    body = "\n".join([*tree(PACKAGE, 0), "", *tree(ROOT / "tools", 0)])
    expected = f"{before}{MARK}\n```\n{body}\n```\n{MARK}{after}"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where the page is out of date")
    if not parser.parse_args().check:
        page.write_text(expected, encoding="utf-8")
    elif text != expected:
        sys.exit("docs/architecture.md is out of date: run python docs/architecture_tree.py")


if __name__ == "__main__":
    main()
