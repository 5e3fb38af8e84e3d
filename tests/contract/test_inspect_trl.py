"""The audit of loss masks on rows that TRL itself has tokenised, masked and packed."""

from pathlib import Path

import pytest
from datasets import Dataset
from tests.conftest import ModelFactory
from trl import SFTConfig, SFTTrainer

from tokensieve.inspection import MaskAudit, inspect_data
from tokensieve.models import LoadedModel
from tokensieve.models.device import checkpointing_arguments

ROWS = [
    {"messages": [{"role": "user", "content": f"add {i}"}, {"role": "assistant", "content": f"it is {i}"}]}
    for i in range(10)
]


@pytest.fixture(scope="module")
def model(tiny_model: ModelFactory) -> LoadedModel:
    return tiny_model("LlamaConfig")


@pytest.mark.parametrize(
    ("settings", "faults"),
    [
        ({"assistant_only_loss": True, "max_length": None}, set()),
        ({"max_length": None}, {"prompt"}),
        ({"assistant_only_loss": True, "packing": True, "max_length": 64}, set()),
        ({"assistant_only_loss": True, "max_length": 16}, {"cut off"}),
    ],
    ids=["responses only", "all tokens", "packed", "cut"],
)
def test_rows_of_trl_are_read_as_trl_means_them(
    model: LoadedModel, tmp_path: Path, settings: dict[str, object], faults: set[str]
) -> None:
    machine = {"report_to": "none", "use_cpu": True, "bf16": False, **checkpointing_arguments(False)}
    arguments = SFTConfig(output_dir=str(tmp_path), **machine, **settings)
    trainer = SFTTrainer(
        model=model.model,
        args=arguments,
        train_dataset=Dataset.from_list(ROWS),
        processing_class=model.tokenizer,
    )
    rows = trainer.train_dataset
    found = inspect_data(rows, model)
    assert isinstance(found, MaskAudit)
    assert {check.name for check in found.checks if check.verdict == "fault"} == faults
    assert found.labels == "unshifted"
    assert found.responses == len(ROWS)
    borders = next(check for check in found.checks if check.name == "packing border")
    assert borders.of == (len(ROWS) - len(rows) if settings.get("packing") else 0)
