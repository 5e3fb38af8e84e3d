"""Cards: the Hub's own reader parses them, they tell the report's numbers, and no file of somebody's is overwritten."""

from pathlib import Path

import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard
from tests.synthetic_report import synthetic_report

from tokensieve.data.manifest import Counts, Manifest, ModelIdentity
from tokensieve.errors import InputError
from tokensieve.metrics import Estimate
from tokensieve.report import Report
from tokensieve.report.card import CardFacts, model_card, selection_card, write_card


def report_of(name: str) -> Report:
    report = synthetic_report(seeds=(0, 1))
    return report.model_copy(update={"model": report.model.model_copy(update={"name": name})})


def selection(stage: str = "selected") -> Manifest:
    numbers = {"response_tokens": 1000, "trained_tokens": 800, "left_out_pooled": 0.2, "left_out_nll": 0.7}
    return Manifest(
        stage=stage,
        settings={"policy": "stm:2.5 & keep:first:4"},
        model=ModelIdentity(name="owner/model", dtype="float32"),
        counts=Counts(rows_in=12, rows_out=10, dropped={"no token left to train": 2}),
        facts={**numbers, "protected_tokens": 10, "protected_share_of_kept_nll": 0.25},
    )


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_hubs_reader_parses_a_models_card(tmp_path: Path, method: str) -> None:
    report = report_of("owner/model")
    target = report.targets[0]
    arm = target.arms[1]
    path = write_card(tmp_path, model_card(report, target, arm, method, CardFacts("mit", ("owner/data",))))
    card = ModelCard.load(path)
    data = card.data
    assert data.base_model == "owner/model"
    assert data.datasets == ["owner/data"]
    assert data.license == "mit"
    assert data.library_name == ("transformers" if method == "full" else "peft")
    assert data.to_dict()["base_model_relation"] == ("finetune" if method == "full" else "adapter")
    assert {one.dataset_type: one.metric_value for one in data.eval_results} == {
        result.task: pytest.approx(result.accuracy.value, abs=1e-4) for result in arm.results
    }
    assert "2 training seeds" in card.text
    assert "stm:2.5" in card.text
    assert "learning_rate" in card.text


def test_a_model_of_two_targets_in_a_row_is_told_from_the_first_ones_model_on() -> None:
    report = report_of("owner/model")
    arm = report.targets[0].arms[1]
    target = report.targets[0].model_copy(update={"after": "first_task"})
    started = tuple(one.model_copy(update={"accuracy": Estimate(value=0.123)}) for one in arm.results)
    later = arm.model_copy(update={"start": started})
    text = model_card(report, target, later, "full", CardFacts())
    assert f"it learnt `first_task`, then `{target.task}` with the policy" in text
    assert [line.split("|")[2].strip()[:4] for line in text.splitlines() if line.startswith("| pocket_")] == [
        "12.3"
    ] * 5
    assert "first_task" not in model_card(report, report.targets[0], arm, "full", CardFacts())


def test_a_task_measured_by_likelihood_is_told_in_nats(tmp_path: Path) -> None:
    report = report_of("owner/model")
    target = report.targets[0]
    arm = target.arms[0]
    measured = arm.results[0].model_copy(update={"nats": {"all": Estimate(value=1.25)}})
    swapped = arm.model_copy(update={"results": (measured, *arm.results[1:])})
    path = write_card(tmp_path, model_card(report, target, swapped, "full", CardFacts()))
    first = ModelCard.load(path).data.eval_results[0]
    assert (first.metric_type, first.metric_value) == ("nll", 1.25)


@pytest.mark.parametrize("name", ["pocket", "/data/models/ours"])
def test_a_model_that_is_not_on_the_hub_is_named_without_its_folder(name: str) -> None:
    report = report_of(name)
    text = model_card(report, report.targets[1], report.targets[1].arms[0], "lora", CardFacts())
    assert "base_model" not in yaml.safe_load(text.split("---")[1])
    assert "license: unknown" in text
    assert "/data/models" not in text
    assert name.rpartition("/")[2] in text


def test_the_hubs_reader_parses_a_selections_card(tmp_path: Path) -> None:
    path = write_card(tmp_path, selection_card(selection(), CardFacts(datasets=("owner/data",))))
    card = DatasetCard.load(path)
    assert card.data.license == "unknown"
    assert card.data.size_categories == ["n<1K"]
    assert card.data.to_dict()["source_datasets"] == ["owner/data"]
    for told in ("stm:2.5 & keep:first:4", "20.00%", "70.00%", "25.00%", "10 of 12", "no token left to train: 2"):
        assert told in card.text


@pytest.mark.parametrize(("stage", "fix"), [("exported", "its card already"), ("trained", "study's run")])
def test_other_stages_are_told_where_their_card_is(stage: str, fix: str) -> None:
    with pytest.raises(InputError, match="no card of its own") as raised:
        selection_card(selection(stage), CardFacts())
    assert fix in str(raised.value)


def test_a_card_replaces_ours_and_pefts_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    for there in ("# Model Card for Model ID\n", selection_card(selection(), CardFacts())):
        path.write_text(there)
        write_card(tmp_path, selection_card(selection(), CardFacts("mit")))
    assert "license: mit" in path.read_text()
    path.write_text("# My own words\n")
    with pytest.raises(InputError, match="somebody wrote this file"):
        write_card(tmp_path, "new")
    assert path.read_text() == "# My own words\n"
