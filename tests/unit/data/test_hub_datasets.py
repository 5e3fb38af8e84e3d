"""Data sets from a Hub that answers, refuses or breaks off: a server on this machine, no network."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.dataset_hub import COMMIT, TOKEN, DataHub, serving

_READER = """
import json, os, sys, time
time.sleep = lambda seconds: None  # the libraries wait between their attempts

from tokensieve.config import DataSettings
from tokensieve.data.formats import find, read_examples
from tokensieve.data.row_counts import Tally
from tokensieve.errors import TokensieveError
from tokensieve.tasks import benchmark_io
from tokensieve.tasks.benchmark_io import from_hub, hub_commits

def benchmark(source, split):
    repo, _, config = source.partition(":")
    with hub_commits() as commits:
        rows = list(from_hub(repo, split, name=config or None))
    return {"rows": [row.text("prompt") for row in rows], "where": rows[0].where, "commits": commits}

for line in sys.stdin:
    asked = json.loads(line)
    os.environ["HF_TOKEN"] = asked["token"]
    tally, examples = Tally(), []
    try:
        if how := asked["settings"].pop("benchmark", ""):
            if how == "fresh":  # as in a process of its own
                benchmark_io._PINNED.clear()
            print(json.dumps(benchmark(asked["source"], asked["settings"].get("split", "train"))), flush=True)
            continue
        settings = DataSettings.model_validate(asked["settings"])
        answer = {"pinned": find(asked["source"], settings).digest()}
        for example in read_examples(asked["source"], settings, tally):
            examples.append(example)
        answer |= {
            "ids": [example.id for example in examples],
            "first": [message["content"] for message in examples[0].messages],
            "form": tally.format,
        }
    except TokensieveError as error:
        answer = {"error": str(error), "code": error.exit_code, "rows": len(examples)}
    print(json.dumps(answer), flush=True)
