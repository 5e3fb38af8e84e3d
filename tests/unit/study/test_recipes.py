"""Recipes: the shipped ones are valid, and a wrong one says what would be right."""

from pathlib import Path

import pytest

from tokensieve.config import StudySettings
from tokensieve.errors import InputError
from tokensieve.selection import parse_policy
from tokensieve.study.recipes import read_recipe, recipe_names, with_overrides
from tokensieve.study.runner import prepare, settings_of_run
from tokensieve.tasks import TASKS

TARGET = {"task": "pocket_python_foreign", "others": []}
SMALL = """
name: small
targets: [{task: pocket_python_foreign, others: [pocket_sql]}]
arms: [{name: plain}]
"""


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_names_tasks_and_policies_that_exist(name: str) -> None:
    recipe = read_recipe(name)
    for target in recipe.targets:
        assert {target.task, *target.others} <= set(TASKS)
        assert target.task not in target.others
    for arm in recipe.arms:
        parse_policy(arm.policy)
    assert "plain" in [arm.name for arm in recipe.arms]


def test_pocket_is_shipped() -> None:
    assert "pocket" in recipe_names()
    assert read_recipe("pocket").model.model == "pocket"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seads: [1]", "unknown key 'seads'; did you mean 'seeds'?"),
        ("train: {lerning_rate: 1.0e-4}", "unknown key 'train.lerning_rate'; did you mean 'learning_rate'?"),
        ("train: {packing: true}", "unknown key 'train.packing'; did you mean 'machine.packing'?"),
        ("train: {lora: {rank: 3}}", "unknown key 'train.lora.rank'; known here: alpha, dora, dropout, r"),
        ("train: {epochs: many}", "train.epochs: expected a valid number"),
        ("seeds: 3", "seeds: expected a valid tuple, got 3"),
    ],
)
def test_a_wrong_setting_is_named_with_the_nearest_valid_one(tmp_path: Path, change: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(SMALL + change)
    with pytest.raises(InputError) as caught:
        read_recipe(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_an_unknown_arm_key_is_named_within_its_list(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(SMALL.replace("{name: plain}", "{name: plain, polcy: plain}"))
    with pytest.raises(InputError, match=r"unknown key 'arms\.0\.polcy'; did you mean 'policy'"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [("a: [1", "not valid YAML"), ("- 1", "expected a mapping"), ("", "expected a mapping")],
)
def test_what_is_no_recipe_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_recipe(path)


def test_a_recipe_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"r\.yaml: not UTF-8 text"):
        read_recipe(path)


@pytest.mark.parametrize("content", ["{", '{"name": 1}'])
def test_a_runs_damaged_settings_are_refused_by_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "study.json").write_text(content)
    with pytest.raises(InputError, match=r"study\.json: the settings are damaged or of another version"):
        settings_of_run(tmp_path)


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ({"name": "a", "policy": "smt:2"}, "unknown policy 'smt:2'"),
        ({"name": "a", "data": "self_dialogue"}, "a: no arm of a study trains on self_dialogue"),
    ],
)
def test_an_arm_that_cannot_be_made_is_known_before_anything_runs(
    tmp_path: Path, arm: dict[str, str], message: str
) -> None:
    settings = StudySettings.model_validate({"name": "n", "targets": [TARGET], "arms": [arm]})
    with pytest.raises(InputError, match=message):
        prepare(settings, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_a_report_that_no_study_wrote_is_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("of the quarter")
    with pytest.raises(InputError, match=rf"{name} would be overwritten"):
        prepare(read_recipe("pocket"), tmp_path).make()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "of the quarter"}


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'pocket'"):
        read_recipe("poket")
    with pytest.raises(InputError, match="no such recipe file"):
        read_recipe("nowhere.yaml")


def test_settings_can_be_replaced_one_by_one() -> None:
    recipe = read_recipe("pocket")
    changed = with_overrides(recipe, {"train.learning_rate": 1e-5, "seeds": [0, 1]})
    assert isinstance(changed, StudySettings)
    assert changed.train.learning_rate == 1e-5
    assert changed.seeds == (0, 1)
    assert changed.targets == recipe.targets
    with pytest.raises(InputError, match="did you mean 'learning_rate'"):
        with_overrides(recipe, {"train.learnin_rate": 1})
    with pytest.raises(InputError, match="holds no settings"):
        with_overrides(recipe, {"name.x": 1})
