"""A study as one page that opens offline, and its JSON twin."""

from tokensieve.metrics import Estimate
from tokensieve.report.files import HTML_NAME, JSON_NAME, read_report, write_report
from tokensieve.report.samples import sample_rows
from tokensieve.report.schema import (
    REFERENCE_ARM,
    ArmReport,
    CurvePoint,
    EvaluatedSubset,
    Outcomes,
    ReferenceComparison,
    Report,
    SampleRow,
    SeedRun,
    StageTime,
    TargetReport,
    TaskResult,
)

__all__ = [
    "HTML_NAME",
    "JSON_NAME",
    "REFERENCE_ARM",
    "ArmReport",
    "CurvePoint",
    "Estimate",
    "EvaluatedSubset",
    "Outcomes",
    "ReferenceComparison",
    "Report",
    "SampleRow",
    "SeedRun",
    "StageTime",
    "TargetReport",
    "TaskResult",
    "read_report",
    "sample_rows",
    "write_report",
]
