"""Commands on whole studies: run, report."""

import warnings
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import yaml
from cyclopts import Parameter

from tokensieve.cli.console import (
    Limit,
    OptionalOut,
    Work,
    duration,
    err,
    hush_transformers,
    out,
    show_warning,
    take_weak_sandbox,
)
from tokensieve.config import StudySettings, read_yaml
from tokensieve.errors import InputError

if TYPE_CHECKING:
    from tokensieve.report import Report
    from tokensieve.study.steps import Step

_UNITS = {"score": "rows", "train": "steps", "generate": "answers", "evaluate": "answers", "select": "rows"}


def run(
    recipe: str,
    /,
    *,
    out_: OptionalOut = None,
    limit: Limit = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    workers: int | None = None,
    reuse: tuple[Path, ...] = (),
    dry_run: bool = False,
    allow_weak_sandbox: bool = False,
) -> int:
    """Run a study: every arm on every target, then the report.

    Killed at any moment, the same command goes on where it stopped; finished stages are not done again.

    Args:
        recipe: A shipped recipe's name, such as pocket, or a YAML file.
        out_: Folder of the run; runs/NAME by default.
        limit: The first N training rows and problems only: a quick look; what --set names stands.
        set_: Settings other than the recipe's, e.g. train.learning_rate=1e-4.
        workers: Processes that share the work out. By default one a CPU core for a model of under 50 M parameters; one
            for a larger model or on a GPU.
        reuse: Folder of another run, or of several such as runs: finished steps with the same settings and inputs are
            taken from there in place of being made again. May be given several times.
        dry_run: Say what would be done and how long it would take, and stop.
        allow_weak_sandbox: Go on where this machine cannot isolate generated code as well as promised.
    """
    from tokensieve.cli.study_tables import print_study
    from tokensieve.study.jobs import default_workers, estimate_seconds
    from tokensieve.study.recipes import read_recipe, with_overrides
    from tokensieve.study.runner import prepare

    if workers is not None and workers < 1:
        raise InputError(f"expected at least 1, got {workers}", where="--workers")
    take_weak_sandbox(allow_weak_sandbox)
    settings = read_recipe(recipe) if limit is None else _limited(read_recipe(recipe), limit)
    settings = with_overrides(settings, dict(_change(text) for text in set_))
    hush_transformers()
    printer = _Printer()
    study = prepare(settings, out_ or Path("runs") / settings.name, printer, recipe, by_name=dry_run)
    found = study.elsewhere(reuse)
    for name, number in sorted(Counter(root.name for _, root in found).items()):
        err.print(f"{_counted(number, 'step')} {'would be ' if dry_run else ''}taken from {name}")
    if not dry_run:
        study.take_over(found)
    taken = {step.key for step, _ in found}
    steps, missing = study.plan.steps(), tuple(step for step in study.missing if step.key not in taken)
    done = f", {len(steps) - len(missing)} of them done already" if len(missing) < len(steps) else ""
    err.print(f"{settings.title or settings.name}: {len(steps)} steps{done}")
    if study.planner.inputs.by_name:
        err.print(
            f"{settings.model.model} is not on this machine: planned by the names of model and tasks, without an"
            " estimate of the time; finished steps are not recognised"
        )
    elif missing:
        model = study.planner.inputs.base()
        workers = workers or default_workers(model)
        about = duration(estimate_seconds(study.plan, missing, model, workers))
        err.print(f"{_extent(settings)}, {_counted(workers, 'worker')}: about {about} on this machine")
    _say_subset(settings)
    if dry_run:
        for step in missing:
            out.print(f"{step.verb} {step.label}")
        return 0
    try:
        page, report_ = study.make(workers=workers or 1, prepare=partial(_begin_worker, allow_weak_sandbox))
    finally:
        printer.stop()
    print_study(report_)
    out.print(f"\nreport: {page}")
    return 0


