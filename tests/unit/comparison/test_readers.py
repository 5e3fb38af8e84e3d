"""Judged answers from other harnesses' logs and from tables: what is read, what is refused with which words."""

import gzip
import json
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tokensieve.comparison import compare, read_evaluation
from tokensieve.errors import InputError
from tokensieve.types import Outcome

C, W, N = Outcome.CORRECT, Outcome.WRONG, Outcome.NO_ANSWER


def lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def harness_row(number: int, name: str, right: float, found: str = "7", **more: object) -> dict[str, object]:
    """A row as ``lm_eval --log_samples`` writes it."""
    return {
        "doc_id": number,
        "doc": {"question": f"q{number}", "passage": f"p{number // 2}"},
        "target": "7",
        "resps": [[f"It is {found}"]],
        "filtered_resps": [found],
        "filter": name,
        "metrics": ["exact_match"],
        "doc_hash": f"doc{number}",
        "prompt_hash": f"prompt{number}",
        "target_hash": "t",
        "exact_match": right,
    } | more


def harness_folder(folder: Path) -> Path:
    rows = [harness_row(n, "strict", float(n == 0), "7" if n < 2 else "[invalid]") for n in range(4)]
    rows += [harness_row(n, "flexible", 1.0) for n in range(4)]
    lines(folder / "model" / "samples_gsm8k_2026-01-02T03-04-05.678901.jsonl", rows)
    summary = {"n-shot": {"gsm8k": 5}, "versions": {"gsm8k": 3}, "lm_eval_version": "0.4.13"}
    (folder / "model" / "results_2026-01-02T03-04-05.678901.json").write_text(json.dumps(summary))
    return folder


def test_samples_of_the_harness(tmp_path: Path) -> None:
    found = read_evaluation(harness_folder(tmp_path / "run"))
    assert [(a.task, a.id, a.outcome) for a in found.rows] == [
        ("gsm8k", "doc0", C), ("gsm8k", "doc1", W), ("gsm8k", "doc2", N), ("gsm8k", "doc3", N)
    ]  # fmt: skip
    assert (found.rows[0].text, found.rows[0].gold, found.rows[0].prompt_digest) == ("It is 7", "7", "prompt0")
    assert found.asked["few-shot examples of gsm8k"] == 5
    assert found.asked["metric of gsm8k"] == "exact_match,strict"
    assert found.computed["version of lm_eval"] == "0.4.13"
    assert "there are: strict, flexible" in found.notes[0]


def test_another_filter_and_groups_of_the_harness(tmp_path: Path) -> None:
    found = read_evaluation(harness_folder(tmp_path), metric="exact_match,flexible", group_by="passage")
    assert {a.outcome for a in found.rows} == {C}
    assert [a.group for a in found.rows] == ["p0", "p0", "p1", "p1"]


def test_likelihoods_of_the_harness_and_equal_documents(tmp_path: Path) -> None:
    rows = [
        harness_row(
            n,
            "none",
            0,
            doc_hash="same",
            metrics=["ppl", "acc", "acc_norm"],
            ppl=3.5,
            acc=1.0,
            acc_norm=0.0,
            resps=[[[-1.5, False]], [[-2.0, False]]],
            filtered_resps=[[-1.5, False], [-2.0, False]],
        )
        for n in range(2)
    ]
    path = lines(tmp_path / "samples_arc_easy.jsonl", rows)
    found = read_evaluation(path)
    assert [(a.id, a.outcome) for a in found.rows] == [("same", C), ("same#1", C)]
    assert found.asked["metric of arc_easy"] == "acc,none"
    assert {a.outcome for a in read_evaluation(path, metric="acc_norm").rows} == {W}


def evalplus_run(base: str, plus: str | None, solution: str = "def f(): ...") -> dict[str, object]:
    return {"task_id": "x", "solution": solution, "base_status": base, "plus_status": plus}


