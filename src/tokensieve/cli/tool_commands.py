"""Commands beside the pipeline: compare, check, doctor, and the score store."""

import os
import platform
import shutil
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, validators

from tokensieve.cli.console import Limit, OptionalOut, Work, err, out, take_weak_sandbox
from tokensieve.config import CutOff
from tokensieve.errors import InputError

_PACKAGES = ("tokensieve", "torch", "transformers", "trl", "peft", "datasets", "accelerate", "pyarrow")
_EXTRAS = ("vllm", "ray", "lm_eval", "bitsandbytes")
_SHOWN = 20
"""Failures that are printed; all are counted."""


def compare(
    base: Path,
    /,
    *tuned: Path,
    target: str = "",
    others: tuple[str, ...] = (),
    seeds: bool = False,
    max_drop: str = "",
    cut_off: Literal["as evaluated", "wrong"] = "as evaluated",
    allow_unlike: bool = False,
    metric: str = "",
    group_by: str = "",
    format_: Annotated[Literal["text", "markdown", "latex", "json"], Parameter(name="--format")] = "text",
    flips: Annotated[int, Parameter(validator=validators.Number(gte=0))] = 0,
) -> int:
    """Compare fine-tuned models' evaluations with the base model's, on the same problems.

    Reads folders of evaluate, --log_samples folders of lm-evaluation-harness, result files of evalplus, logs of
    inspect, and tables with the columns id and correct.

    Args:
        base: The base model's evaluation.
        tuned: The fine-tuned models'; each is compared by itself, unless --seeds is given.
        target: The task that was trained, for target improvement and backward transfer.
        others: The other tasks; all that the base was evaluated on by default.
        seeds: The fine-tuned models are training seeds of one setting: one comparison, its intervals cover the seeds.
        max_drop: Gate, such as 2%: exit code 1 unless each task's interval excludes a larger drop of accuracy, in
            percentage points.
        cut_off: Count answers that the length limit ended as wrong on both sides, or as they were evaluated.
        allow_unlike: Compare although settings or problems differ; the differences are named.
        metric: Metric of a log that has several: METRIC or METRIC,FILTER, or a scorer's name.
        group_by: Column or field whose equal values make a group of problems that are not independent.
        format_: Form of the output.
        flips: Show so many answers of each task that changed sides, with both answers; json has them all.
    """
    from tokensieve.cli.tables import print_comparison
    from tokensieve.comparison import compare as compare_evaluations
    from tokensieve.comparison import parse_max_drop, to_json, to_latex, to_markdown

    if not tuned:
        raise InputError("expected the evaluation of a fine-tuned model behind the base's", where="compare")
    allowed = parse_max_drop(max_drop) if max_drop else None
    made = [
        compare_evaluations(
            base,
            runs,
            target,
            others or None,
            max_drop=allowed,
            cut_off=cut_off,
            allow_unlike=allow_unlike,
            metric=metric,
            group_by=group_by,
        )
        for runs in ([tuned] if seeds else [(path,) for path in tuned])
    ]
    if format_ == "json":
        texts = [to_json(comparison) for comparison in made]
        out.file.write(texts[0] if len(texts) == 1 else f"[{','.join(texts)}]\n")
    for comparison in made if format_ != "json" else ():
        if len(made) > 1:
            out.print(f"{comparison.base} and {comparison.tuned[0]}")
        if format_ == "text":
            print_comparison(comparison, flips)
        else:
            out.file.write(to_markdown(comparison, flips) if format_ == "markdown" else to_latex(comparison))
    return 0 if all(comparison.gate is None or comparison.gate.ok for comparison in made) else 1


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
    from tokensieve.tasks import get_task
    from tokensieve.tasks.judging import check_gold, judge_file

    take_weak_sandbox(allow_weak_sandbox)
    found = get_task(task)
    workers = os.cpu_count() or 1
    if answers is not None:
        if out_ is None:
            raise InputError("expected a file for the verdicts", where="--answers", fix="--out VERDICTS.jsonl")
        with Work(f"check {found.name}", "answers") as work:
            judged = judge_file(
                found, data, answers, out_, limit=limit, cut_off=cut_off, workers=workers, progress=work.advanced
            )
        counted = ", ".join(f"{outcome.value} {number:,}" for outcome, number in judged.outcomes.items() if number)
        limited = f"; {judged.cut_off:,} cut off, of them {judged.cut_off_correct:,} correct" if judged.cut_off else ""
        out.print(f"{judged.answers:,} answers to {judged.problems:,} problems: {counted}{limited}")
        out.print(f"wrote {out_}")
        return 0
    with Work(f"check {found.name}", "answers") as work:
        gold = check_gold(found, data, limit=limit, workers=workers, progress=work.advanced)
    for split, rows in gold.rows.items():
        out.print(f"{found.name} {split}: {gold.correct[split]:,} of {rows:,} gold answers pass their own checker")
    for failure in gold.failures[:_SHOWN]:
        verdict = failure.verdict
        err.print(f"{failure.id}: {verdict.outcome.value}: {verdict.reason or verdict.extracted}")
    if len(gold.failures) > _SHOWN:
        err.print(f"and {len(gold.failures) - _SHOWN:,} more")
    return 0 if gold.ok else 1


def doctor() -> int:
    """Say what is installed and what this machine can do: versions, devices, caches, the sandbox."""
    from importlib.util import find_spec

    import torch

    from tokensieve.data.hashing import cache_folder
    from tokensieve.data.manifest import package_versions
    from tokensieve.errors import EnvironmentProblem
    from tokensieve.sandbox import describe

    for name, version in package_versions(_PACKAGES).items():
        out.print(f"{name:14}{version}")
    extras = [f"{name} {'there' if find_spec(name) else 'not installed'}" for name in _EXTRAS]
    out.print(f"{'extras':14}{', '.join(extras)}")
    out.print(f"{'system':14}{platform.platform()}, {os.cpu_count()} processors, {torch.get_num_threads()} threads")
    out.print(f"{'devices':14}{', '.join(_devices())}")
    free = shutil.disk_usage(_existing(cache_folder())).free
    out.print(f"{'cache':14}{cache_folder()} ({free / 2**30:.0f} GiB free)")
    out.print(f"{'hub':14}{'offline (HF_HUB_OFFLINE)' if os.environ.get('HF_HUB_OFFLINE') == '1' else 'online'}")
    try:
        sandbox = describe()
    except EnvironmentProblem as problem:
        sandbox = f"unavailable: {problem.problem}"
    out.print(f"{'sandbox':14}{sandbox}")
    return 0


def store_list(*, folder: Path | None = None) -> int:
    """List whose scores the store holds.

    Args:
        folder: The store; the user's cache by default.
    """
    from tokensieve.cli.tables import print_store
    from tokensieve.scoring.store import stored_models

    if folder is not None and not folder.is_dir():
        raise InputError("there is no such folder", where=str(folder))
    models = list(stored_models(folder))
    if models:
        print_store(models)
    else:
        out.print("the store holds no scores")
    return 0


def store_size(*, folder: Path | None = None) -> int:
    """Say where the store lies and how much room it takes.

    Args:
        folder: The store; the user's cache by default.
    """
    from tokensieve.scoring import store

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
    from tokensieve.scoring.store import prune_store

    if model is None and unused_days is None and not everything:
        raise InputError("expected a choice of what to delete", fix="--unused-days 90, --model NAME or --everything")
    deleted = prune_store(folder, model=model, unused_days=unused_days, everything=everything)
    out.print(f"deleted {deleted:,} rows' scores")
    return 0


def _devices() -> list[str]:
    import torch

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
