"""The command run: a quick look's limits give way to what is set by name, and a dry run makes nothing."""

from pathlib import Path

import pytest

from tokensieve.cli.study_commands import run


def test_what_is_set_by_name_wins_over_the_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = ("evaluate.limit=4", "seeds=[0]")
    assert run("pocket/continual", out_=tmp_path / "run", limit=8, set_=sets, dry_run=True) == 0
    told = capsys.readouterr()
    assert "the first 4 test problems of each target, the first 8 of every other task" in told.err
    assert "train pocket_sql_house · STM 2.5 · seed 0" in told.out.splitlines()
    assert not (tmp_path / "run").exists()
