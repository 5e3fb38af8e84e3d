"""Data of the page's browser of flips."""

from tokensieve.report.flip_schema import WORDS
from tokensieve.report.schema import ArmReport, Report, TargetReport
from tokensieve.types import JSON


def flip_data(report: Report) -> dict[str, JSON] | None:
    """Targets with the problems whose answers flipped, and every arm's flips; None where there are none."""
    targets: list[JSON] = [_target(target) for target in report.targets if target.flip_problems]
    if not targets:
        return None
    return {"targets": targets, "words": {str(outcome): word for outcome, word in WORDS.items()}}


def _target(target: TargetReport) -> JSON:
    problems: list[JSON] = [
        {
            **problem.model_dump(mode="json", exclude={"nearest"}),
            "nearest": [[near.row, near.cosine] for near in problem.nearest],
        }
        for problem in target.flip_problems
    ]
    rows: list[JSON] = [row.model_dump(mode="json") for row in target.near_rows]
    arms: list[JSON] = [_arm(arm) for arm in target.arms if arm.flips]
    return {"name": target.title or target.task, "problems": problems, "rows": rows, "arms": arms}


def _arm(arm: ArmReport) -> JSON:
    tasks: list[JSON] = [cell.model_dump(mode="json") for cell in arm.flips]
    return {"name": arm.name, "tasks": tasks}
