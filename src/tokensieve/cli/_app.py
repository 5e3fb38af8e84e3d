"""The commands. Each reads its words, calls the verb of the same name, and prints what came of it."""

from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts import Parameter

from tokensieve import __version__
from tokensieve.cli._console import Work, out
from tokensieve.config import (
    DataSettings,
    EvaluateSettings,
    GenerateSettings,
    ModelSettings,
    ScoreSettings,
    SelectSettings,
    TrainSettings,
)

Flat = Parameter(name="*")

app = cyclopts.App(
    name="tokensieve",
    help="Fine-tune a language model without making it forget.",
    version=__version__,
    default_parameter=Parameter(consume_multiple=True, negative=()),
)
store = cyclopts.App(name="store", help="Look into the score store, and prune it.")
app.command(store)


@app.command
def run(
    recipe: str,
    /,
    *,
    out_: Annotated[Path | None, Parameter(name="--out")] = None,
    limit: int | None = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    dry_run: bool = False,
) -> int:
    """Run a study: every arm on every target, then the report.

    Killed at any moment, the same command goes on where it stopped; finished stages are not done again.

    Args:
        recipe: A shipped recipe's name, such as pocket, or a YAML file.
        out_: Folder of the run; runs/NAME by default.
        limit: The first N training rows and problems only: a quick look.
        set_: Settings other than the recipe's, e.g. train.learning_rate=1e-4.
        dry_run: Say what would be done and how long it would take, and stop.
    """
    from tokensieve.cli import _study

    return _study.run(recipe, out_, limit, set_, dry_run=dry_run)


@app.command
def score(
    data: str,
    /,
    *,
    out_: Annotated[Path, Parameter(name="--out")],
    model: Annotated[ModelSettings, Flat] = ModelSettings(),
    read: Annotated[DataSettings, Flat] = DataSettings(),
    settings: Annotated[ScoreSettings, Flat] = ScoreSettings(),
) -> int:
    """Score every response token of a data set under the model that is about to be trained.

    Args:
        data: A file (JSONL, Parquet, CSV), a saved data set, a Hub name, task:NAME/SPLIT, or a folder of a stage.
        out_: Folder of the result; the same command goes on in it where it stopped.
    """
    from tokensieve.cli._tables import print_counts
    from tokensieve.models import load_model
    from tokensieve.scoring import score as score_rows
    from tokensieve.stages import load

    loaded = load_model(model)
    rows = load(data, loaded, read)
    with Work("score") as work:
        scored = score_rows(rows, loaded, settings, out=out_, progress=work.advanced)
    print_counts(scored.manifest, out_)
    return 0


@app.command
def select(
    scored: Path,
    /,
    *,
    out_: Annotated[Path, Parameter(name="--out")],
    settings: Annotated[SelectSettings, Flat] = SelectSettings(),
    mix: str | None = None,
    limit: int | None = None,
) -> int:
    """Decide which tokens teach.

    Args:
        scored: Folder that score has made.
        out_: Folder of the result.
        mix: FOLDER:SHARE of rehearsal rows, such as self-dialogue, to be mixed in whole, e.g. dialogues:0.3.
        limit: The first N rows only.
    """
    from tokensieve.cli._tables import print_counts
    from tokensieve.stages import open_scored
    from tokensieve.stages import select as select_rows

    chosen = select_rows(open_scored(scored), settings, out_, mix=mix, limit=limit)
    print_counts(chosen.manifest, out_)
    facts = chosen.manifest.facts
    out.print(
        f"trained: {facts['trained_tokens']:,} of {facts['response_tokens']:,} response tokens "
        f"(left out: {facts['left_out_pooled']:.1%} of the tokens, {facts['left_out_nll']:.1%} of the nll)"
    )
    return 0


@app.command
def generate(
    task: str,
    /,
    *,
    out_: Annotated[Path, Parameter(name="--out")],
    model: Annotated[ModelSettings, Flat] = ModelSettings(),
    settings: Annotated[GenerateSettings, Flat] = GenerateSettings(),
    limit: int | None = None,
    data: Path | None = None,
) -> int:
    """Make training data with a model: its own checked answers, paraphrases, dialogues.

    Args:
        task: Name of the task whose training problems are answered.
        out_: Folder of the result; sampling and choosing both go on where they stopped.
        limit: The first N problems only.
        data: Local copy of the benchmark, in its published format.
    """
    from tokensieve.cli._tables import print_counts
    from tokensieve.generation import generate as generate_rows

    with Work("generate", "answers") as work:
        made = generate_rows(task, model, settings, out_, limit=limit, data=data, progress=work.advanced)
    print_counts(made.manifest, out_)
    return 0


@app.command
def train(
    selected: Path,
    /,
    *,
    out_: Annotated[Path, Parameter(name="--out")],
    model: Annotated[ModelSettings, Flat] = ModelSettings(),
    settings: Annotated[TrainSettings, Flat] = TrainSettings(),
    limit: int | None = None,
) -> int:
    """Fine-tune on the tokens that were selected.

    Args:
        selected: Folder that select has made.
        out_: Folder of the adapter, or of the whole model with --method full.
        limit: The first N rows only.
    """
    from tokensieve.stages import first, open_selected
    from tokensieve.training import train as train_rows

    with Work("train", "steps") as work:
        adapter = train_rows(first(open_selected(selected), limit), model, settings, out_, progress=work.advanced)
    out.print(f"wrote {adapter.folder}")
    return 0


