"""Training in a process of its own that kills itself, so that what is left can be taken up."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tokensieve.config import ModelSettings, TrainSettings

_SCRIPT = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.selected_rows import make_rows
from tokensieve.config import ModelSettings, TrainSettings
from tokensieve.training import anchor_choice, train

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def progress(done, total):
    pass

{prepare}
settings = TrainSettings.model_validate_json({settings!r})
train(make_rows(), ModelSettings(model={model!r}), settings, Path({out!r}), progress)
"""


def at_step(step: int) -> str:
    """Code that kills the process when so many steps are done, for ``train_and_die``."""
    return f"def progress(done, total):\n    if done == {step}:\n        die()"


def train_and_die(base: ModelSettings, rules: TrainSettings, out: Path, prepare: str) -> None:
    """Train on ``make_rows()`` in a process that is killed (SIGKILL) by the code given, and check that it was.

    Args:
        base: the model to start from.
        rules: settings of training.
        out: folder of the result.
        prepare: code that has ``die()`` called; it may define ``progress(done, total)``.
    """
    script = _SCRIPT.format(
        root=str(Path(__file__).parents[1]),
        prepare=prepare,
        settings=rules.model_dump_json(),
        model=base.model,
        out=str(out),
    )
    killed = subprocess.run([sys.executable, "-W", "ignore", "-c", script], env={**os.environ}, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
