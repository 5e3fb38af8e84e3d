"""The README's Python runs as printed."""

import json
import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_python_in_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    rows = [
        {"prompt": f"Sort from Z to A:\nfig pear {word}", "completion": f"{word} pear fig"} for word in ("sun", "yak")
    ]
    (tmp_path / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})

    import datasets

    (file,) = (tmp_path / "out").rglob("*.parquet")
    exported = datasets.Dataset.from_parquet(str(file), cache_dir=str(tmp_path / "cache"))
    assert set(exported.column_names) == {"input_ids", "attention_mask", "labels"}
    assert len(exported) == 2
    for row in exported:
        trained = [(i, label) for i, label in enumerate(row["labels"]) if label != -100]
        assert 0 < len(trained) < len(row["input_ids"])
        assert all(row["input_ids"][i] == label for i, label in trained)
