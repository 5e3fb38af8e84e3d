"""Commands on models: generate, calibrate, anchors, train, evaluate, drift, repair."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tokensieve.cli.console import (
    FLAT,
    Limit,
    Out,
    Phases,
    Work,
    duration,
    err,
    hush_transformers,
    out,
    take_weak_sandbox,
)
from tokensieve.config import (
    AnchorSettings,
    CalibrateSettings,
    DriftSettings,
    EvaluateSettings,
    GenerateSettings,
    ModelSettings,
    RepairSettings,
    TrainSettings,
)
from tokensieve.errors import InputError

if TYPE_CHECKING:
    from tokensieve.anchors.make import Phase


def generate(
    task: str = "",
    /,
    *,
    out_: Out,
    model: Annotated[ModelSettings, FLAT] = ModelSettings(),
    settings: Annotated[GenerateSettings, FLAT] = GenerateSettings(),
    limit: Limit = None,
    data: Path | None = None,
    allow_weak_sandbox: bool = False,
) -> int:
    """Make training data with a model: its own checked answers, paraphrases, dialogues.

    Args:
        task: Name of the task whose training problems are answered; none for self-dialogue.
        out_: Folder of the result; sampling and choosing both go on where they stopped.
        limit: The first N problems only.
        data: Local copy of the benchmark, in its published format.
        allow_weak_sandbox: Go on where this machine cannot isolate generated code as well as promised.
    """
    from tokensieve.cli.tables import print_counts, print_yield
    from tokensieve.generation import generate as generate_rows

    take_weak_sandbox(allow_weak_sandbox)
    hush_transformers()
    with Work("generate", "answers") as work:
        made = generate_rows(task, model, settings, out_, limit=limit, data=data, progress=work.advanced)
    print_yield(made.manifest.facts)
    print_counts(made.manifest, out_)
    return 0


def train(
    selected: Path,
    /,
    *,
    out_: Out,
    model: Annotated[ModelSettings, FLAT] = ModelSettings(),
    settings: Annotated[TrainSettings, FLAT] = TrainSettings(),
    limit: Limit = None,
    keep_checkpoints: int = 0,
) -> int:
    """Fine-tune on the tokens that were selected.

    Args:
        selected: Folder that select has made.
        out_: Folder of the adapter, or of the whole model with --method full.
        limit: The first N rows only.
        keep_checkpoints: Weights along the run that stay, at even distances, in OUT/checkpoints: candidates of repair.
    """
    from tokensieve.pipeline import first, open_selected
    from tokensieve.training import train as train_rows

    hush_transformers()
    with Work("train", "steps") as work:
        rows = first(open_selected(selected), limit)
        adapter = train_rows(rows, model, settings, out_, work.advanced, checkpoints=keep_checkpoints)
    out.print(adapter.course)
    if adapter.checkpoint is not None:
        out.print(adapter.checkpoint)
    out.print(f"wrote {adapter.folder}")
    return 0


def anchors(
    selected: Path | None = None,
    /,
    *,
    out_: Out,
    model: Annotated[ModelSettings, FLAT] = ModelSettings(),
    settings: Annotated[AnchorSettings, FLAT] = AnchorSettings(),
    allow_weak_sandbox: bool = False,
) -> int:
    """Choose rows that hold a model in training to its base: where a short pilot run drifts most.

    train --kl.anchors FOLDER adds the KL divergence to the base on these rows to the loss; export and select --mix take
    the folder too, and train its responses by cross-entropy.

    Args:
        selected: Folder that select has made, for the pilot; none with --pilot.adapter.
        out_: Folder of the anchors.
        allow_weak_sandbox: Go on where this machine cannot isolate generated code as well as promised.
    """
    from tokensieve.anchors import make_anchors
    from tokensieve.cli.tables import print_anchors
    from tokensieve.pipeline import open_selected

    take_weak_sandbox(allow_weak_sandbox)
    hush_transformers()
    rows = None if selected is None else open_selected(selected)
    with Phases() as phases:
        made = make_anchors(rows, model, settings, out_, watcher=_AnchorProgress(phases))
    print_anchors(made.manifest, out_)
    return 0


class _AnchorProgress:
    """Progress of a search for anchors: what it will cost, then a bar a phase."""

    def __init__(self, phases: Phases) -> None:
        self._phases = phases

    def planned(self, seconds: "Mapping[Phase, float]") -> None:
        """See ``AnchorWatcher``."""
        from tokensieve.anchors import PHASES

        parts = ", ".join(f"{PHASES[phase][0]} {duration(needed)}" for phase, needed in seconds.items())
        err.print(f"about {duration(sum(seconds.values()))} on this machine: {parts}")

    def advanced(self, phase: "Phase", done: int, total: int) -> None:
        """See ``AnchorWatcher``."""
        from tokensieve.anchors import PHASES

        self._phases.advanced(*PHASES[phase], done, total)


def calibrate(
    scored: Path,
    /,
    *,
    out_: Out,
    model: Annotated[ModelSettings, FLAT] = ModelSettings(),
    settings: Annotated[CalibrateSettings, FLAT] = CalibrateSettings(),
    training: Annotated[TrainSettings, Parameter(name="train")] = TrainSettings(),
    allow_weak_sandbox: bool = False,
) -> int:
    """Choose policy, anchors and learning rate for a model and its data by short runs; write the choice as a recipe.

    Args:
        scored: Folder that score has made of the training rows.
        out_: Folder of the result: every trial, calibration.json and recipe.yaml for run.
        training: All other settings of training.
        allow_weak_sandbox: Go on where this machine cannot isolate generated code as well as promised.
    """
    from tokensieve.calibration import calibrate as choose
    from tokensieve.cli.tables import print_calibration
    from tokensieve.pipeline import open_scored

    take_weak_sandbox(allow_weak_sandbox)
    hush_transformers()
    with Phases() as phases:
        found = choose(open_scored(scored), model, settings, out_, training, phases.advanced)
    print_calibration(found, out_)
    return 0


def evaluate(
    *tasks: str,
    out_: Out,
    model: Annotated[ModelSettings, FLAT] = ModelSettings(),
    settings: Annotated[EvaluateSettings, FLAT] = EvaluateSettings(),
    allow_weak_sandbox: bool = False,
) -> int:
    """Answer the problems of benchmarks, check every answer, keep every one with its verdict.

    Args:
        tasks: Names of tasks, YAML files of your own, or lm-eval:NAME for a task of lm-evaluation-harness.
        out_: Folder of the result.
        allow_weak_sandbox: Go on where this machine cannot isolate generated code as well as promised.
    """
    from tokensieve.cli.tables import print_accuracies, print_figures
    from tokensieve.evaluation import evaluate as evaluate_tasks

    take_weak_sandbox(allow_weak_sandbox)
    hush_transformers()
    settings = settings.model_copy(update={"tasks": settings.tasks + tasks})
    with Work("evaluate", "answers") as work:
        result = evaluate_tasks(model, settings, out_, progress=work.advanced)
    print_accuracies(result)
    print_figures(result.figures)
    return 0


def drift(
    base: str,
    tuned: str,
    /,
    *,
    model: Annotated[ModelSettings, FLAT] = ModelSettings(),
    settings: Annotated[DriftSettings, FLAT] = DriftSettings(),
    out_: Annotated[Path | None, Parameter(name="--out")] = None,
    update: bool = False,
) -> int:
    """Measure how far a tuned model has moved from its base: forward KL divergence in nats per token.

    Needs no benchmark: by default the base draws dialogues with itself, once, and both models read them.

    Args:
        base: The model before training: a Hub name, a folder or pocket.
        tuned: The adapter or model after training: a folder or a Hub name.
        out_: Folder for the rows and drift.json; without it the drawn rows are kept in the cache.
        update: Print the weight update of a local folder too: norm, effective rank and largest singular value by kind
            of module.
    """
    from tokensieve.cli.tables import print_drift, print_update
    from tokensieve.drift import measure_drift, tuned_settings
    from tokensieve.drift.update import weight_update
    from tokensieve.models import load_model

    if model.model != ModelSettings().model:
        raise InputError(f"the base is named twice, {base} and --model {model.model}", fix="leave --model out")
    hush_transformers()
    settings_of_base = model.model_copy(update={"model": base})
    if update and not Path(tuned).is_dir():
        raise InputError("the update is read from a local folder of weights", where=tuned, fix="leave --update out")
    print_drift(measure_drift(settings_of_base, tuned_settings(tuned, settings_of_base), settings, out_))
    if update:
        print_update(weight_update(tuned, load_model(settings_of_base)))
    return 0


def repair(
    tuned: Path,
    /,
    *,
    out_: Out,
    model: Annotated[ModelSettings, FLAT] = ModelSettings(),
    settings: Annotated[RepairSettings, FLAT] = RepairSettings(),
    allow_weak_sandbox: bool = False,
) -> int:
    """Trade a little of the target for less drift without training: interpolate a tuned model with its base (--model).

    Args:
        tuned: Folder of the adapter or model after training.
        out_: Folder of the result; out/model is the chosen adapter or model.
        allow_weak_sandbox: Go on where this machine cannot isolate generated code as well as promised.
    """
    from tokensieve.cli.tables import print_repair
    from tokensieve.repair import repair_model

    take_weak_sandbox(allow_weak_sandbox)
    hush_transformers()
    with Work("repair", "candidates") as work:
        found = repair_model(tuned, model, settings, out_, work.advanced)
    print_repair(found, out_ / "model")
    return 0
