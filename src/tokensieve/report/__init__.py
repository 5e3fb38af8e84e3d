"""A study, or an inspection of training data, as one page that opens offline, and its JSON twin."""

from tokensieve.metrics import Estimate
from tokensieve.report.browser_schema import SampleRow
from tokensieve.report.browsers import sample_rows
from tokensieve.report.inspection_page import INSPECTION_HTML, INSPECTION_JSON, render_inspection, write_inspection
from tokensieve.report.page import HTML_NAME, JSON_NAME, read_report, write_report
from tokensieve.report.results_schema import CurvePoint, Outcomes, SeedRun, TaskResult
from tokensieve.report.schema import (
    REFERENCE_ARM,
    ArmReport,
    EvaluatedSubset,
    ReferenceComparison,
    Report,
    StageTime,
    TargetReport,
)

__all__ = [
    "HTML_NAME",
    "INSPECTION_HTML",
    "INSPECTION_JSON",
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
    "render_inspection",
    "sample_rows",
    "write_inspection",
    "write_report",
]
