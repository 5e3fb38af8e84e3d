"""Settings of every stage: frozen, strict, one class a stage. The text under a field is its help text."""

from tokensieve.config.arms import ArmGenerateSettings, ArmSettings, SweepSettings, TargetSettings
from tokensieve.config.base import STRICT, ModelSettings, TemplateArgument, as_settings, read_yaml
from tokensieve.config.data import DataSettings, InspectSettings, LaunchSettings, ScoreSettings, SelectSettings
from tokensieve.config.evaluation import (
    CalibrateSettings,
    CutOff,
    DriftSettings,
    EvaluateSettings,
    ProbeSettings,
    RepairSettings,
    SearchSettings,
)
from tokensieve.config.sampling import (
    AnswererSettings,
    DialogueSettings,
    GenerateSettings,
    ManySettings,
    SampleSettings,
)
from tokensieve.config.study import ARM_PREFIX, StudyEvaluateSettings, StudyScoreSettings, StudySettings
from tokensieve.config.training import (
    AnchorSettings,
    KlSettings,
    LoraSettings,
    MachineSettings,
    ObjectiveSettings,
    PilotSettings,
    TrainSettings,
    ValidationSettings,
)

__all__ = [
    "ARM_PREFIX",
    "STRICT",
    "AnchorSettings",
    "AnswererSettings",
    "ArmGenerateSettings",
    "ArmSettings",
    "CalibrateSettings",
    "CutOff",
    "DataSettings",
    "DialogueSettings",
    "DriftSettings",
    "EvaluateSettings",
    "GenerateSettings",
    "InspectSettings",
    "KlSettings",
    "LaunchSettings",
    "LoraSettings",
    "MachineSettings",
    "ManySettings",
    "ModelSettings",
    "ObjectiveSettings",
    "PilotSettings",
    "ProbeSettings",
    "RepairSettings",
    "SampleSettings",
    "ScoreSettings",
    "SearchSettings",
    "SelectSettings",
    "StudyEvaluateSettings",
    "StudyScoreSettings",
    "StudySettings",
    "SweepSettings",
    "TargetSettings",
    "TemplateArgument",
    "TrainSettings",
    "ValidationSettings",
    "as_settings",
    "read_yaml",
]
