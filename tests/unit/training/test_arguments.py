"""A training run's arguments: experiment trackers, and a warm-up that would leave no step."""

from pathlib import Path
from typing import get_args

import pytest
from tests.selected_rows import make_rows
from tests.unit.training.test_train import settings

from tokensieve.config import MachineSettings, ModelSettings
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.models import load_model
from tokensieve.training import arguments as module
from tokensieve.training import train
from tokensieve.training.arguments import report_to


def test_tensorboard_gets_every_step_beside_the_result(tiny_folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    rules = settings(machine=MachineSettings(trackers=("tensorboard",)))
    adapter = train(make_rows(), ModelSettings(model=str(tiny_folder)), rules, tmp_path / "run one")
    events = EventAccumulator(str(tmp_path / "tensorboard" / "run one"))
    events.Reload()
    logged = {event.step: event.value for event in events.Scalars("train/loss")}
    assert logged == pytest.approx({step.step: step.loss for step in adapter.log}, rel=1e-6)
    assert "train/trained_tokens" in events.Tags()["scalars"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run one", "tensorboard"]


@pytest.mark.parametrize(("name", "line"), [("wandb", "pip install wandb"), ("comet_ml", "pip install comet-ml")])
def test_a_tracker_that_is_not_installed_is_named_with_its_install_line(
    monkeypatch: pytest.MonkeyPatch, name: str, line: str
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(EnvironmentProblem, match=line):
        report_to(MachineSettings.model_validate({"trackers": [name]}))
    assert report_to(MachineSettings()) == "none"


def test_every_tracker_is_one_of_the_trainer_s() -> None:
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    kind = MachineSettings.model_fields["trackers"].annotation
    names = get_args(get_args(kind)[0])
    assert len(names) > 5
    assert set(names) <= set(INTEGRATION_TO_CALLBACK)


def test_one_step_that_warm_up_makes_nothing_of_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    """Its adapter would change nothing, and be refused wherever it is read."""
    rows, model = make_rows(), ModelSettings(model=str(tiny_folder))
    rules = settings(method="lora", epochs=1, batch_size=len(rows), warmup_steps=20)
    with pytest.raises(InputError, match=r"make one step.*\n.*--warmup-steps 0"):
        train(rows, model, rules, tmp_path / "out")
    adapter = train(rows, model, rules.model_copy(update={"warmup_steps": 0}), tmp_path / "out")
    assert load_model(adapter.on(model)).identity.adapter_digest is not None, "it is read"
