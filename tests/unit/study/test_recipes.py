"""Recipes: the shipped ones are valid, and a wrong one says what would be right."""

import re
import shlex
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from tokensieve.config import StudySettings
from tokensieve.errors import InputError
from tokensieve.selection import parse_policy
from tokensieve.study.recipes import command_of, read_recipe, recipe_names, with_overrides
from tokensieve.study.runner import prepare, settings_of_run
from tokensieve.tasks import get_task

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
        for task in (target.task, *target.others):
            assert get_task(task).name == task
        assert target.task not in target.others
    for arm in recipe.arms:
        parse_policy(arm.policy)
    assert "plain" in [arm.name for arm in recipe.arms]


@pytest.mark.parametrize("name", recipe_names())
def test_every_shipped_recipe_is_planned_without_weights_and_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a dry run asks for no file of the Hub")

    monkeypatch.setattr("tokensieve.models.fetch._download", refuse)
    monkeypatch.setattr("tokensieve.data.formats.hub.download", refuse)
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    study = prepare(read_recipe(name), tmp_path, by_name=True)
    assert study.missing
    assert study.planner.inputs.by_name is (study.plan.settings.model.model != "pocket")


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
    [
        ("a: [1", "not valid YAML"),
        ("- 1", "expected a mapping"),
        ("", "expected a mapping"),
        (SMALL + "name: other", r"(?s)'name' stands twice in one mapping.*line 5"),
        (SMALL.replace("{name: plain}", "{name: plain, name: b}"), "'name' stands twice"),
    ],
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


def study(**changes: object) -> StudySettings:
    return StudySettings.model_validate({"name": "n", "targets": [TARGET], "arms": [{"name": "plain"}], **changes})


PLAIN = {"name": "plain"}
LARGER = {"models": {"larger": {"model": "pocket"}, "tuned": "arm:plain"}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": [{"name": "a", "train": {"lerning_rate": 1}}]}, "arm 'a': unknown key 'train.lerning_rate'; did you"),
        ({"arms": [{"name": "a", "train": {"lora": {"rank": 1}}}]}, "unknown key 'train.lora.rank'; known here: alpha"),
        ({"arms": [{"name": "a", "train": {"epochs": "x"}}]}, "arm 'a': train.epochs: expected a valid number"),
        ({"arms": [{"name": "a", "train": {"seed": 3}}]}, "train.seed has no effect in a study; give seeds"),
        ({"arms": [{"name": "a", "paper_exact": True, "protect": ["reasoning"]}]}, "paper_exact protects no token"),
        ({"train": {"seed": 3}}, "train.seed has no effect"),
        ({"data": {"columns": {"prompt": "q"}}}, "data.columns has no effect"),
        ({"data": {"format": "alpaca"}}, "data.format has no effect"),
        ({"score": {"scorer": "larger"}}, "score.scorer has no effect in a study; name other models in score.models"),
        ({"score": {"models": {"base": {"model": "pocket"}}}}, "score.models.base has no effect"),
        (
            {"score": {"models": {"tuned": "arm:nobody"}}},
            "score.models.tuned: expected a model's settings",
        ),
        ({"evaluate": {"tasks": ["gsm8k"]}}, "evaluate.tasks has no effect in a study; name them in the targets"),
    ],
)
def test_settings_that_a_study_does_not_use_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        study(**changes)


@pytest.mark.parametrize(
    ("arm", "more", "message"),
    [
        ({"policy": "dpf"}, {}, "reads scores by 'tuned'; the study's scorers are: base"),
        ({"scorer": "larger"}, {}, "reads scores by 'larger'"),
        ({"policy": "frozen:eaft"}, {}, "needs the entropy of the 20 likeliest entries"),
        ({"policy": "nowhere.py:f"}, {}, "expected file.py:name"),
        ({"mix": "nowhere:0.3"}, {}, "nowhere"),
        ({"data": "self_output"}, {"data": {"split": "test"}}, "made of a task's train split"),
    ],
)
def test_an_arm_that_lacks_what_its_policy_reads_is_known_before_anything_runs(
    tmp_path: Path, arm: dict[str, object], more: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        prepare(study(arms=[PLAIN, {"name": "a", **arm}], **more), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_scores_must_be_trained_by_an_earlier_arm(tmp_path: Path) -> None:
    arms = [{"name": "a", "policy": "dpf"}, PLAIN]
    with pytest.raises(InputError, match="must stand before it"):
        prepare(study(arms=arms, score={"models": {"tuned": "arm:plain"}}), tmp_path)


def test_an_arms_own_settings_change_its_own_steps_alone(tmp_path: Path) -> None:
    arms = [
        PLAIN,
        {"name": "fast", "train": {"learning_rate": 1e-3, "lora": {"r": 4}}},
        {"name": "by larger", "policy": "stm:2.5", "scorer": "larger"},
        {"name": "dpf", "policy": "stm:100 & dpf"},
    ]
    settings = study(arms=arms, score=LARGER, train={"lora": {"alpha": 8}})
    plain, fast, by_larger, dpf = prepare(settings, tmp_path).plan.targets[0].arms
    assert fast.rows[0].scores[0].key == plain.rows[0].scores[0].key
    assert fast.rows[0].select.key == plain.rows[0].select.key
    assert fast.runs[0].train.key != plain.runs[0].train.key
    trained = settings.train_of(settings.arms[1])
    assert (trained.learning_rate, trained.lora.r, trained.lora.alpha) == (1e-3, 4, 8)
    assert by_larger.rows[0].scores[0].key == plain.rows[0].scores[0].key
    assert [step.label.rpartition(" by ")[2] for step in by_larger.rows[0].scores[1:]] == ["larger"]
    assert [step.label.rpartition(" by ")[2] for step in dpf.rows[0].scores[1:]] == ["tuned"]
    order = [step.key for step in prepare(settings, tmp_path).plan.steps()]
    assert order.index(plain.runs[0].train.key) < order.index(dpf.rows[0].scores[1].key)


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


def test_the_command_names_the_recipe_and_what_differs_from_it() -> None:
    recipe = read_recipe("pocket/main")
    assert command_of(recipe, "pocket/main") == "tokensieve run pocket/main"
    changed = with_overrides(recipe, {"seeds": [0], "train.lora.r": 4, "title": "a b"})
    command = command_of(changed, "pocket/main")
    assert command == "tokensieve run pocket/main --set 'title=\"a b\"' --set 'seeds=[0]' --set train.lora.r=4"
    _, *words = shlex.split(command.replace("tokensieve run ", ""))
    given = dict(word.split("=", 1) for word in words if word != "--set")
    again = with_overrides(recipe, {key: yaml.safe_load(value) for key, value in given.items()})
    assert again == changed
