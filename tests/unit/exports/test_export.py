import ast
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from tests.export_rows import of, selected_rows

from tokensieve.data.dataset import in_memory
from tokensieve.data.listed_files import listed_files
from tokensieve.data.manifest import Manifest, ModelIdentity, read_manifest
from tokensieve.errors import CheckFailed, InputError
from tokensieve.exports import TRAINERS, Format, export, trainer_row
from tokensieve.pocket import POCKET
from tokensieve.types import Scored, Scores, Selected, Tokens
from tokensieve.verify import verify_export

CASES = [(name, kind) for name, convention in TRAINERS.items() for kind in convention.formats]


def one_row() -> Selected:
    """Tokens 10 to 15; 12, 13, 14 are the response, of which 13 is left out; 14 ends the turn."""
    ids_T = np.arange(10, 16, dtype=np.int32)
    in_response_T = np.asarray([False, False, True, True, True, False])
    ends_T = ids_T == 14
    tokens = Tokens("row", ids_T, in_response_T, ends_T)
    return Selected(Scored(tokens, {"base": Scores(np.zeros(6, np.float32))}), in_response_T & (ids_T != 13))


GOLDEN: dict[str, object] = {
    # labels as they are; the trainers shift (sources: see tokensieve.verify)
    **{
        name: {
            "input_ids": [10, 11, 12, 13, 14, 15],
            "attention_mask": [1] * 6,
            "labels": [-100, -100, 12, -100, 14, -100],
        }
        for name in ("trl", "hf", "axolotl", "llamafactory", "litgpt")
    },
    # one token shorter, label t is token t + 1
    "automodel": {
        "input_ids": [10, 11, 12, 13, 14],
        "attention_mask": [1] * 5,
        "labels": [-100, 12, -100, 14, -100],
    },
    "ms-swift": {
        "messages": [
            {
                "role": "assistant",
                "content": {"token_ids": [10, 11, 12, 13, 14, 15], "loss_scale": [0.0, 0.0, 1.0, 0.0, 1.0, 0.0]},
            }
        ]
    },
}


@pytest.mark.parametrize("name", TRAINERS)
def test_a_row_is_in_the_trainers_own_convention(name: str) -> None:
    assert TRAINERS[name].row(one_row()) == GOLDEN[name]


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_export_round_trips(tmp_path: Path, name: str, kind: Format) -> None:
    rows = selected_rows(30, seed=1)
    folder = export(rows, tmp_path / "out", to=name, format=kind)
    result = verify_export(folder, name, selected=rows, how="rules")
    assert result.ok, result.describe()
    assert result.trained_tokens == sum(int(row.train_T[1:].sum()) for row in rows)
    assert "the trainer itself did not run" in result.how


def test_the_core_has_no_columns_but_its_three(tmp_path: Path) -> None:
    folder = export(selected_rows(3), tmp_path / "out")
    table = pq.read_table(folder / "data" / "train.parquet")
    assert table.column_names == ["input_ids", "attention_mask", "labels"]
    first = next(iter(selected_rows(3)))
    assert table.slice(0, 1).to_pylist()[0] == trainer_row(first)


def test_the_manifest_tells_what_was_left_out_and_by_whom(tmp_path: Path) -> None:
    rows = selected_rows(8)
    manifest = read_manifest(export(rows, tmp_path / "out"))
    response = sum(int(row.tokens.in_response_T.sum()) for row in rows)
    trained = sum(int(row.train_T[1:].sum()) for row in rows)
    assert manifest.facts["share_left_out"] == pytest.approx(1 - trained / response)
    ends = {int(t) for row in rows for t in row.tokens.ids_T[row.tokens.ends_turn_T]}
    assert manifest.facts["end_of_turn_ids"] == sorted(ends)
    assert (manifest.facts["policy"], manifest.facts["scorer"], manifest.facts["trainer"]) == ("stm:2.5", "base", "trl")
    assert manifest.inputs["selected"] == rows.manifest.digest
    assert manifest.model == rows.manifest.model