def test_results_of_evalplus(tmp_path: Path) -> None:
    content = {
        "date": "2026-01-01",
        "hash": "abc",
        "eval": {
            "HumanEval/0": [evalplus_run("pass", "pass"), evalplus_run("pass", "fail")],
            "HumanEval/1": [evalplus_run("fail", "fail"), evalplus_run("timeout", "fail", " ")],
        },
    }
    path = tmp_path / "model_eval_results.json"
    path.write_text(json.dumps(content))
    for place in (path, tmp_path):
        found = read_evaluation(place)
        assert [(a.task, a.id, a.sample, a.outcome) for a in found.rows] == [
            ("humaneval", "HumanEval/0", 0, C), ("humaneval", "HumanEval/0", 1, C),
            ("humaneval", "HumanEval/1", 0, W), ("humaneval", "HumanEval/1", 1, N),
            ("humaneval_plus", "HumanEval/0", 0, C), ("humaneval_plus", "HumanEval/0", 1, W),
            ("humaneval_plus", "HumanEval/1", 0, W), ("humaneval_plus", "HumanEval/1", 1, N),
        ]  # fmt: skip
        assert found.asked == {"problems of humaneval": "abc"}


def inspect_sample(name: str | int, value: object, *, epoch: int = 1, stop: str = "stop") -> dict[str, object]:
    return {
        "id": name,
        "epoch": epoch,
        "input": f"question {name}",
        "target": "4",
        "metadata": {"subject": {"name": "sums"}},
        "output": {"choices": [{"message": {"content": [{"type": "text", "text": "4"}]}, "stop_reason": stop}]},
        "scores": {"match": {"value": value, "answer": "4"}, "model_graded": {"value": 0.5}},
    }


def inspect_header(**more: object) -> dict[str, object]:
    about = {"task": "sums", "task_version": 2, "packages": {"inspect_ai": "0.3.1"}, "config": {"epochs": 2}}
    return {"version": 2, "status": "success", "eval": about} | more


def inspect_logs(folder: Path, samples: list[dict[str, object]], **more: object) -> list[Path]:
    """The same log in both forms."""
    folder.mkdir(exist_ok=True)
    plain = folder / "log.json"
    plain.write_text(json.dumps({**inspect_header(**more), "samples": samples}))
    packed = folder / "log.eval"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("header.json", json.dumps(inspect_header(**more)))
        for sample in samples:
            file.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
    return [plain, packed]


def test_logs_of_inspect(tmp_path: Path) -> None:
    samples = [
        inspect_sample("a", "C"),
        inspect_sample("a", "I", epoch=2, stop="max_tokens"),
        inspect_sample("b", "N"),
        inspect_sample("b", 1.0, epoch=2),
    ]
    for path in inspect_logs(tmp_path, samples):
        found = read_evaluation(path, group_by="subject.name")
        assert [(a.task, a.id, a.sample, a.outcome, a.finished) for a in found.rows] == [
            ("sums", "a", 0, C, True), ("sums", "a", 1, W, False), ("sums", "b", 0, N, True), ("sums", "b", 1, C, True)
        ]  # fmt: skip
        assert {(a.text, a.gold, a.group) for a in found.rows} == {("4", "4", "sums")}
        assert found.asked["version of sums"] == 2
        assert found.computed["version of inspect_ai"] == "0.3.1"
        with pytest.raises(InputError, match=r"a score of 0.5 is neither right nor wrong"):
            read_evaluation(path, metric="model_graded")


def as_zstd(archive: Path, contents: dict[str, bytes]) -> Path:
    """An archive as current versions of inspect pack it: compression method 93, which ``zipfile`` cannot write."""
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in contents.items():
            file.writestr(name, bytes(pa.compress(content, codec="zstd", asbytes=True)))
    with zipfile.ZipFile(archive) as file:
        entries, directory = file.infolist(), file.start_dir
    packed = bytearray(archive.read_bytes())
    for entry in entries:
        content = contents[entry.filename]
        for place in (entry.header_offset + 8, directory + 10):
            struct.pack_into("<H", packed, place, 93)
            struct.pack_into("<I", packed, place + 6, zlib.crc32(content))
            struct.pack_into("<I", packed, place + 14, len(content))
        directory += 46 + len(entry.filename.encode()) + len(entry.extra)
    archive.write_bytes(packed)
    return archive


def test_logs_of_inspect_packed_by_zstd(tmp_path: Path) -> None:
    contents = {
        "header.json": json.dumps(inspect_header()).encode(),
        "samples/a_epoch_1.json": json.dumps(inspect_sample("a", "C")).encode(),
    }
    path = as_zstd(tmp_path / "log.eval", contents)
    assert [(a.id, a.outcome, a.text) for a in read_evaluation(path).rows] == [("a", C, "4")]
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match="the log is damaged"):
        read_evaluation(path)


ROWS: list[dict[str, object]] = [
    {"id": "1", "correct": True, "task": "t", "sample": 0, "answer": "x", "gold": "y", "group": "g", "mine": 1},
    {"id": "1", "correct": False, "task": "t", "sample": 1, "answer": "x", "gold": "y", "group": "g", "mine": 2},
]


