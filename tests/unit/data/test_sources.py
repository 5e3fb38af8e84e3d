"""Where rows come from: splits of local folders, files by their content, LLaMA-Factory's folders, objects in memory."""

import bz2
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import datasets
import pandas as pd  # type: ignore[import-untyped]
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokensieve.config import DataSettings
from tokensieve.data.formats import find, read_examples
from tokensieve.data.row_counts import Tally
from tokensieve.errors import InputError

if TYPE_CHECKING:
    from tokensieve.data.formats.sources import Data

PAIRS = [{"prompt": f"q{i}", "completion": f"a{i}"} for i in range(3)]
LINES = "".join(json.dumps(pair) + "\n" for pair in PAIRS).encode()


def prompts(data: "Data", **settings: object) -> tuple[list[str | None], Tally]:
    tally = Tally()
    found = read_examples(data, DataSettings.model_validate(settings), tally)
    return [example.messages[0]["content"] for example in found], tally


def put(folder: Path, *names: str) -> Path:
    """Files of one row each, whose prompt is the file's name."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        row = {"prompt": name, "completion": "x"}
        if name.endswith(".parquet"):
            pq.write_table(pa.Table.from_pylist([row]), path)
        else:
            path.write_text(json.dumps(row) + "\n")
    return folder


FLAT = ("train.jsonl", "test.jsonl")
SHARDS = ("data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "data/test-00000-of-00001.parquet")
FOLDERS = ("train/a.jsonl", "train/b.jsonl", "test/a.jsonl", "dev/a.jsonl")
SFT = ("data/train_sft-00000-of-00001.parquet", "data/test_sft-00000-of-00001.parquet")
UNNAMED = ("a.jsonl", "b.parquet", "deeper/c.jsonl")


@pytest.mark.parametrize(
    ("files", "split", "read"),
    [
        (FLAT, "train", ["train.jsonl"]),
        (FLAT, "test", ["test.jsonl"]),
        (FLAT, "eval", ["test.jsonl"]),
        (("my_train_v2.jsonl", "my-test.jsonl"), "train", ["my_train_v2.jsonl"]),
        (("TRAIN.JSONL", "Test.jsonl"), "train", ["TRAIN.JSONL"]),
        (("train.jsonl.gz.jsonl", "val.jsonl"), "validation", ["val.jsonl"]),
        (SHARDS, "train", list(SHARDS[:2])),
        (SHARDS, "test", [SHARDS[2]]),
        (FOLDERS, "train", list(FOLDERS[:2])),
        (FOLDERS, "test", [FOLDERS[2]]),
        (FOLDERS, "dev", [FOLDERS[3]]),
        (FOLDERS, "validation", [FOLDERS[3]]),
        (("dev.jsonl", "validation.jsonl"), "dev", ["dev.jsonl"]),
        (SFT, "train_sft", [SFT[0]]),
        (UNNAMED, "train", list(UNNAMED)),
        (("contest.jsonl", "latest.jsonl"), "train", ["contest.jsonl", "latest.jsonl"]),
        (("testset.jsonl", "trainset.jsonl"), "train", ["trainset.jsonl"]),
        (("evals.jsonl", "tests.jsonl", "traindata.jsonl"), "train", ["traindata.jsonl"]),
        (("myTestRows.jsonl", "myTrainRows.jsonl"), "train", ["myTrainRows.jsonl"]),
        (("train.jsonl", "holdout.jsonl", "held_out/a.jsonl"), "test", ["held_out/a.jsonl", "holdout.jsonl"]),
        ((*FLAT, ".cache/train.jsonl"), "train", ["train.jsonl"]),
    ],
)  # fmt: skip
def test_a_split_of_a_folder_is_told_by_names(
    tmp_path: Path, files: tuple[str, ...], split: str, read: list[str]
) -> None:
    found, tally = prompts(put(tmp_path / "rows", *files), split=split)
    assert found == read
    assert not tally.noted


@pytest.mark.parametrize(
    ("files", "split", "words"),
    [
        (FLAT, "nosuch", ("no split 'nosuch'", "test, train")),
        (FLAT, "validation", ("no split 'validation'", "test, train")),
        (SFT, "train", ("no split 'train'", "test_sft, train_sft")),
        (UNNAMED, "test", ("no split 'test'", "tell no splits")),
        (("a.jsonl", "eval.jsonl"), "train", ("no split 'train'", "eval", "of no split: a.jsonl")),
        (("train_test.jsonl",), "train", ("tells two splits: train, test",)),
    ],
)
def test_a_split_that_is_not_there_is_refused_with_those_that_are(
    tmp_path: Path, files: tuple[str, ...], split: str, words: tuple[str, ...]
) -> None:
    with pytest.raises(InputError) as caught:
        prompts(put(tmp_path / "rows", *files), split=split)
    for word in words:
        assert word in str(caught.value)


def test_files_that_are_not_read_are_named(tmp_path: Path) -> None:
    folder = put(tmp_path / "rows", *FLAT, "extra.jsonl", "more.txt", "README.md", "script.py")
    found, tally = prompts(folder)
    assert found == ["train.jsonl"]
    assert tally.noted == {"file not read: extra.jsonl": 1, "file not read: more.txt": 1}


@pytest.mark.parametrize(
    ("file", "split", "outcome"),
    [
        ("rows.jsonl", "train", ()), ("rows.jsonl", "test", None), ("test.jsonl", "test", ()),
        ("test.jsonl", "eval", ()), ("test/rows.jsonl", "test", ()), ("train.jsonl", "test", None),
        ("test.jsonl", "train", ("file whose name tells the split 'test', read as it was named",)),
    ],
)  # fmt: skip
def test_a_single_file_has_the_split_of_its_name(
    tmp_path: Path, file: str, split: str, outcome: tuple[str, ...] | None
) -> None:
    path = put(tmp_path / "rows", file) / file
    if outcome is None:
        with pytest.raises(InputError, match=f"a single file has no split '{split}'"):
            prompts(path, split=split)
        return
    found, tally = prompts(path, split=split)
    assert found == [file]
    assert tuple(tally.noted) == outcome


# --- files by their content -----------------------------------------------------------------------------------------


def _zstd(content: bytes) -> bytes:
    buffer = pa.BufferOutputStream()
    with pa.CompressedOutputStream(buffer, "zstd") as stream:
        stream.write(content)
    return bytes(buffer.getvalue().to_pybytes())


def _zip(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows.jsonl", content)
    return buffer.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": _zstd, "zip": _zip,
}  # fmt: skip


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("name", ["rows.jsonl", "rows", "rows.jsonl.{}", "rows.{}"])
def test_a_compressed_file_is_known_by_its_first_bytes(tmp_path: Path, packer: str, name: str) -> None:
    path = tmp_path / name.format(packer)
    path.write_bytes(PACKERS[packer](LINES))
    assert prompts(path)[0] == ["q0", "q1", "q2"]


@pytest.mark.parametrize("packer", PACKERS)
def test_a_compressed_file_that_is_cut_short_is_damaged(tmp_path: Path, packer: str) -> None:
    path = tmp_path / f"rows.jsonl.{packer}"
    path.write_bytes(PACKERS[packer](LINES * 1000)[:-12])
    with pytest.raises(InputError, match="damaged or cut short"):
        prompts(path)


def test_kinds_are_told_by_content_where_the_name_tells_none(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(PAIRS), tmp_path / "table")
    (tmp_path / "array").write_text(json.dumps(PAIRS))
    (tmp_path / "lines").write_bytes(LINES)
    for name in ("table", "array", "lines"):
        assert prompts(tmp_path / name)[0] == ["q0", "q1", "q2"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", ("pointer of Git LFS", "git lfs pull")),
        (b"<!DOCTYPE html>\n<html>", ("web page", "download the file itself")),
        (b"\n<html><head>", ("web page",)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet", "rows.csv", "rows.json", "rows"])
def test_what_stands_for_the_data_is_not_the_data(
    tmp_path: Path, name: str, content: bytes, words: tuple[str, ...]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as caught:
        prompts(tmp_path / name)
    for word in words:
        assert word in str(caught.value)


def test_messages_are_read_from_the_text_columns_of_tables(tmp_path: Path) -> None:
    turns = json.dumps([{"role": "user", "content": 'say "hi"'}, {"role": "assistant", "content": "hi"}])
    pd.DataFrame({"messages": [turns]}).to_csv(tmp_path / "rows.csv", index=False)
    pq.write_table(pa.table({"messages": [turns]}), tmp_path / "rows.parquet")
    for name in ("rows.csv", "rows.parquet"):
        assert prompts(tmp_path / name)[0] == ['say "hi"']


# --- LLaMA-Factory --------------------------------------------------------------------------------------------------

TAGGED = [{"who": "u", "says": "hello"}, {"who": "a", "says": "hi", "loss": False}, {"who": "u", "says": "more"},
          {"who": "a", "says": "yes"}]  # fmt: skip
FACTORY: dict[str, tuple[dict[str, object], dict[str, object]]] = {
    "plain": ({}, {"instruction": "hello", "input": "you", "output": "x"}),
    "named": ({"columns": {"prompt": "p", "query": "q", "response": "r", "system": "s"}},
              {"p": "hello", "q": "you", "r": "x", "s": "be kind"}),
    "tagged": ({"formatting": "sharegpt", "columns": {"messages": "dialog"},
                "tags": {"role_tag": "who", "content_tag": "says", "user_tag": "u", "assistant_tag": "a"}},
               {"dialog": TAGGED}),
    "sharegpt": ({"formatting": "sharegpt"},
                 {"conversations": [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "x"}]}),
    "openai": ({"formatting": "openai"},
               {"messages": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "x"}]}),
}  # fmt: skip


@pytest.fixture
def factory(tmp_path: Path) -> Path:
    entries: dict[str, dict[str, object]] = {}
    for name, (entry, row) in FACTORY.items():
        entries[name] = {"file_name": f"{name}.json", **entry}
        (tmp_path / f"{name}.json").write_text(json.dumps([row]))
    entries |= {
        "ranked": {"file_name": "plain.json", "ranking": True},
        "script": {"script_url": "somewhere"},
        "pictures": {"file_name": "plain.json", "columns": {"images": "i"}},
    }
    (tmp_path / "dataset_info.json").write_text(json.dumps(entries))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("plain", [("user", "hello\nyou", None), ("assistant", "x", None)]),
        ("named", [("system", "be kind", None), ("user", "hello\nyou", None), ("assistant", "x", None)]),
        ("tagged", [("user", "hello", None), ("assistant", "hi", 0.0), ("user", "more", None),
                    ("assistant", "yes", None)]),
        ("sharegpt", [("user", "hello", None), ("assistant", "x", None)]),
        ("openai", [("user", "hello", None), ("assistant", "x", None)]),
    ],
)  # fmt: skip
def test_an_entry_of_llamafactorys_description_is_read(
    factory: Path, name: str, said: list[tuple[str, str, float | None]]
) -> None:
    tally = Tally()
    (example,) = read_examples(f"{factory}:{name}", DataSettings(), tally)
    assert [(turn["role"], turn["content"], turn.get("weight")) for turn in example.messages] == said
    assert not any("not read" in note for note in tally.noted)


def test_the_only_entry_needs_no_name(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(LINES)
    entry = {"file_name": "rows.jsonl", "columns": {"prompt": "prompt", "response": "completion"}}
    (tmp_path / "dataset_info.json").write_text(json.dumps({"mine": entry}))
    assert prompts(tmp_path)[0] == ["q0", "q1", "q2"]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("", ("names several data sets", "plain, named", ":NAME")), (":nosuch", ("no entry 'nosuch'", "plain, named")),
        (":ranked", ("preference data",)), (":script", ("only file_name and hf_hub_url",)),
        (":pictures", ("the column 'images' is not read",)),
    ],
)  # fmt: skip
def test_what_a_description_cannot_mean_is_refused(factory: Path, entry: str, words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        prompts(f"{factory}{entry}")
    for word in words:
        assert word in str(caught.value)


# --- objects in memory ----------------------------------------------------------------------------------------------


def _generated() -> Iterator[dict[str, str]]:
    yield from PAIRS


MADE: dict[str, "Callable[[], Data]"] = {
    "Dataset": lambda: datasets.Dataset.from_list(PAIRS),
    "Dataset in torch's format": lambda: datasets.Dataset.from_list(PAIRS).with_format("numpy"),
    "DatasetDict": lambda: datasets.DatasetDict({"train": datasets.Dataset.from_list(PAIRS)}),
    "IterableDataset": lambda: datasets.Dataset.from_list(PAIRS).to_iterable_dataset(),
    "list of dicts": lambda: PAIRS,
    "tuple of dicts": lambda: tuple(PAIRS),
    "generator": _generated,
    "pandas": lambda: pd.DataFrame(PAIRS, index=[5, 6, 9]),
    "pyarrow": lambda: pa.Table.from_pylist(PAIRS),
    "a batch of pyarrow": lambda: pa.RecordBatch.from_pylist(PAIRS),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_rows_in_memory_are_read(name: str) -> None:
    found, tally = prompts(MADE[name]())
    assert found == ["q0", "q1", "q2"]
    assert not tally.noted
    assert prompts(MADE[name](), limit=2)[0] == ["q0", "q1"]


def test_equal_rows_have_one_digest_and_others_another(tmp_path: Path) -> None:
    digests = {name: find(make(), DataSettings()).digest() for name, make in MADE.items() if name != "IterableDataset"}
    assert len(set(digests.values())) == 1
    assert find(PAIRS[:2], DataSettings()).digest() != digests["list of dicts"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (None, ("expected a data set, got NoneType",)), (3, ("expected a data set, got int",)),
        (PAIRS[0], ("expected a data set, got dict", "a list of dicts")), (b"rows", ("got bytes",)),
        ([], ("holds no rows",)), (["hello"], ("row 1: expected a dict, got str",)),
        ([PAIRS[0], None], ("row 2: expected a dict, got NoneType",)), ("", ("no such file or folder",)),
        (["a", "b"], ("expected a dict",)), (Path("nowhere.jsonl"), ("no such file or folder",)),
        (datasets.DatasetDict({"test": datasets.Dataset.from_list(PAIRS)}), ("no split 'train'; there are: test",)),
    ],
)  # fmt: skip
def test_what_is_no_data_set_is_refused_in_words(data: "Data", words: tuple[str, ...]) -> None:
    with pytest.raises(InputError) as caught:
        prompts(data)
    for word in words:
        assert word in str(caught.value)


def test_the_folder_of_an_unfinished_stage_is_told(tmp_path: Path) -> None:
    (tmp_path / "draft.json").write_text("{\n}")
    with pytest.raises(InputError, match="a stage that is not finished"):
        prompts(tmp_path)
