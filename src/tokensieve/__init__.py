"""Fine-tune a language model without making it forget: score, select, train, measure.

The verbs of the command line as functions, the settings they take and the results they give. Everything is imported on
first use: ``import tokensieve`` itself imports neither torch nor transformers.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokensieve.anchors import make_anchors
    from tokensieve.calibration import Calibration, calibrate
    from tokensieve.comparison import compare
    from tokensieve.config import (
        AnchorSettings,
        CalibrateSettings,
        DataSettings,
        DriftSettings,
        EvaluateSettings,
        GenerateSettings,
        InspectSettings,
        KlSettings,
        LaunchSettings,
        LoraSettings,
        ModelSettings,
        ObjectiveSettings,
        RepairSettings,
        SampleSettings,
        ScoreSettings,
        SelectSettings,
        StudySettings,
        TrainSettings,
    )
    from tokensieve.data.dataset import Rows, open_rows
    from tokensieve.drift import Drift, measure_drift
    from tokensieve.errors import CheckFailed, EnvironmentProblem, InputError, TokensieveError
    from tokensieve.evaluation import EvalResult, evaluate
    from tokensieve.exports import export
    from tokensieve.generation import generate
    from tokensieve.inspection import Inspection, MaskAudit, inspect_data
    from tokensieve.models import LoadedModel, load_model
    from tokensieve.pipeline import load, select
    from tokensieve.repair import Repair, repair_model
    from tokensieve.scoring import score
    from tokensieve.study import run
    from tokensieve.training import Adapter, train
    from tokensieve.training.callbacks import DriftCallback
    from tokensieve.training.sieve_trainer import SieveSFTTrainer, sieve_dataset
    from tokensieve.verify import verify_export

__version__ = metadata.version("tokensieve")

_CONFIG = (
    "AnchorSettings",
    "CalibrateSettings",
    "DataSettings",
    "DriftSettings",
    "EvaluateSettings",
    "GenerateSettings",
    "InspectSettings",
    "KlSettings",
    "LaunchSettings",
    "LoraSettings",
    "ModelSettings",
    "ObjectiveSettings",
    "RepairSettings",
    "SampleSettings",
    "ScoreSettings",
    "SelectSettings",
    "StudySettings",
    "TrainSettings",
)
_ERRORS = ("CheckFailed", "EnvironmentProblem", "InputError", "TokensieveError")
_HOMES = {
    **dict.fromkeys(_CONFIG, "config"),
    **dict.fromkeys(_ERRORS, "errors"),
    "Adapter": "training",
    "Calibration": "calibration",
    "Drift": "drift",
    "DriftCallback": "training.callbacks",
    "EvalResult": "evaluation",
    "Inspection": "inspection",
    "LoadedModel": "models",
    "MaskAudit": "inspection",
    "Repair": "repair",
    "Rows": "data.dataset",
    "SieveSFTTrainer": "training.sieve_trainer",
    "calibrate": "calibration",
    "compare": "comparison",
    "evaluate": "evaluation",
    "export": "exports",
    "generate": "generation",
    "inspect_data": "inspection",
    "load": "pipeline",
    "load_model": "models",
    "make_anchors": "anchors",
    "measure_drift": "drift",
    "open_rows": "data.dataset",
    "repair_model": "repair",
    "run": "study",
    "score": "scoring",
    "select": "pipeline",
    "sieve_dataset": "training.sieve_trainer",
    "train": "training",
    "verify_export": "verify",
}
"""Module of each public name."""

__all__ = [
    "Adapter",
    "AnchorSettings",
    "CalibrateSettings",
    "Calibration",
    "CheckFailed",
    "DataSettings",
    "Drift",
    "DriftCallback",
    "DriftSettings",
    "EnvironmentProblem",
    "EvalResult",
    "EvaluateSettings",
    "GenerateSettings",
    "InputError",
    "InspectSettings",
    "Inspection",
    "KlSettings",
    "LaunchSettings",
    "LoadedModel",
    "LoraSettings",
    "MaskAudit",
    "ModelSettings",
    "ObjectiveSettings",
    "Repair",
    "RepairSettings",
    "Rows",
    "SampleSettings",
    "ScoreSettings",
    "SelectSettings",
    "SieveSFTTrainer",
    "StudySettings",
    "TokensieveError",
    "TrainSettings",
    "calibrate",
    "compare",
    "evaluate",
    "export",
    "generate",
    "inspect_data",
    "load",
    "load_model",
    "make_anchors",
    "measure_drift",
    "open_rows",
    "repair_model",
    "run",
    "score",
    "select",
    "sieve_dataset",
    "train",
    "verify_export",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