def csv_text(rows: list[dict[str, object]], mark: str = ",") -> str:
    return "\r\n".join(mark.join(map(str, line)) for line in (rows[0], *(row.values() for row in rows))) + "\r\n"


@pytest.mark.parametrize("kind", ["csv", "tsv", "csv.gz", "jsonl", "jsonl.gz", "parquet"])
def test_tables(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"t.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        plain = csv_text(ROWS, "\t" if kind == "tsv" else ",").encode("utf-8-sig")
        content = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS) if "jsonl" in kind else plain
        path.write_bytes(gzip.compress(content) if kind.endswith("gz") else content)
    found = read_evaluation(path)
    assert [(a.task, a.id, a.sample, a.outcome) for a in found.rows] == [("t", "1", 0, C), ("t", "1", 1, W)]
    assert {(a.text, a.gold, a.group) for a in found.rows} == {("x", "y", "g")}
    assert found.notes == ("columns that are not read: mine",)
    assert [a.group for a in read_evaluation(path, group_by="mine").rows] == ["1", "2"]


def test_tables_without_a_task_are_of_one_task_whatever_their_names(tmp_path: Path) -> None:
    for name in ("base", "tuned"):
        (tmp_path / f"{name}.csv").write_text("id,correct\n1,true\n2,0\n")
    (change,) = compare(tmp_path / "base.csv", tmp_path / "tuned.csv").changes
    assert (change.problems, change.before.accuracy.value) == (2, 0.5)


def test_verdicts_of_check_are_a_table(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": "a", "index": 0, "verdict": "no_answer", "extracted": None, "reason": "", "finished": False},
        {"id": "a", "index": 1, "verdict": "correct", "extracted": "1", "reason": ""},
    ]
    found = read_evaluation(lines(tmp_path / "verdicts.jsonl", rows)).rows
    assert [(a.outcome, a.sample, a.finished) for a in found] == [(N, 0, False), (C, 1, True)]


def wrong_table(text: str, name: str = "t.csv") -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_text(text, encoding="utf-8")
        return folder / name

    return write


def two_runs(folder: Path) -> Path:
    for stamp in ("01", "02"):
        lines(folder / f"samples_x_2026-01-{stamp}T00-00-00.0.jsonl", [harness_row(0, "none", 1.0)])
    return folder


def partial_metric(folder: Path) -> Path:
    return lines(folder / "samples_x.jsonl", [harness_row(0, "none", 0.5)])


def unfinished(folder: Path) -> Path:
    return inspect_logs(folder, [inspect_sample("a", "C")], status="error")[1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "absent", "no such file"),
        (lambda folder: folder, "no evaluation is recognised"),
        (wrong_table("name,score\na,1\n"), "expected the columns 'id' and 'correct'"),
        (wrong_table("id,correct\na,0.7\n"), "expected true or false"),
        (wrong_table("id,correct\na,1\na,1\n"), "answered in .* already"),
        (wrong_table("id,verdict\na,right\n"), "no verdict 'right'"),
        (wrong_table("id,correct\na\n"), "expected 2 values"),
        (wrong_table("id,correct,verdict\na,1,wrong\n"), "the verdict is 'wrong', but 'correct' is '1'"),
        (wrong_table("id,correct,sample\na,1,x\n"), "expected the answer's number"),
        (wrong_table("id,correct,finished\na,1,maybe\n"), "expected true or false in 'finished'"),
        (wrong_table("no parquet", "t.parquet"), "no Parquet file"),
        (wrong_table("no gzip", "t.csv.gz"), "no table"),
        (wrong_table("no zip", "log.eval"), "the log is damaged"),
        (two_runs, "two runs of the task 'x'"),
        (partial_metric, "is not 0 or 1"),
        (unfinished, "status is 'error'"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(tmp_path: Path, make: Callable[[Path], Path], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_evaluation(make(tmp_path))


def test_fields_that_a_form_does_not_have_are_refused(tmp_path: Path) -> None:
    folder = harness_folder(tmp_path)
    for metric, group_by, words in (
        ("f1", "", "no metric 'f1'"),
        ("exact_match,loose", "", "no filter 'loose'"),
        ("", "author", "no field 'author'"),
    ):
        with pytest.raises(InputError, match=words):
            read_evaluation(folder, metric=metric, group_by=group_by)