def test_rows_without_a_trained_token_are_counted_out(tmp_path: Path) -> None:
    first, second = selected_rows(2)
    rows = of([first, Selected(second.scored, second.train_T & False)])
    counts = read_manifest(export(rows, tmp_path / "out")).counts
    assert counts.dropped_ids == {"no trained token": ["row/1"]}
    assert (counts.rows_in, counts.rows_out) == (2, 1)


def test_no_row_left_leaves_no_folder(tmp_path: Path) -> None:
    (only,) = selected_rows(1)
    with pytest.raises(InputError, match="not one row is left; no trained token: 1"):
        export(of([Selected(only.scored, only.train_T & False)]), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in TRAINERS if name != "ms-swift"])
def test_soft_weights_are_refused_where_a_trainer_takes_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"token weights between 0 and 1.*row|row.*token weights between 0 and 1"):
        export(selected_rows(3, soft=True), tmp_path / "out", to=name)


def test_soft_weights_are_rounded_at_one_half_on_request(tmp_path: Path) -> None:
    rows = selected_rows(20, soft=True)
    folder = export(rows, tmp_path / "out", weights="round")
    for got, want in zip(pq.read_table(folder / "data" / "train.parquet").to_pylist(), rows, strict=True):
        trained = np.asarray(got["labels"]) != -100
        assert want.weight_T is not None
        assert trained.tolist() == (want.train_T & (want.weight_T >= 0.5)).tolist()
    assert verify_export(folder, "trl", selected=rows, how="rules").ok


def test_ms_swift_takes_the_weights_themselves(tmp_path: Path) -> None:
    rows = selected_rows(10, soft=True)
    folder = export(rows, tmp_path / "out", to="ms-swift")
    assert verify_export(folder, selected=rows, how="rules").ok
    lines = (folder / "data" / "train.jsonl").read_text().splitlines()
    scale = json.loads(lines[0])["messages"][0]["content"]["loss_scale"]
    first = next(iter(rows))
    assert scale == pytest.approx(cast("list[float]", first.weight_T.tolist() if first.weight_T is not None else []))


def _shift(row: dict[str, list[int]]) -> None:
    row["labels"] = [*row["labels"][1:], -100]


def _train_prompt(row: dict[str, list[int]]) -> None:
    row["labels"] = list(row["input_ids"])


def _drop_end(row: dict[str, list[int]]) -> None:
    row["labels"] = [-100 if label == 2 else label for label in row["labels"]]


def _other_token(row: dict[str, list[int]]) -> None:
    row["input_ids"][0] += 1


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (_shift, "trained but not selected"),
        (_train_prompt, "trained but not selected"),
        (_drop_end, "selected but not trained"),
        (_other_token, "the context is another from here on"),
    ],
)
def test_the_usual_mistakes_are_found(
    tmp_path: Path, spoil: Callable[[dict[str, list[int]]], None], problem: str
) -> None:
    rows = selected_rows(4)
    folder = export(rows, tmp_path / "out", format="jsonl")
    path = folder / "data" / "train.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    spoil(lines[1])
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = verify_export(folder, selected=rows, how="rules")
    assert not result.ok
    assert problem in result.describe()
    assert all(difference.row == 1 for difference in result.first)


@pytest.mark.parametrize("how", ["trainer", "rules"])
@pytest.mark.parametrize("text", [None, '{"input_ids": [1'])
@pytest.mark.filterwarnings("ignore")
def test_a_folder_that_cannot_be_loaded_is_a_failed_check(
    tmp_path: Path, text: str | None, how: Literal["trainer", "rules"]
) -> None:
    rows = selected_rows(4)
    folder = export(rows, tmp_path / "out", format="jsonl")
    path = folder / "data" / "train.jsonl"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(CheckFailed, match="trl cannot load the training set") as failed:
        verify_export(folder, selected=rows, how=how)
    assert failed.value.where == str(folder)


