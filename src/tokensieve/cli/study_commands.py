"""Commands on whole studies: run, report."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tokensieve.cli.console import Limit, OptionalOut


def run(
    recipe: str,
    /,
    *,
    out_: OptionalOut = None,
    limit: Limit = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    dry_run: bool = False,
    allow_weak_sandbox: bool = False,
) -> int:
    """Run a study: every arm on every target, then the report.

    Killed at any moment, the same command goes on where it stopped; finished stages are not done again.

    Args:
        recipe: A shipped recipe's name, such as pocket, or a YAML file.
        out_: Folder of the run; runs/NAME by default.
        limit: The first N training rows and problems only: a quick look.
        set_: Settings other than the recipe's, e.g. train.learning_rate=1e-4.
        dry_run: Say what would be done and how long it would take, and stop.
        allow_weak_sandbox: Go on where this machine cannot isolate generated code as well as promised.
    """
    from tokensieve.cli import study
    from tokensieve.cli.check import take_weak_sandbox

    take_weak_sandbox(allow_weak_sandbox)
    return study.run(recipe, out_, limit, set_, dry_run=dry_run)


def report(folder: Path, /) -> int:
    """Write the report of a study's run again from its stages.

    Args:
        folder: Folder of the run.
    """
    from tokensieve.cli import study

    return study.report(folder)
