"""A study as one page that opens offline, and its JSON twin."""

from tokensieve.report.contents import (
    REFERENCE_ARM,
    ArmReport,
    Comparison,
    CurvePoint,
    Estimate,
    EvaluatedSubset,
    Outcomes,
    Report,
    SampleRow,
    SeedRun,
    StageTime,
    TargetReport,
    TaskResult,
)

__all__ = [
    "REFERENCE_ARM",
    "ArmReport",
    "Comparison",
    "CurvePoint",
    "Estimate",
    "EvaluatedSubset",
    "Outcomes",
    "Report",
    "SampleRow",
    "SeedRun",
    "StageTime",
    "TargetReport",
    "TaskResult",
]