def test_a_missing_row_and_one_too_many_are_found(tmp_path: Path) -> None:
    rows = selected_rows(3)
    folder = export(rows, tmp_path / "out", format="jsonl")
    path = folder / "data" / "train.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:2]))
    assert "row 2 (row/2): the row is missing" in verify_export(folder, selected=rows, how="rules").describe()
    path.write_text("".join([*lines, lines[0]]))
    assert "a row too many" in verify_export(folder, selected=rows, how="rules").describe()


def test_another_selection_is_refused(tmp_path: Path) -> None:
    folder = export(selected_rows(3), tmp_path / "out")
    with pytest.raises(InputError, match="not the one that the export was made from"):
        verify_export(folder, selected=of(list(selected_rows(4))), how="rules")


def test_a_trainer_of_another_convention_is_refused(tmp_path: Path) -> None:
    rows = selected_rows(2)
    folder = export(rows, tmp_path / "out", to="automodel")
    with pytest.raises(InputError, match="written for automodel, whose convention trl does not read"):
        verify_export(folder, "trl", selected=rows)


def test_the_selection_is_found_where_it_lay(tmp_path: Path) -> None:
    saved = selected_rows(3).save(tmp_path / "selected")
    folder = export(saved, tmp_path / "out")
    assert verify_export(folder, how="rules").ok


@pytest.mark.parametrize("name", TRAINERS)
def test_configuration_and_readme_lie_beside_the_rows(tmp_path: Path, name: str) -> None:
    folder = export(selected_rows(3), tmp_path / "out", to=name)
    readme = (folder / "README.md").read_text()
    assert TRAINERS[name].command in readme
    files = [path for path in folder.iterdir() if path.suffix in (".py", ".yaml", ".sh")]
    assert files
    for path in files:
        text = path.read_text()
        if path.suffix == ".py":
            compile(text, str(path), "exec")
        elif path.suffix == ".yaml":
            assert yaml.safe_load(text)
        assert "{{" not in text or name == "ms-swift"


@pytest.mark.parametrize("name", TRAINERS)
def test_the_trainer_writes_beside_the_folder(tmp_path: Path, name: str) -> None:
    folder = export(selected_rows(2), tmp_path / "it's my set", to=name)
    (config,) = (path for path in folder.iterdir() if path.name in CONFIGURATIONS)
    text = config.read_text()
    if config.suffix == ".py":
        written = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    elif config.suffix == ".sh":
        written = list(shlex.split(text, comments=True))
    else:
        settings = yaml.safe_load(text)
        written = [settings.get("output_dir") or settings["checkpoint"]["checkpoint_dir"]]
    assert "../it's my set-adapter" in written


@pytest.mark.parametrize("name", TRAINERS)
def test_the_configuration_finds_a_local_model_from_the_exports_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    own = tmp_path / "my models: 1"
    own.mkdir()
    monkeypatch.chdir(tmp_path)
    for given, place in (("my models: 1", own), ("pocket", POCKET), ("owner/name", None)):
        identity = ModelIdentity(name=given, tokenizer_digest="0" * 64, template_digest="1" * 64)
        folder = export(selected_rows(2), tmp_path / "out", to=name, model=identity)
        assert f"| model to train | {given} |" in (folder / "README.md").read_text()
        (config,) = (path for path in folder.iterdir() if path.name in CONFIGURATIONS)
        assert _model_in(config) == (str(place) if place else "checkpoints/" * (name == "litgpt") + given)


CONFIGURATIONS = ("train.py", "axolotl.yaml", "llamafactory.yaml", "automodel.yaml", "train.sh")


def _model_in(config: Path) -> str:
    """The model that a configuration names, as its reader understands it."""
    text = config.read_text()
    if config.suffix == ".py":
        nodes = list(ast.walk(ast.parse(text)))
        given = [n.value for n in nodes if isinstance(n, ast.keyword) and n.arg == "model"]
        loaded = [n.args[0] for n in nodes if isinstance(n, ast.Call) and "from_pretrained" in ast.unparse(n.func)]
        (model,) = {str(n.value) for n in (*given, *loaded) if isinstance(n, ast.Constant)}
        return model
    if config.suffix == ".sh":
        words = shlex.split(text, comments=True)
        found = [word.removeprefix("CHECKPOINT=") for word in words if word.startswith("CHECKPOINT=")]
        return found[0] if found else words[words.index("--model") + 1]
    written = yaml.safe_load(text)
    model = written.get("base_model") or written.get("model_name_or_path") or written["model"]
    return str(model if isinstance(model, str) else model["pretrained_model_name_or_path"])