@app.command
def evaluate(
    *tasks: str,
    out_: Annotated[Path, Parameter(name="--out")],
    model: Annotated[ModelSettings, Flat] = ModelSettings(),
    settings: Annotated[EvaluateSettings, Flat] = EvaluateSettings(),
) -> int:
    """Answer the problems of benchmarks, check every answer, keep every one with its verdict.

    Args:
        tasks: Names of tasks.
        out_: Folder of the result.
    """
    from tokensieve.cli._tables import print_accuracies
    from tokensieve.evaluation import evaluate as evaluate_tasks

    settings = settings.model_copy(update={"tasks": settings.tasks + tasks})
    with Work("evaluate", "answers") as work:
        result = evaluate_tasks(model, settings, out_, progress=work.advanced)
    print_accuracies(result)
    return 0


@app.command
def compare(before: Path, after: Path, /, *, target: str, others: tuple[str, ...] = ()) -> int:
    """Compare two evaluations on the same problems: accuracies, target improvement, backward transfer.

    Args:
        before: Folder that evaluate has made of the base model.
        after: The same of the trained one.
        target: The task that was trained.
        others: The tasks of backward transfer; all others by default.
    """
    from tokensieve.cli._tables import print_comparison
    from tokensieve.evaluation import compare as compare_results
    from tokensieve.evaluation import open_evaluation

    print_comparison(compare_results(open_evaluation(before), open_evaluation(after), target, others or None))
    return 0


@app.command
def report(folder: Path, /) -> int:
    """Write the report of a study's run again from its stages.

    Args:
        folder: Folder of the run.
    """
    from tokensieve.cli import _study

    return _study.report(folder)


@app.command
def show(
    folder: Path,
    /,
    *,
    row: str | None = None,
    limit: int = 3,
    model: str | None = None,
) -> int:
    """Show rows in the terminal: tokens coloured by perplexity, struck through where not trained.

    Args:
        folder: Folder that score or select has made.
        row: Id of one row.
        limit: How many rows.
        model: Whose tokenizer reads the ids; the one in the manifest by default.
    """
    from tokensieve.cli import _look

    return _look.show(folder, row, limit, model)


@app.command
def check(
    task: str,
    /,
    *,
    data: Path | None = None,
    answers: Path | None = None,
    out_: Annotated[Path | None, Parameter(name="--out")] = None,
    limit: int | None = None,
    allow_weak_sandbox: bool = False,
) -> int:
    """Put every gold answer of a task through its own checker, or judge given answers.

    Args:
        task: Name of the task, or the YAML file of your own.
        data: Folder with the benchmark in its published format.
        answers: JSONL rows of id and answer (raw response text) to be judged.
        out_: JSONL file of the verdicts, one a row of answers, in their order.
        limit: The first N rows only.
        allow_weak_sandbox: Go on where this machine cannot isolate generated code as well as promised.
    """
    from tokensieve.cli import _check

    return _check.check(task, data, answers, out_, limit, allow_weak_sandbox=allow_weak_sandbox)


@app.command
def export(
    selected: Path,
    /,
    *,
    out_: Annotated[Path, Parameter(name="--out")],
    to: Literal["trl", "axolotl", "llamafactory", "ms-swift", "litgpt", "automodel"] = "trl",
    format: Literal["parquet", "jsonl", "save_to_disk"] = "parquet",  # noqa: A002 the option's name
) -> int:
    """Write the selected tokens as a training set in a trainer's own convention.

    Args:
        selected: Folder that select has made.
        out_: Folder of the training set.
        to: The trainer; trl serves the plain Hugging Face Trainer and Unsloth too.
        format: Files of the training set, where the trainer leaves a choice.
    """
    from tokensieve.data.export import export as export_rows
    from tokensieve.stages import open_selected

    export_rows(open_selected(selected), out_, to=to, format=format)
    out.print(f"wrote {out_}; its README says how to train on it")
    return 0


@app.command
def doctor() -> int:
    """Say what is installed and what this machine can do: versions, devices, caches, the sandbox."""
    from tokensieve.cli import _look

    return _look.doctor()


@store.command(name="list")
def store_list(*, folder: Path | None = None) -> int:
    """List whose scores the store holds.

    Args:
        folder: The store; the user's cache by default.
    """
    from tokensieve.cli._tables import print_store
    from tokensieve.data.store import stored_models

    print_store(stored_models(folder))
    return 0


@store.command(name="size")
def store_size_(*, folder: Path | None = None) -> int:
    """Say where the store lies and how much room it takes.

    Args:
        folder: The store; the user's cache by default.
    """
    from tokensieve.data.store import default_store, store_size

    out.print(f"{folder or default_store()}: {store_size(folder) / 2**20:,.1f} MiB")
    return 0


@store.command(name="prune")
def store_prune(
    *,
    model: str | None = None,
    unused_days: int | None = None,
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
    from tokensieve.data.store import prune_store
    from tokensieve.errors import InputError

    if model is None and unused_days is None and not everything:
        raise InputError("expected a choice of what to delete", fix="--unused-days 90, --model NAME or --everything")
    deleted = prune_store(folder, model=model, unused_days=unused_days, everything=everything)
    out.print(f"deleted {deleted:,} rows' scores")
    return 0
