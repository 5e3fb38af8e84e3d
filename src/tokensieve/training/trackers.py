"""Experiment trackers, by the Hugging Face Trainer's own integrations."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from transformers import Trainer
from transformers.integrations import TensorBoardCallback

from tokensieve.config import MachineSettings
from tokensieve.errors import EnvironmentProblem

_PACKAGES: Final = {"comet_ml": "comet-ml"}
"""Packages that are installed under another name than they are imported by."""


def report_to(settings: MachineSettings) -> list[str] | str:
    """The trainer's argument of this name.

    Raises:
        EnvironmentProblem: a tracker's package is not installed.
    """
    for name in settings.trackers:
        if find_spec(name) is None:
            raise EnvironmentProblem(
                f"the tracker {name} is not installed",
                where="train.machine.trackers",
                fix=f"pip install {_PACKAGES.get(name, name)}",
            )
    return list(settings.trackers) or "none"


def name_run(trainer: Trainer, out: Path) -> None:
    """Let the trackers call the run by the folder of its result.

    TensorBoard's files go to ``tensorboard/NAME`` beside that folder, where one ``tensorboard --logdir`` shows all, or
    to TENSORBOARD_LOGGING_DIR; by default they would be in the working folder, which is removed at the end.
    """
    trainer.args.run_name = out.name
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and "TENSORBOARD_LOGGING_DIR" not in os.environ:
            callback.logging_dir = str(out.parent / "tensorboard" / out.name)
