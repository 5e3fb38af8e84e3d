"""``tokensieve inspect`` from the command line: exit codes, what is printed, what is written."""

import json
from pathlib import Path

import pytest

from tokensieve.cli import main
from tokensieve.data.chat import ChatTemplate
from tokensieve.models import load_chat
from tokensieve.types import Example, Message


@pytest.fixture(scope="module")
def chat() -> ChatTemplate:
    return load_chat("pocket")


def write(folder: Path, chat: ChatTemplate, *, stop_trained: bool) -> str:
    lines = []
    for number in range(3):
        turns = (Message(role="user", content=f"add {number}"), Message(role="assistant", content=f"it is {number}"))
        tokens = chat.tokenise(Example(f"row/{number}", turns))
        trained_T = tokens.in_response_T & (stop_trained | ~tokens.ends_turn_T)
        labels = [token if flag else -100 for token, flag in zip(tokens.ids_T.tolist(), trained_T, strict=True)]
        lines.append(json.dumps({"id": f"row/{number}", "input_ids": tokens.ids_T.tolist(), "labels": labels}))
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return str(path)


def test_a_sound_mask_is_exit_code_0(tmp_path: Path, chat: ChatTemplate, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", write(tmp_path, chat, stop_trained=True), "--model", "pocket"]) == 0
    assert "the loss mask is sound" in capsys.readouterr().out


def test_a_fault_is_exit_code_1_with_counts_and_rows(
    tmp_path: Path, chat: ChatTemplate, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write(tmp_path, chat, stop_trained=False)
    assert main(["inspect", rows, "--model", "pocket", "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr().out
    assert "fault  stop token: 3 of 3 (100.0%) responses whose end-of-turn token is not trained" in printed
    assert "such as row/0, row/1, row/2" in printed
    assert "1 fault in the loss mask" in printed
    written = json.loads((tmp_path / "out" / "inspect.json").read_text(encoding="utf-8"))
    assert written["kind"] == "audit"
    assert {check["name"] for check in written["checks"] if check["verdict"] == "fault"} == {"stop token"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no model is given"),
        (("--model", "pocket", "--policy", "plain"), "--policy has no effect on rows that have labels"),
        (("--model", "pocket", "--last-turn-only"), "--last-turn-only has no effect on rows that have labels"),
        (("--model", "pocket", "--top", "0"), "--top"),
    ],
)
def test_a_users_mistake_is_exit_code_2(
    tmp_path: Path, chat: ChatTemplate, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    assert main(["inspect", write(tmp_path, chat, stop_trained=True), *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_profile_is_printed_and_written_as_json_and_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    words = ["inspect", "task:pocket_words/train", "--model", "pocket", "--limit", "3", "--policy", "stm:10"]
    assert main([*words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    for title in ("perplexity above", "of the class", "near the threshold", "protected"):
        assert title in printed
    assert sorted(path.name for path in out.iterdir()) == ["inspect.html", "inspect.json"]
    written = json.loads((out / "inspect.json").read_text(encoding="utf-8"))
    assert (written["kind"], written["policy"], written["profile"]["rows"]) == ("profile", "stm:10", 3)
    assert written["profile"]["threshold"] == pytest.approx(10)
