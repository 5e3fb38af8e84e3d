"""Settings: small strict classes that explain every field, values that can be meant, defaults that stay."""

import inspect

import pytest
from pydantic import BaseModel, ValidationError

from tokensieve import config
from tokensieve.config import (
    AnchorSettings,
    CalibrateSettings,
    DataSettings,
    EvaluateSettings,
    GenerateSettings,
    InspectSettings,
    LoraSettings,
    MachineSettings,
    ModelSettings,
    SampleSettings,
    SearchSettings,
    StudySettings,
    SweepSettings,
    TrainSettings,
)
from tokensieve.errors import in_words

CLASSES = [
    value for value in vars(config).values()
    if inspect.isclass(value) and issubclass(value, BaseModel) and value is not BaseModel
]  # fmt: skip
STUDY = {"name": "n", "targets": [{"task": "t", "others": ["o"]}], "arms": [{"name": "plain"}]}


@pytest.mark.parametrize("settings", CLASSES, ids=lambda c: c.__name__)
def test_a_settings_class_is_strict_small_and_explains_every_field(settings: type[BaseModel]) -> None:
    assert settings.model_config.get("frozen")
    assert settings.model_config.get("extra") == "forbid"
    values = [field for field in settings.model_fields.values() if field.annotation not in CLASSES]
    assert len(values) <= 12, "beside groups of settings that are classes of their own"
    assert len(settings.model_fields) <= 16
    assert [name for name, field in settings.model_fields.items() if not field.description] == []


def test_template_arguments_are_json_values_whether_they_come_as_such_or_as_text() -> None:
    texts = {"a": "false", "b": "3", "c": "0.5", "d": '{"x": [1]}', "e": '"3"', "f": "null"}
    assert ModelSettings(template_kwargs=texts).template_kwargs == {
        "a": False, "b": 3, "c": 0.5, "d": {"x": [1]}, "e": "3", "f": None,
    }  # fmt: skip
    others = {"today": "2026-01-31", "word": "NaN", "list": [{"x": None}], "flag": True, "brackets": "[" * 100_000}
    assert ModelSettings(template_kwargs=others).template_kwargs == others


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        (DataSettings, {"limit": 0}),
        (DataSettings, {"max_length": -1}),
        (TrainSettings, {"epochs": 0}),
        (TrainSettings, {"learning_rate": -1e-5}),
        (TrainSettings, {"batch_size": 0}),
        (MachineSettings, {"micro_batch_size": 0}),
        (LoraSettings, {"dropout": 1.0}),
        (SampleSettings, {"temperature": -0.1}),
        (SampleSettings, {"top_p": 0.0}),
        (SampleSettings, {"n": 0}),
        (EvaluateSettings, {"limit": -2}),
    ],
    ids=str,
)
def test_a_value_that_nobody_can_mean_is_refused_in_words(settings: type[BaseModel], value: dict[str, float]) -> None:
    with pytest.raises(ValidationError) as refused:
        settings.model_validate(value)
    (complaint,) = refused.value.errors()
    assert in_words(complaint).startswith("expected ")
    assert in_words(complaint).endswith(f"got {next(iter(value.values()))}")


@pytest.mark.parametrize(
    ("settings", "value", "words"),
    [
        (SearchSettings, {"epoch_factors": (4, 2)}, "expected ascending numbers, got 4, 2"),
        (SearchSettings, {"epoch_factors": (2, 2)}, "expected ascending numbers, got 2, 2"),
        (SearchSettings, {"rungs": (0.5, 0.25)}, "expected ascending numbers, got 0.5, 0.25"),
        (SearchSettings, {"alphas": (0.5, 0.5)}, "expected each number once, got 0.5, 0.5"),
        (CalibrateSettings, {"rates": (1e-4, 2e-4, 1e-4)}, "expected each number once, got 0.0001, 0.0002, 0.0001"),
        (SweepSettings, {"learning_rates": (1e-4, 1e-4)}, "expected each number once, got 0.0001, 0.0001"),
        (SweepSettings, {"arms": {"plain": (2e-4, 2e-4)}}, "expected each number once, got 0.0002, 0.0002"),
        (InspectSettings, {"thresholds": (2.5, 2.5)}, "expected each number once, got 2.5, 2.5"),
    ],
    ids=str,
)
def test_numbers_in_a_list_are_in_order_or_differ(
    settings: type[BaseModel], value: dict[str, object], words: str
) -> None:
    with pytest.raises(ValidationError) as refused:
        settings.model_validate(value)
    (complaint,) = refused.value.errors()
    assert in_words(complaint) == words


@pytest.mark.parametrize(
    ("settings", "value"),
    [
        (SearchSettings, {"rungs": ()}),
        (SearchSettings, {"rungs": (0.5, 1.5)}),
        (SearchSettings, {"alphas": (0.0,)}),
        (CalibrateSettings, {"rates": ()}),
        (CalibrateSettings, {"rates": (0.0,)}),
        (SweepSettings, {"learning_rates": (-1e-4,)}),
        (InspectSettings, {"thresholds": (0.5,)}),
    ],
    ids=str,
)
def test_numbers_in_a_list_are_in_their_range(settings: type[BaseModel], value: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        settings.model_validate(value)


@pytest.mark.parametrize("source", ["answers", "rows", "text"])
def test_anchors_read_data_where_their_source_has_any(source: str) -> None:
    assert AnchorSettings.model_validate({"source": source, "data": "d"}).data == "d"
    with pytest.raises(ValidationError, match=f"anchors from {source} need their data, got none"):
        AnchorSettings.model_validate({"source": source})
    with pytest.raises(ValidationError, match="anchors from dialogues read no data, got d"):
        AnchorSettings(data="d")


def test_what_a_recipe_leaves_out_of_sampling_stays_as_self_output_draws() -> None:
    given = GenerateSettings.model_validate({"sampling": {"n": 4}}).sampling
    assert (given.n, given.temperature, given.top_p) == (4, 0.7, 0.95)
    assert SampleSettings().temperature == 0.0, "an evaluation is greedy"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"arms": []}, "expected at least 1 entry, got 0"),
        ({"arms": [{"name": "a"}, {"name": "a", "policy": "stm:2"}]}, "'a' is listed twice"),
        ({"targets": [{"task": "t", "others": []}, {"task": "t", "others": ["o"]}]}, "'t' is listed twice"),
        ({"seeds": [0, 1, 0]}, "0 is listed twice"),
        ({"targets": [{"task": "t", "others": ["t"]}]}, "t is the target"),
    ],
    ids=str,
)
def test_a_study_names_each_thing_once(change: dict[str, object], words: str) -> None:
    assert StudySettings.model_validate(STUDY).arms[0].policy == "plain"
    with pytest.raises(ValidationError) as refused:
        StudySettings.model_validate({**STUDY, **change})
    assert words in in_words(refused.value.errors()[0])


def test_generation_takes_sample_settings_for_the_fields_that_were_set() -> None:
    made = GenerateSettings(sampling=SampleSettings(n=2, seed=5))
    assert made == GenerateSettings.model_validate({"sampling": {"n": 2, "seed": 5}})
    assert made.sampling.temperature == 0.7