def report(folder: Path, /, *, plots: Path | None = None) -> int:
    """Write the report of a study's run again from its stages.

    Args:
        folder: Folder of the run.
        plots: Folder for the report's pictures as SVG files, and as PNG files where a Chromium is installed.
    """
    from tokensieve.cli.study_tables import print_study
    from tokensieve.study.runner import prepare, settings_of_run

    hush_transformers()
    study = prepare(settings_of_run(folder), folder)
    if study.missing:
        first = study.missing[0]
        raise InputError(
            f"{len(study.missing)} steps of the study are not done, the first is {first.verb} {first.label}",
            where=str(folder),
            fix=f"tokensieve run {study.plan.settings.name} --out {folder}",
        )
    page, report_ = study.make(report_again=True)
    print_study(report_)
    out.print(f"\nreport: {page}")
    if plots is not None:
        _write_plots(report_, plots)
    return 0


def _write_plots(report_: "Report", folder: Path) -> None:
    """Write the pictures and say where they are."""
    from tokensieve.report.plot_files import find_chromium, write_plots, write_png

    written = write_plots(report_, folder)
    chromium = find_chromium()
    if chromium is not None:
        written += [write_png(path, chromium) for path in written]
    for path in written:
        out.print(f"wrote {path}")
    if chromium is None:
        out.print("no PNG files: there is no Chromium here to draw them (Debian: apt install chromium)")


def _begin_worker(allow_weak_sandbox: bool) -> None:
    """Make a worker process print as this one does."""
    warnings.showwarning = show_warning
    take_weak_sandbox(allow_weak_sandbox)
    hush_transformers()


def _extent(settings: StudySettings) -> str:
    """Size of a study in words, e.g. 2 targets, 5 arms, 3 learning rates (5e-5, 1e-4, 2e-4), 1 seed."""
    from tokensieve.report.number_format import learning_rate

    rates = sorted({rate for arm in settings.arms for rate in settings.rates_of(arm)})
    listed = ", ".join(map(learning_rate, rates))
    sizes = ((len(settings.targets), "target"), (len(settings.arms), "arm"), (len(rates), "learning rate"))
    told = ", ".join(_counted(number, noun) for number, noun in sizes)
    return f"{told} ({listed}), {_counted(len(settings.seeds), 'seed')}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


class _Printer:
    """Says how far each step is that runs, and how long those took that are finished."""

    def __init__(self) -> None:
        self._work: dict[str, Work] = {}
        self._finished = 0
        self._total = 0

    def started(self, step: "Step", number: int, total: int) -> None:  # noqa: ARG002 counted as they are finished
        self._total = total
        self._work[step.key] = Work(f"{step.verb} {step.label}", _UNITS.get(step.verb, "rows"))
        self._work[step.key].__enter__()

    def advanced(self, step: "Step", done: int, total: int) -> None:
        if step.key in self._work:
            self._work[step.key].advanced(done, total)

    def finished(self, step: "Step", wall_s: float, *, cached: bool) -> None:
        self._finished += 1
        self._end(step.key)
        if not cached:
            err.print(f"[{self._finished}/{self._total}] {step.verb} {step.label}: {duration(wall_s)}")

    def stop(self) -> None:
        """Take the bars away, also after an error."""
        for key in list(self._work):
            self._end(key)

    def _end(self, key: str) -> None:
        if key in self._work:
            self._work.pop(key).__exit__(None, None, None)


def _change(text: str) -> tuple[str, object]:
    key, _, value = (part.strip() for part in text.partition("="))
    if not (key and value):
        raise InputError(f"expected KEY=VALUE, got {text!r}", where="--set", fix="--set train.learning_rate=1e-4")
    try:
        return key, read_yaml(value)
    except yaml.YAMLError:
        raise InputError(f"{value!r} is not a YAML value", where=f"--set {key}", fix="--set seeds='[0, 1]'") from None


def _limited(settings: StudySettings, limit: int) -> StudySettings:
    evaluate = settings.evaluate.model_copy(update={"limit": limit, "other_limit": limit})
    data = settings.data.model_copy(update={"limit": limit})
    sweep = settings.sweep.model_copy(update={"validation_limit": limit})
    return settings.model_copy(
        update={"name": f"{settings.name}-{limit}", "data": data, "sweep": sweep, "evaluate": evaluate}
    )


def _say_subset(settings: StudySettings) -> None:
    limit, others = settings.evaluate.limit, settings.evaluate.other_limit
    if limit is not None or others is not None:
        err.print(
            f"evaluated: the first {limit or 'all'} {settings.evaluate.split} problems of each target, "
            f"the first {others or limit or 'all'} of every other task",
        )
