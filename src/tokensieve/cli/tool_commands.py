"""Commands beside the pipeline: check, doctor, and the score store."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from tokensieve.cli.console import Limit, OptionalOut, out
from tokensieve.config import CutOff


def check(
    task: str,
    /,
    *,
    data: Path | None = None,
    answers: Path | None = None,
    out_: OptionalOut = None,
    limit: Limit = None,
    cut_off: CutOff = "judge",
    allow_weak_sandbox: bool = False,
) -> int:
    """Put every gold answer of a task through its own checker, or judge given answers.

    Args:
        task: Name of the task, or the YAML file of your own.
        data: Folder with the benchmark in its published format.
        answers: JSONL rows of id and answer (raw response text) to be judged.
        out_: JSONL file of the verdicts, one a row of answers, in their order.
        limit: The first N rows only.
        cut_off: Answers with "finished": false: judge the text that there is, or count them as wrong unread.
        allow_weak_sandbox: Go on where this machine cannot isolate generated code as well as promised.
    """
    from tokensieve.cli import check

    return check.check(task, data, answers, out_, limit, cut_off=cut_off, allow_weak_sandbox=allow_weak_sandbox)


def doctor() -> int:
    """Say what is installed and what this machine can do: versions, devices, caches, the sandbox."""
    from tokensieve.cli import look

    return look.doctor()


def store_list(*, folder: Path | None = None) -> int:
    """List whose scores the store holds.

    Args:
        folder: The store; the user's cache by default.
    """
    from tokensieve.cli.tables import print_store
    from tokensieve.scoring.store import stored_models

    print_store(stored_models(folder))
    return 0


def store_size(*, folder: Path | None = None) -> int:
    """Say where the store lies and how much room it takes.

    Args:
        folder: The store; the user's cache by default.
    """
    from tokensieve.data import store

    out.print(f"{folder or store.default_store()}: {store.store_size(folder) / 2**20:,.1f} MiB")
    return 0


def store_prune(
    *,
    model: str | None = None,
    unused_days: Annotated[int | None, Parameter(validator=validators.Number(gte=0))] = None,
    everything: bool = False,
    folder: Path | None = None,
) -> int:
    """Delete scores from the store.

    Args:
        model: Only those of this model: its name, or its digest or the beginning of it.
        unused_days: Only those that nothing has used for so many days.
        everything: All of them; needed where neither of the two is given.
        folder: The store; the user's cache by default.
    """
    from tokensieve.errors import InputError
    from tokensieve.scoring.store import prune_store

    if model is None and unused_days is None and not everything:
        raise InputError("expected a choice of what to delete", fix="--unused-days 90, --model NAME or --everything")
    deleted = prune_store(folder, model=model, unused_days=unused_days, everything=everything)
    out.print(f"deleted {deleted:,} rows' scores")
    return 0
