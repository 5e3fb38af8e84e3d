"""The record of a run: settings, versions, digests, and the commit of a recipe that lies in a git checkout."""

import subprocess
from pathlib import Path

import yaml

from tokensieve.config import StudySettings
from tokensieve.study.runner import checkout_of, read_record, record_of, write_record

SETTINGS = StudySettings.model_validate(
    {"name": "small", "targets": [{"task": "pocket_sql_house", "others": []}], "arms": [{"name": "plain"}]}
)


def git(folder: Path, *arguments: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_a_recipe_in_a_checkout_has_its_commit(tmp_path: Path) -> None:
    recipe = tmp_path / "small.yaml"
    recipe.write_text("name: small\n")
    assert checkout_of(recipe) is None, "no checkout"
    git(tmp_path, "init", "-q")
    assert checkout_of(recipe) is None, "not a file of it"
    git(tmp_path, "add", "small.yaml")
    git(tmp_path, "commit", "-q", "-m", "a recipe")
    found = checkout_of(recipe)
    assert found is not None
    assert found.commit == git(tmp_path, "rev-parse", "HEAD")
    assert not found.changed
    recipe.write_text("name: other\n")
    changed = checkout_of(recipe)
    assert changed is not None
    assert changed.changed


def test_the_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = record_of(SETTINGS, None, {"model": "5f" * 32, "pocket_sql_house/test": "0a" * 32}, workers=2)
    write_record(record, tmp_path)
    assert read_record(tmp_path) == record
    assert record.recipe == "small"
    assert record.versions["python"]
    mine = tmp_path / "mine.yaml"
    mine.write_text(yaml.safe_dump(SETTINGS.model_dump(mode="json")))
    recorded = record_of(SETTINGS, mine, {}, 1)
    assert (recorded.recipe, recorded.command) == ("mine.yaml", "tokensieve run mine.yaml"), "no path is kept"


def test_a_folder_without_a_record_has_none(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    (tmp_path / "run.json").write_text("{}")
    assert read_record(tmp_path) is None
