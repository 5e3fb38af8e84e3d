"""Pushing an export to a Hub on this machine: what arrives, who may read it, and what is never sent or written."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.dataset_hub import COMMIT, TOKEN, DataHub, serving
from tests.export_rows import of, selected_rows

from tokensieve.exports import export
from tokensieve.types import Selected

_PUSH = """
import sys
from pathlib import Path
from tokensieve.exports.hub import push_to_hub
from tokensieve.errors import TokensieveError
try:
    print(push_to_hub(Path(sys.argv[1]), sys.argv[2], private=sys.argv[3] == "private"))
except TokensieveError as error:
    print(error)
    sys.exit(error.exit_code)
"""

_READ = """
import sys
import datasets
rows = datasets.load_dataset(sys.argv[1], split="train", streaming=True)
print([row["labels"] for row in rows])
"""


@pytest.fixture
def hub() -> Iterator[DataHub]:
    with serving(DataHub()) as started:
        yield started


def _run(hub: DataHub, home: Path, program: str, *words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        env=hub.environment(home, HF_TOKEN=TOKEN),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def _content(folder: Path) -> Mapping[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_whole_folder_arrives_private_with_a_card_and_reads_back(hub: DataHub, tmp_path: Path) -> None:
    folder = export(selected_rows(5), tmp_path / "out")
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(
        b"\xff\x00 not listed by the manifest: it stays here"
    )
    done = _run(hub, tmp_path / "home", _PUSH, folder, "me/set", "private")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip() == f"{hub.address}/datasets/me/set/commit/{COMMIT}"
    here, there = dict(_content(folder)), dict(hub.repos["me/set"])
    del here["manifest.json"], there["manifest.json"], here["adapter/adapter_model.safetensors"]
    assert there == here
    card = there["README.md"].decode()
    for words in (
        "| model to train | tiny |",
        "| scores by | base, the model itself before training |",
        "| policy | stm:2.5 |",
        "| left out | ",
    ):
        assert words in card
    assert card.startswith("---\nconfigs:\n- config_name: default\n  data_files: data/train.parquet\n")
    read = _run(hub, tmp_path / "home", _READ, "me/set")
    assert json.loads(read.stdout) == [_labels(row) for row in selected_rows(5)], read.stderr


def _labels(row: Selected) -> list[int]:
    return [int(token) if trained else -100 for token, trained in zip(row.tokens.ids_T, row.train_T, strict=True)]


def test_it_is_private_unless_asked_otherwise(hub: DataHub, tmp_path: Path) -> None:
    folder = export(selected_rows(2), tmp_path / "out")
    for repo, asked in (("me/mine", "private"), ("me/ours", "public")):
        assert _run(hub, tmp_path / "home", _PUSH, folder, repo, asked).returncode == 0
    assert len(hub.created) == 2
    assert _is_private(hub.created[0])
    assert not _is_private(hub.created[1])
    assert hub.public == {"me/ours"}


def _is_private(asked: Mapping[str, object]) -> bool:
    """Settings that a request to make a repository asks for, in the words of either release of the protocol."""
    assert {"visibility", "private"} & asked.keys(), f"neither private nor public is asked for: {asked}"
    return asked.get("visibility") == "private" or asked.get("private") is True


def test_a_data_set_that_is_public_already_is_not_written_to_by_mistake(hub: DataHub, tmp_path: Path) -> None:
    hub.repos["me/set"], hub.public = {}, {"me/set"}
    done = _run(hub, tmp_path / "home", _PUSH, export(selected_rows(2), tmp_path / "out"), "me/set", "private")
    assert done.returncode == 2
    assert "there already, and public" in done.stdout
    assert "--public" in done.stdout
    assert hub.repos["me/set"] == {}
    assert not any("/commit/" in asked or "/preupload/" in asked for asked in hub.asked)


def test_neither_token_nor_places_nor_ids_of_dropped_rows_leave_the_machine(hub: DataHub, tmp_path: Path) -> None:
    rows = list(selected_rows(3))
    secret = Selected(rows[1].scored, rows[1].train_T & False)  # dropped: nothing of it is trained
    kept_in = of([rows[0], secret, rows[2]]).save(tmp_path / "secret-place" / "selected")
    model = tmp_path / "secret-place" / "my-model"
    model.mkdir()
    made_with = kept_in.manifest.model
    assert made_with is not None
    folder = export(kept_in, tmp_path / "out", model=made_with.model_copy(update={"name": str(model)}))
    assert str(model) in (folder / "train.py").read_text()
    assert rows[1].tokens.id.encode() in (folder / "manifest.json").read_bytes()
    done = _run(hub, tmp_path / "home", _PUSH, folder, "me/set", "private")
    assert done.returncode == 0, done.stdout + done.stderr
    assert hub.tokens - {""} == {TOKEN}
    sent = [bytes(hub.spoken), *hub.repos["me/set"].values(), *(asked.encode() for asked in hub.asked)]
    written = [*_content(tmp_path).values(), done.stdout.encode(), done.stderr.encode()]
    assert not [text for text in [*sent, *written] if TOKEN.encode() in text]
    for text in sent:
        assert b"secret-place" not in text
        assert str(tmp_path).encode() not in text
        assert rows[1].tokens.id.encode() not in text
    assert b"model='my-model'" in hub.repos["me/set"]["train.py"]
    assert b"| model to train | my-model |" in hub.repos["me/set"]["README.md"]
    manifest = json.loads(hub.repos["me/set"]["manifest.json"])
    assert manifest["counts"]["dropped"] == {"no trained token": 1}


def test_a_refusal_is_told_with_what_mends_it(hub: DataHub, tmp_path: Path) -> None:
    hub.refuses_writes = True
    done = _run(hub, tmp_path / "home", _PUSH, export(selected_rows(2), tmp_path / "out"), "me/set", "private")
    assert done.returncode == 3
    assert "the Hub refuses" in done.stdout
    assert "hf auth login" in done.stdout
    assert TOKEN not in done.stdout + done.stderr


def test_a_name_that_is_none_is_the_users_mistake(hub: DataHub, tmp_path: Path) -> None:
    folder = export(selected_rows(2), tmp_path / "out")
    done = _run(hub, tmp_path / "home", _PUSH, folder, "no such/name/here", "private")
    assert done.returncode == 2
    assert hub.created == []
