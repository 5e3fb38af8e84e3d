"""From a file to a training set on the command line, and the refusal of a model that it was not made for."""

import json
import shutil
from pathlib import Path

import pytest

from tokensieve.cli import main
from tokensieve.data.manifest import read_manifest
from tokensieve.models import load_tokenizer


def _run(*words: object) -> int:
    return main([str(word) for word in words])


def test_a_model_with_another_tokenizer_is_refused_by_export_and_train(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my.jsonl").write_text(json.dumps({"prompt": "hello", "completion": "world"}) + "\n")
    chosen, out = tmp_path / "chosen", tmp_path / "out"
    score = ("score", tmp_path / "my.jsonl", "--model", tiny_folder, "--out", tmp_path / "scored")
    assert _run(*score) == 0
    assert _run("select", tmp_path / "scored", "--policy", "plain", "--out", chosen) == 0
    made_with = read_manifest(chosen).model
    assert made_with is not None
    assert _run("export", chosen, "--out", out, "--public") == 2
    assert "--public: nothing is uploaded that could be public" in capsys.readouterr().err
    for command in ("export", "train"):
        capsys.readouterr()
        assert _run(command, chosen, "--model", "pocket", "--out", out) == 2
        said = capsys.readouterr().err
        assert "another tokenizer" in said
        assert made_with.tokenizer_digest[:16] in said
        assert not out.exists()
    shutil.copytree(tiny_folder, tmp_path / "other")
    other = load_tokenizer(str(tiny_folder))
    template = other.chat_template
    other.chat_template = "{# another #}" + str(template)
    other.save_pretrained(tmp_path / "other")
    other.chat_template = template
    capsys.readouterr()
    assert _run("export", chosen, "--model", tmp_path / "other", "--out", out) == 2
    said = capsys.readouterr().err
    assert "another chat template" in said
    assert made_with.template_digest[:16] in said
    assert not out.exists()
    assert _run("export", chosen, "--model", tiny_folder, "--out", out) == 0
    assert _run("verify-export", out) == 0


def test_what_an_export_leaves_out_and_what_a_check_finds_is_printed(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"id": f"my/{n}", "prompt": "hello", "completion": f"world {n}"} for n in range(3)]
    (tmp_path / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    score = ("score", tmp_path / "my.jsonl", "--model", tiny_folder, "--out", tmp_path / "scored")
    assert _run(*score) == 0
    assert _run("select", tmp_path / "scored", "--policy", "plain", "--out", tmp_path / "chosen") == 0
    out = tmp_path / "out"
    capsys.readouterr()
    assert _run("export", tmp_path / "chosen", "--to", "axolotl", "--format", "jsonl", "--out", out) == 0
    assert "rows: 3 in, 3 out" in capsys.readouterr().out
    lines = (out / "data" / "train.jsonl").read_text().splitlines()
    moved = json.loads(lines[1])
    moved["labels"] = [*moved["labels"][1:], -100]  # the usual mistake: labels that are shifted twice
    (out / "data" / "train.jsonl").write_text("\n".join([lines[0], json.dumps(moved), lines[2]]) + "\n")
    assert _run("verify-export", out, "--how", "rules", "--limit", 2) == 1
    said = capsys.readouterr().out.splitlines()
    assert "differences between axolotl and the selection" in said[0]
    assert len(said) == 3
    assert all(line.startswith("  row 1 (my/1), position ") for line in said[1:])
