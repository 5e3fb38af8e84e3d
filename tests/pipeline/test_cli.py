"""The command line as a person meets it: exit codes, and errors in words."""

import errno
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tokensieve.cli import main
from tokensieve.errors import CheckFailed, EnvironmentProblem, InputError

GOOD = {"prompt": "Sort from Z to A:\nfig pear sun", "completion": "sun pear fig"}


def cli(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_help_answers_without_loading_torch() -> None:
    code = (
        "import sys; from tokensieve.cli import main; main(['--help']); main(['score', '--help']);"
        "heavy = {'torch', 'transformers', 'trl', 'peft', 'datasets', 'pyarrow'} & set(sys.modules);"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "under the model that is about to be" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["scroe"], 'Did you mean "score"'),
        (["score", "x.jsonl", "--out", "y", "--modle", "pocket"], "Did you mean --model"),
        (["score", "x.jsonl"], "--out"),
        (["run", "poket"], "did you mean 'pocket'"),
        (["run", "pocket", "--set", "train.lerning_rate=1"], "did you mean 'learning_rate'"),
        (["check", "gms8k"], "did you mean 'gsm8k'"),
        (["score", "nowhere.jsonl", "--out", "y"], "nowhere.jsonl"),
        (["score", "x.jsonl", "--out", "y", "--columns", "prompt=question"], "fix: --columns.prompt question"),
        (["score", "x.jsonl", "--out", "y", "--columns", "question"], "expected --columns.NAME VALUE, got --columns"),
        (["train", "x", "--out", "y", "--lora", "r=3"], "fix: --lora.r 3"),
        (["train", "x", "--out", "y", "--validation", "my.jsonl"], "its names: --validation.rows, --validation.task"),
        (["compare-backends", "x.jsonl", "--other", "dtype=bfloat16"], "fix: --other.dtype bfloat16"),
        (["score", "x.jsonl", "--out", "y", "--url", "http://x/v1"], "--url: a server is asked with --backend vllm"),
        (["score", "x.jsonl", "--out", "y", "--engine", "ray", "--shard", "0/2"], "Ray deals the work out itself"),
        (["score", "x.jsonl", "--out", "y", "--shard", "2/2"], "--shard: expected a portion i/N"),
        (["select", "nowhere", "--out", "y"], "nowhere: there is no such folder"),
        (["select", ".", "--out", "y"], "not the finished folder of a stage"),
        (["select", "nowhere", "--out", "y", "--limit", "0"], '"0" for --limit'),
        (["train", "nowhere", "--out", "y"], "nowhere: there is no such folder"),
        (["train", "nowhere", "--out", "y", "--epochs", "0"], "--epochs: expected greater than 0, got '0'"),
        (["train", "nowhere", "--out", "y", "--lora.r", "x"], "--lora.r: expected a valid integer"),
        (["train", "nowhere", "--out", "y", "--micro-batch-size", "0"], "--micro-batch-size: expected greater"),
        (["train", "nowhere", "--out", "y", "--method", "loar"], "--method: expected 'lora' or 'full', got 'loar'"),
        (["anchors", "x", "--out", "y", "--source", "text"], "error: anchors from text need their data, got none"),
        (["anchors", "x", "--out", "y", "--data", "d"], "error: anchors from dialogues read no data, got d"),
        (["evaluate", "--out", "y"], "no tasks to evaluate"),
        (["evaluate", "gms8k", "--out", "y"], "did you mean 'gsm8k'"),
        (["compare", "nowhere", "there", "--target", "x"], "nowhere: there is no such file or folder"),
        (["compare-backends", "x.jsonl", "--other.dtype", "int3"], "--other.dtype: expected 'auto'"),
        (["generate", "pocket_sql", "--out", "y", "--sampling.top-p", "2"], "--sampling.top-p: expected less"),
        (["show", "nowhere"], "nowhere: there is no such folder"),
        (["run", "nowhere.yaml"], "no such recipe file"),
        (["run", "pocket", "--set", "train"], "expected KEY=VALUE"),
        (["run", "pocket", "--set", "train.epochs=["], "--set train.epochs: '[' is not a YAML value"),
        (["run", "pocket", "--set", "train.epochs=0"], "train.epochs: expected greater than 0, got 0"),
        (["run", "pocket", "--set", "train.micro_batch_size=2"], "did you mean 'machine.micro_batch_size'"),
        (["run", "pocket", "--set", "train.lora=3"], "train.lora: expected names with their values, got 3"),
        (["run", "pocket", "--set", "seeds=[]"], "seeds: expected at least 1 entry"),
        (["report", "nowhere"], "not the folder of a run"),
        (["store", "list", "--folder", "nowhere"], "nowhere: there is no such folder"),
        (["store", "prune"], "--everything"),
        (["store", "prune", "--unused-days", "-1"], "--unused-days"),
    ],
)
def test_a_users_mistake_is_exit_code_2_and_says_what_would_be_right(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = cli(capsys, *words)
    assert code == 2
    assert message in err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, '{"prompt": "a", '], "my.jsonl, line 2"),
        ([{"question": "a", "reply": "b"}], "my.jsonl, line 1"),
        ([GOOD, {"prompt": "a"}], "my.jsonl, line 2"),
        ([], "my.jsonl"),
        ([{"prompt": "a", "completion": 3}], "my.jsonl, line 1"),
    ],
)
def test_bad_rows_are_named_by_file_and_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, rows: list[object], message: str
) -> None:
    code, _, err = cli(capsys, "score", jsonl(tmp_path / "my.jsonl", *rows), "--out", tmp_path / "scored")
    assert code == 2
    assert message in err