"""

Answer: TypeAlias = dict[str, object]
Read: TypeAlias = Callable[..., Answer]


@pytest.fixture(scope="module")
def server() -> Iterator[DataHub]:
    with serving(DataHub()) as hub:
        yield hub


@pytest.fixture
def hub(server: DataHub) -> DataHub:
    """The server with the data sets of this module, all its misbehaviour off."""
    pairs: list[dict[str, object]] = [{"prompt": f"q{i}", "completion": f"a{i}"} for i in range(5)]
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "world"}]
    server.repos = {
        "me/lines": {"train.jsonl": _lines(pairs), "test.jsonl": _lines(pairs[3:])},
        "me/table": {
            "README.md": _card({"default": "data/train-*", "chats": "chats/*"}),
            "data/train-00000-of-00001.parquet": _table(pairs),
            "chats/all.parquet": _table([{"id": "c1", "messages": turns}]),
        },
        "me/gated": {"train.jsonl": _lines(pairs)},
        "me/private": {"train.jsonl": _lines(pairs)},
        "me/bare": {"README.md": b"# nothing here yet\n"},
        "me/damaged": {"train.parquet": b"PAR1 and no more"},
        "me/broken": {"train.jsonl": _lines(pairs)[:-9]},
        "me/long": {"long.jsonl": _lines([{"prompt": "q", "completion": str(i) * 2**20} for i in range(48)])},
    }
    server.gated, server.needs_token = {"me/gated"}, {"me/private"}
    server.cut_off = ""
    server.asked.clear()
    return server


@pytest.fixture(scope="module")
def read(server: DataHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Read]:
    """Reads in one process whose environment names the server, since the libraries look there when imported."""
    environment = server.environment(tmp_path_factory.mktemp("home"))
    reader = subprocess.Popen(
        [sys.executable, "-c", _READER], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )

    def ask(source: str, *, token: str = "", **settings: object) -> Answer:
        assert reader.stdin is not None
        assert reader.stdout is not None
        reader.stdin.write(json.dumps({"source": source, "settings": settings, "token": token}) + "\n")
        reader.stdin.flush()
        line = reader.stdout.readline()
        assert line, "the reader died; its error is above"
        answer: Answer = json.loads(line)
        return answer

    with reader:
        yield ask


def _lines(rows: list[dict[str, object]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _table(rows: list[dict[str, object]]) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


def _card(configs: dict[str, str]) -> bytes:
    listed = "".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {path}\n" for name, path in configs.items()
    )
    return f"---\nconfigs:\n{listed}---\n# A data set\n".encode()


def test_lines_are_read_with_the_splits_names_and_told_apart_from_files(hub: DataHub, read: Read) -> None:
    answer = read("me/lines")
    assert answer["ids"] == [f"me/lines/{i}" for i in range(5)]
    assert answer["first"] == ["q0", "a0"]
    assert answer["form"] == "prompt_completion"
    assert read("me/lines", split="test")["first"] == ["q3", "a3"]


def test_a_table_is_read_by_configuration(hub: DataHub, read: Read) -> None:
    assert read("me/table")["first"] == ["q0", "a0"]
    chats = read("me/table:chats")
    assert (chats["first"], chats["form"], chats["ids"]) == (["hello", "world"], "messages", ["c1"])


def test_rows_are_those_of_the_commit_that_the_name_means_at_the_start(hub: DataHub, read: Read) -> None:
    assert read("me/lines")["pinned"] == f"me/lines@{COMMIT}"
    assert read("me/table:chats")["pinned"] == f"me/table:chats@{COMMIT}"
    assert read(f"me/lines@{COMMIT}")["ids"] == [f"me/lines/{i}" for i in range(5)]
    read_files = [asked for asked in hub.asked if "/resolve/" in asked]
    assert read_files
    assert all(f"/resolve/{COMMIT}/" in asked for asked in read_files)


def test_a_benchmark_is_read_at_one_commit_which_is_told(hub: DataHub, read: Read) -> None:
    told = {
        "rows": [f"q{i}" for i in range(5)],
        "commits": {"me/table:default": COMMIT},
        "where": f"me/table:default@{COMMIT} (train), row 0",
    }
    assert read("me/table:default", benchmark="fresh") == told
    files = [asked for asked in hub.asked if "/resolve/" in asked and asked.endswith(".parquet")]
    assert files
    assert all(f"/resolve/{COMMIT}/" in asked for asked in files)
    assert read("me/table:default", benchmark="again") == told
    hub.down = True
    try:
        assert read("me/table:default", benchmark="again") == told
        assert read("me/table:default", benchmark="fresh") == told  # the cache's copy, by the commit of its files
        error = read("me/long", benchmark="fresh")
    finally:
        hub.down = False
    assert error["code"] == 3
    assert "the Hub did not deliver it" in str(error["error"])


@pytest.mark.parametrize(
    ("source", "split", "words"),
    [
        ("me/nothing", "test", "no such data set on the Hub"),
        ("me/gated", "train", "is gated"),
        ("me/lines", "nosuch", "cannot be read"),
    ],
)
def test_a_benchmark_that_cannot_be_had_is_told(hub: DataHub, read: Read, source: str, split: str, words: str) -> None:
    answer = read(source, benchmark="fresh", split=split)
    assert answer["code"] == 2
    assert words in str(answer["error"])


def test_a_limit_leaves_the_rest_on_the_hub(hub: DataHub, read: Read) -> None:
    hub.cut_off = "long.jsonl"
    assert read("me/long", limit=3)["ids"] == [f"me/long/{i}" for i in range(3)]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("me/nothing", ("no such data set on the Hub", "check the spelling")),
        ("nowhere", ("no such data set on the Hub",)),
        ("me/lines@v9", ("no revision 'v9'",)),
        ("me/private", ("or a private one without access", "hf auth login")),
        ("me/gated", ("is gated", "accept its terms on the page of me/gated")),
        ("me/bare", ("doesn't contain any data files",)),
        ("me/damaged", ("cannot be read", "Parquet")),
        ("me/broken", ("cannot be read", "JSON")),
        ("me/table:other", ("cannot be read", "'other' not found", "owner/name:CONFIG")),
        ("not/a/name", ("nor a name that the Hub could have",)),
        ("spaces in it", ("nor a name that the Hub could have",)),
    ],
)
def test_what_cannot_be_had_is_the_users_to_mend(hub: DataHub, read: Read, source: str, words: tuple[str, ...]) -> None:
    answer = read(source)
    assert answer["code"] == 2, answer
    assert source.partition(":")[0].partition("@")[0] in str(answer["error"])
    for word in words:
        assert word in str(answer["error"])
    assert len(str(answer["error"])) < 500


def test_a_split_that_is_not_there_is_told_with_those_that_are(hub: DataHub, read: Read) -> None:
    error = str(read("me/lines", split="dev")["error"])
    assert "'train', 'test'" in error
    assert "--split NAME" in error


def test_a_private_data_set_opens_to_its_token(hub: DataHub, read: Read) -> None:
    assert read("me/private", token=TOKEN)["first"] == ["q0", "a0"]


def test_a_transfer_that_breaks_off_is_the_environments_fault_and_goes_well_later(hub: DataHub, read: Read) -> None:
    hub.cut_off = "long.jsonl"
    answer = read("me/long")
    assert answer["code"] == 3
    assert 0 < int(str(answer["rows"])) < 48
    assert "the transfer broke off after row" in str(answer["error"])
    assert "run the command again" in str(answer["error"])
    hub.cut_off = ""
    assert len(str(read("me/long")["ids"]).split(",")) == 48


def test_a_hub_that_is_down_is_the_environments_fault(hub: DataHub, read: Read) -> None:
    hub.down = True
    try:
        answer = read("me/lines")
    finally:
        hub.down = False
    assert answer["code"] == 3
    assert "the Hub did not deliver it" in str(answer["error"])