def test_an_export_is_replaced_and_anything_else_is_left_alone(tmp_path: Path) -> None:
    out = export(selected_rows(2), tmp_path / "out")
    export(selected_rows(5), out)
    assert read_manifest(out).counts.rows_out == 5
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not delete")
    with pytest.raises(InputError, match="expected an empty folder or an earlier result"):
        export(selected_rows(2), tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").is_file()


@pytest.mark.parametrize("to", TRAINERS)
def test_what_a_trainer_wrote_into_the_folder_stays(tmp_path: Path, to: str) -> None:
    out = export(selected_rows(2), tmp_path / "out", to=to)
    (out / "adapter").mkdir()
    (out / "adapter" / "adapter_model.safetensors").write_bytes(b"trained for a night")
    for again in TRAINERS:
        export(selected_rows(3), out, to=again)
        assert (out / "adapter" / "adapter_model.safetensors").read_bytes() == b"trained for a night"
        listed = {*listed_files(read_manifest(out)), "manifest.json", "adapter/adapter_model.safetensors"}
        assert {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()} == listed


def test_an_adapters_folder_is_no_earlier_export(tmp_path: Path) -> None:
    """PEFT writes a README, training a manifest: both names of an export's files."""
    out = tmp_path / "adapter"
    Manifest(stage="trained").write(out)
    (out / "README.md").write_text("model card")
    (out / "adapter_model.safetensors").write_bytes(b"weights")
    with pytest.raises(InputError, match="expected an empty folder or an earlier result"):
        export(selected_rows(2), out)
    assert (out / "adapter_model.safetensors").read_bytes() == b"weights"


def test_the_public_verb_stays_a_function_beside_the_package_that_it_comes_from(tmp_path: Path) -> None:
    """A package of the verb's own name would take its place once it is imported."""
    import tokensieve
    import tokensieve.exports.trl

    for to in TRAINERS:
        out = tokensieve.export(selected_rows(2), str(tmp_path / to), to=to)
        assert read_manifest(out).settings["to"] == to


def test_what_is_not_selected_yet_and_unknown_trainers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected selected rows, got scored"):
        export(in_memory([one_row()], Manifest(stage="scored")), tmp_path / "a")
    with pytest.raises(InputError, match="unknown trainer 'torchtune'"):
        export(selected_rows(1), tmp_path / "b", to="torchtune")
    with pytest.raises(InputError, match="does not load jsonl"):
        export(selected_rows(1), tmp_path / "c", to="llamafactory", format="jsonl")


def test_a_model_with_another_tokenizer_or_template_is_refused_with_both_digests(tmp_path: Path) -> None:
    rows = selected_rows(2)
    made_with = rows.manifest.model
    assert made_with is not None
    for part, field in (("tokenizer", "tokenizer_digest"), ("chat template", "template_digest")):
        other = made_with.model_copy(update={"name": "other", field: "abcdef" * 10})
        with pytest.raises(InputError, match=f"another {part}, that of tiny") as caught:
            export(rows, tmp_path / "out", model=other)
        assert str(getattr(made_with, field))[:16] in str(caught.value)
        assert ("abcdef" * 10)[:16] in str(caught.value)
        assert not (tmp_path / "out").exists()
    renamed = made_with.model_copy(update={"name": "a-copy-of-it"})
    folder = export(rows, tmp_path / "out", model=renamed)
    assert "model='a-copy-of-it'" in (folder / "train.py").read_text()


def test_the_docs_have_every_trainer() -> None:
    page = (Path(__file__).parents[3] / "docs" / "trainers.md").read_text(encoding="utf-8")
    assert {name for name in TRAINERS if f"| `{name}` |" not in page} == set()
