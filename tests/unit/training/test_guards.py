"""Resumption of a training run in its folder."""

from pathlib import Path

import pytest

from tokensieve.config import MachineSettings, TrainSettings
from tokensieve.data.manifest import Manifest
from tokensieve.errors import InputError
from tokensieve.training.adapter import CHECKPOINTS
from tokensieve.training.guards import is_done, latest_checkpoint, pin


def draft(**changes: object) -> Manifest:
    settings = TrainSettings().model_copy(update=changes)
    return Manifest(stage="trained", settings=settings.model_dump(mode="json"), inputs={"rows": "r"})


def test_the_latest_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    assert latest_checkpoint(tmp_path) is None
    for step, state in ((2, "{}"), (10, "{}"), (9, "{}"), (11, '{"epo'), (12, None)):
        folder = tmp_path / CHECKPOINTS / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        if state is not None:
            (folder / "trainer_state.json").write_text(state)
    assert latest_checkpoint(tmp_path) == tmp_path / CHECKPOINTS / "checkpoint-10"


@pytest.mark.parametrize(
    ("second", "kept"),
    [
        ({}, True),
        ({"machine": MachineSettings(checkpoint_minutes=1.0, trackers=("wandb",))}, True),
        ({"machine": MachineSettings(micro_batch_size=1)}, False),
        ({"seed": 1}, False),
    ],
    ids=str,
)
def test_checkpoints_are_kept_for_the_same_run_in_the_same_portions(
    tmp_path: Path, second: dict[str, object], kept: bool
) -> None:
    pin(tmp_path, draft())
    (tmp_path / CHECKPOINTS / "checkpoint-1").mkdir(parents=True)
    pin(tmp_path, draft(**second))
    assert (tmp_path / CHECKPOINTS).is_dir() is kept


def test_a_finished_folder_of_the_same_run_is_done_and_another_is_refused(tmp_path: Path) -> None:
    assert not is_done(tmp_path / "out", draft())
    (tmp_path / "out").mkdir()
    draft().write(tmp_path / "out")
    assert is_done(tmp_path / "out", draft(machine=MachineSettings(packing=True)))
    with pytest.raises(InputError, match="something else"):
        is_done(tmp_path / "out", draft(seed=1))
