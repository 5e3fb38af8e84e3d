"""Several processes score portions of the rows into one folder."""

import json
from pathlib import Path

import pytest
from tests.counting_backend import PLAIN, Counting, score_rows

from tokensieve.data.dataset import open_rows
from tokensieve.data.manifest import Manifest
from tokensieve.errors import InputError
from tokensieve.launch import Portion
from tokensieve.scoring import score_with


@pytest.mark.parametrize("count", [2, 3, 5])
def test_several_processes_write_what_one_writes(tmp_path: Path, count: int) -> None:
    settings = PLAIN.model_copy(update={"use_store": False})
    score_with(score_rows(30), Counting(), settings, out=tmp_path / "one")
    for index in reversed(range(count)):
        done = score_with(score_rows(30), Counting(), settings, out=tmp_path / "several", portion=Portion(index, count))
        assert (len(done) == 30) == (index == 0)
    assert _files(tmp_path / "several") == _files(tmp_path / "one")
    again = Counting()
    assert len(score_with(score_rows(30), again, settings, out=tmp_path / "several", portion=Portion(0, count))) == 30
    assert again.asked == []


def _files(folder: Path) -> dict[str, object]:
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["timing"]
    return {"manifest": manifest, **{p.name: p.read_bytes() for p in folder.iterdir() if p.suffix == ".parquet"}}


def test_a_portion_that_was_killed_goes_on_alone(tmp_path: Path) -> None:
    settings = PLAIN.model_copy(update={"use_store": False})
    out = tmp_path / "out"
    score_with(score_rows(30), Counting(), settings, out=out, portion=Portion(0, 2))
    with pytest.raises(KeyboardInterrupt):
        score_with(score_rows(30), Counting(fails_after=8), settings, out=out, portion=Portion(1, 2))
    rest = Counting()
    assert len(score_with(score_rows(30), rest, settings, out=out, portion=Portion(1, 2))) == 30
    assert len(rest.asked) == 14 - 8


def test_a_join_that_was_killed_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = PLAIN.model_copy(update={"use_store": False})
    score_with(score_rows(30), Counting(), settings, out=tmp_path / "one")
    out = tmp_path / "out"
    score_with(score_rows(30), Counting(), settings, out=out, portion=Portion(0, 2))

    def killed(manifest: Manifest, folder: Path) -> None:
        if folder == out:
            raise KeyboardInterrupt
        write(manifest, folder)

    write = Manifest.write
    monkeypatch.setattr(Manifest, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        score_with(score_rows(30), Counting(), settings, out=out, portion=Portion(1, 2))
    monkeypatch.setattr(Manifest, "write", write)
    backend = Counting()
    score_with(score_rows(30), backend, settings, out=out, portion=Portion(1, 2))
    assert backend.asked == []
    assert _files(out) == _files(tmp_path / "one")


def test_a_portion_goes_into_no_folder_of_another_run(tmp_path: Path) -> None:
    finished, foreign = tmp_path / "finished", tmp_path / "foreign"
    score_with(score_rows(30), Counting(), PLAIN, out=finished)
    with pytest.raises(InputError, match="other inputs"):
        score_with(score_rows(29), Counting(), PLAIN, out=finished, portion=Portion(0, 2))
    other = PLAIN.model_copy(update={"prompts": True})
    with pytest.raises(InputError, match="other settings"):
        score_with(score_rows(30), Counting(), other, out=finished, portion=Portion(0, 2))
    foreign.mkdir()
    (foreign / "rows-00000.parquet").write_text("precious")
    with pytest.raises(InputError, match=r"expected an empty folder, found rows-00000\.parquet"):
        score_with(score_rows(30), Counting(), PLAIN, out=foreign, portion=Portion(0, 2))
    assert [path.name for path in foreign.iterdir()] == ["rows-00000.parquet"]


def test_portions_agree_on_what_they_do(tmp_path: Path) -> None:
    out = tmp_path / "out"
    score_with(score_rows(30), Counting(), PLAIN, out=out, portion=Portion(0, 2))
    with pytest.raises(InputError, match="another number of processes"):
        score_with(score_rows(30), Counting(), PLAIN, out=out, portion=Portion(1, 3))
    with pytest.raises(InputError, match="give --out"):
        score_with(score_rows(30), Counting(), PLAIN, portion=Portion(1, 3))
    first = Counting(facts={"token_budget": 1})
    score_with(score_rows(30), first, PLAIN, out=out, portion=Portion(1, 2))
    assert open_rows(out).manifest.facts["token_budget"] == 64