def test_dropped_rows_are_counted_by_reason(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    long = {"prompt": "a", "completion": "word " * 900}
    data = jsonl(tmp_path / "my.jsonl", GOOD, {"prompt": "a", "completion": ""}, long)
    code, out, _ = cli(capsys, "score", data, "--max-length", 200, "--out", tmp_path / "scored")
    assert code == 0
    assert "rows: 3 in, 1 out" in out
    assert "empty response: 1" in out
    assert "  empty response: my.jsonl/1\n" in out
    assert "over-long: 1" in out
    assert "  over-long: my.jsonl/2\n" in out
    code, _, err = cli(capsys, "score", data, "--max-length", 200, "--over-long", "error", "--out", tmp_path / "other")
    assert code == 2
    assert "--over-long drop or cut" in err


def test_a_model_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = jsonl(tmp_path / "my.jsonl", GOOD)
    code, _, err = cli(capsys, "score", data, "--model", tmp_path / "no-model", "--out", tmp_path / "scored")
    assert code in (2, 3)
    assert "no-model" in err


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (CheckFailed("no"), 1, "error: no"),
        (InputError("what [/x] is it", fix="this"), 2, "what [/x] is it\n  fix: this"),
        (EnvironmentProblem("no network"), 3, "no network"),
        (OSError(errno.ENOSPC, "No space left on device", "runs/x"), 3, "runs/x: No space left on device"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "a.txt/x"), 2, "a.txt/x: Not a directory"),
        (KeyboardInterrupt(), 130, "the same command goes on"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_way_to_end_has_its_exit_code(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, words: str
) -> None:
    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr("tokensieve.data.manifest.package_versions", fail)
    found, _, told = cli(capsys, "doctor")
    assert found == code
    assert words in told


def test_what_went_wrong_inside_is_not_dressed_up_as_the_users_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokensieve.data.manifest.package_versions", lambda _: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        main(["doctor"])


def test_after_a_mistake_the_corrected_command_works_in_the_same_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data = jsonl(tmp_path / "my.jsonl", GOOD)
    taken = jsonl(tmp_path / "taken.txt")
    code, _, err = cli(capsys, "score", data, "--out", taken / "x")
    assert (code, "taken.txt" in err) == (2, True)
    assert cli(capsys, "score", data, "--out", tmp_path / "scored")[0] == 0
    for wrong in (["--scorer", "larger"], ["--policy", "smt:2"], ["--mix", f"{tmp_path / 'scored'}:0.9"]):
        assert cli(capsys, "select", tmp_path / "scored", *wrong, "--out", tmp_path / "chosen")[0] == 2
        assert not (tmp_path / "chosen").exists()
    assert cli(capsys, "select", tmp_path / "scored", "--out", tmp_path / "chosen")[0] == 0
    code, _, err = cli(capsys, "select", tmp_path / "scored", "--policy", "stm:9", "--out", tmp_path / "chosen")
    assert (code, "other settings" in err) == (2, True)
    code, _, err = cli(capsys, "train", tmp_path / "scored", "--out", tmp_path / "adapter")
    assert (code, "tokensieve select" in err) == (2, True)
    code, _, err = cli(capsys, "generate", "--out", tmp_path / "made")
    assert (code, "expected the name of a task" in err) == (2, True)


def test_brackets_in_names_are_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = jsonl(tmp_path / "my.jsonl", GOOD)
    code, out, _ = cli(capsys, "score", data, "--out", tmp_path / "a[/b]:smile:")
    assert code == 0
    assert "a[/b]:smile:" in out


def test_the_stages_follow_each_other(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = jsonl(tmp_path / "my.jsonl", *[{**GOOD, "completion": f"sun pear fig {n}"} for n in range(8)])
    steps: list[list[object]] = [
        ["score", data, "--out", tmp_path / "scored"],
        ["select", tmp_path / "scored", "--policy", "stm:2.5", "--out", tmp_path / "chosen"],
        ["show", tmp_path / "chosen", "--limit", 1],
        ["export", tmp_path / "chosen", "--out", tmp_path / "set"],
        ["train", tmp_path / "chosen", "--epochs", 1, "--out", tmp_path / "adapter"],
        ["evaluate", "pocket_choice", "--limit", 4, "--out", tmp_path / "before"],
        ["evaluate", "pocket_choice", "--limit", 4, "--adapter", tmp_path / "adapter", "--out", tmp_path / "after"],
        ["compare", tmp_path / "before", tmp_path / "after", "--target", "pocket_choice"],
        ["store", "list"],
        ["store", "size"],
        ["doctor"],
    ]
    printed = []
    for words in steps:
        code, out, err = cli(capsys, *words)
        assert code == 0, (words, err)
        printed.append(out)
    assert "trained: " in printed[1]
    shown = "".join(printed[2].split())
    assert shown.count("<|end|>") == 2, "a row longer than a line is shown to its end"
    assert "⟦" in shown
    assert "pocket_choice" in printed[7]
    assert "pocket" in printed[8]


def test_check_judges_gold_and_given_answers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = cli(capsys, "check", "pocket_choice", "--limit", 20)
    assert code == 0
    assert "20 of 20 gold answers" in out
    from tokensieve.tasks import TASKS

    problem = next(TASKS["pocket_choice"].load("test", None))
    answers = jsonl(
        tmp_path / "answers.jsonl",
        {"id": problem.id, "answer": "no idea"},
        {"id": problem.id, "answer": problem.gold},
    )
    code, out, _ = cli(capsys, "check", "pocket_choice", "--answers", answers, "--out", tmp_path / "verdicts.jsonl")
    assert code == 0
    verdicts = [json.loads(line) for line in (tmp_path / "verdicts.jsonl").read_text().splitlines()]
    assert [sorted(v) for v in verdicts] == [["extracted", "id", "index", "reason", "verdict"]] * 2
    assert [(v["index"], v["verdict"]) for v in verdicts] == [(0, "no_answer"), (1, "correct")]
