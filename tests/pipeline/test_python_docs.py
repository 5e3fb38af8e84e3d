"""The code of docs/python.md runs as printed, block after block."""

import json
import re
from pathlib import Path

import pytest

import tokensieve

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 8
    rows = [
        {"prompt": f"Sort from Z to A:\nfig pear {word}", "completion": f"{word} pear fig"}
        for word in ("sun", "yak", "tea")
    ]
    (tmp_path / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} >= {
        "training-set",
        "chosen",
        "adapter",
        "anchors",
        "held",
        "repaired",
    }


def test_the_page_names_all_that_is_public() -> None:
    assert {name for name in tokensieve.__all__ if f"`{name}`" not in PAGE} == set()
