"""Commands on training data: score, compare-backends, select, show, export, verify-export."""

from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter, validators

from tokensieve.cli.console import FLAT, Count, Limit, Out, Work, hush_datasets, hush_transformers, out
from tokensieve.config import DataSettings, LaunchSettings, ModelSettings, ScoreSettings, SelectSettings
from tokensieve.errors import InputError
from tokensieve.exports import TRAINERS

BackendName: TypeAlias = Literal["transformers", "vllm"]


def score(
    data: str,
    /,
    *,
    out_: Out,
    model: Annotated[ModelSettings, FLAT] = ModelSettings(),
    read: Annotated[DataSettings, FLAT] = DataSettings(),
    settings: Annotated[ScoreSettings, FLAT] = ScoreSettings(),
    launch: Annotated[LaunchSettings, FLAT] = LaunchSettings(),
) -> int:
    """Score every response token of a data set under the model that is about to be trained.

    Args:
        data: A file (JSONL, Parquet, CSV), a saved data set, a Hub name, task:NAME/SPLIT, or a folder of a stage.
        out_: Folder of the result; the same command goes on in it where it stopped.
    """
    from tokensieve.cli.tables import print_counts
    from tokensieve.scoring import score_data

    hush_transformers()
    with Work("score") as work:
        scored = score_data(data, out_, model, read, settings, launch, work.advanced)
    print_counts(scored.manifest, out_)
    return 0


def compare_backends(
    data: str,
    /,
    *,
    model: Annotated[ModelSettings, FLAT] = ModelSettings(),
    other: ModelSettings = ModelSettings(),
    other_backend: BackendName = "transformers",
    other_url: str | None = None,
    read: Annotated[DataSettings, FLAT] = DataSettings(),
    settings: Annotated[ScoreSettings, FLAT] = ScoreSettings(),
    threshold: Annotated[float, Parameter(validator=validators.Number(gte=1))] = 2.5,
) -> int:
    """Score the same rows by two backends, models, dtypes or attention kernels, and say how far they are apart.

    Args:
        data: As for score.
        other: The second of the two, e.g. --other.dtype bfloat16; its model is the first one's unless it is given.
        other_backend: Backend of the second; the first is always transformers, the reference.
        other_url: A running vLLM server, up to and with /v1, that serves the second.
        threshold: Perplexity of the selection whose flips are counted.
    """
    from tokensieve.cli.tables import print_backends
    from tokensieve.models import context_length
    from tokensieve.pipeline import load
    from tokensieve.scoring import compare_backends as compare
    from tokensieve.scoring import open_vllm

    if other_url is not None and other_backend != "vllm":
        raise InputError("a server is asked with --other-backend vllm only", where="--other-url")
    hush_transformers()
    if other.model == ModelSettings().model:
        other = other.model_copy(update={"model": model.model, "revision": model.revision})
    if not other.template_kwargs:  # the rows are the same, and their template with them
        other = other.model_copy(update={"template_kwargs": model.template_kwargs})
    rows = load(data, model, read, longest=context_length(model))
    # vLLM is opened once the first model is gone.
    second = other if other_backend == "transformers" else partial(open_vllm, other, other_url)
    print_backends(compare(rows, model, second, settings, threshold=threshold))
    return 0


def select(
    scored: Path,
    /,
    *,
    out_: Out,
    settings: Annotated[SelectSettings, FLAT] = SelectSettings(),
    mix: str | None = None,
    limit: Limit = None,
) -> int:
    """Decide which tokens teach.

    Args:
        scored: Folder that score has made.
        out_: Folder of the result.
        mix: FOLDER:SHARE of rehearsal rows to be mixed in whole, e.g. dialogues:0.3: of generate, select or anchors.
        limit: The first N rows only.
    """
    from tokensieve.cli.tables import print_counts, print_near_threshold, print_protected, print_white_space
    from tokensieve.pipeline import open_scored
    from tokensieve.pipeline import select as select_rows

    chosen = select_rows(open_scored(scored), settings, out_, mix=mix, limit=limit)
    print_counts(chosen.manifest, out_)
    facts = chosen.manifest.facts
    out.print(
        f"trained: {facts['trained_tokens']:,} of {facts['response_tokens']:,} response tokens "
        f"(left out: {facts['left_out_pooled']:.1%} of the tokens, {facts['left_out_nll']:.1%} of the nll)"
    )
    print_protected(facts)
    print_near_threshold(facts)
    print_white_space(facts)
    return 0


def show(
    folder: Path,
    /,
    *,
    row: str | None = None,
    limit: Count = 3,
    model: str | None = None,
) -> int:
    """Show rows in the terminal: tokens coloured by perplexity, struck through where not trained.

    In a file or a pipe ⟦ ⟧ stand around what is not trained.

    Args:
        folder: Folder that score or select has made.
        row: Id of one row.
        limit: How many rows.
        model: Whose tokenizer reads the ids; the one in the manifest by default.
    """
    from tokensieve.data.dataset import Rows, open_rows_of
    from tokensieve.data.manifest import read_manifest
    from tokensieve.models import load_tokenizer
    from tokensieve.token_view import token_view
    from tokensieve.types import Scored, Selected

    manifest = read_manifest(folder)
    if manifest.stage not in ("scored", "selected"):
        raise InputError(
            f"{manifest.stage} rows have no scores to show", where=str(folder), fix="the folder of score or of select"
        )
    rows: Rows[Selected] | Rows[Scored]
    rows = open_rows_of(Selected, folder) if manifest.stage == "selected" else open_rows_of(Scored, folder)
    made_by = manifest.model
    name = model or (made_by.name if made_by else None)
    if name is None:
        raise InputError("the manifest names no model", where=str(folder), fix="--model NAME")
    tokenizer = load_tokenizer(ModelSettings(model=name, revision=made_by.revision if made_by and not model else None))
    shown = 0
    for one in rows:
        scored = one.scored if isinstance(one, Selected) else one
        if row is not None and scored.tokens.id != row:
            continue
        view = token_view(one, lambda token: str(tokenizer.decode([token])), marks=not out.is_terminal)
        # rich cuts text that is to fold where a console leaves wrapping to the terminal.
        out.print(view, soft_wrap=False)
        shown += 1
        if shown == limit or row is not None:
            break
    if shown == 0:
        first = next((one.scored if isinstance(one, Selected) else one for one in rows), None)
        if row is None or first is None:
            raise InputError("there are no rows", where=str(folder))
        raise InputError(f"no row {row!r}", where=str(folder), fix=f"its ids are like {first.tokens.id!r}")
    return 0


def export(
    selected: Path,
    /,
    *,
    out_: Out,
    to: Annotated[str, Parameter(help=f"The trainer: {', '.join(TRAINERS)}; trl serves Unsloth too.")] = "trl",
    format: Literal["parquet", "jsonl", "save_to_disk"] = "parquet",  # noqa: A002 the option's name
    weights: Literal["refuse", "round"] = "refuse",
    model: str | None = None,
    push_to_hub: str | None = None,
    public: bool = False,
) -> int:
    """Write the selected tokens as a training set in a trainer's own convention.

    Args:
        selected: Folder that select has made, or anchors, all response tokens of which are trained.
        out_: Folder of the training set.
        format: Files of the training set, where the trainer leaves a choice.
        weights: What happens to soft weights where the trainer takes none.
        model: The model that is to be trained, where it is another than the scored one; its tokenizer and chat template
            must be the same.
        push_to_hub: OWNER/NAME of a data set on the Hub that the training set is uploaded to.
        public: Make that data set one that everybody can read; otherwise it is private, or the upload refused.
    """
    from tokensieve.cli.tables import print_counts
    from tokensieve.data.manifest import read_manifest
    from tokensieve.exports import export as export_rows
    from tokensieve.pipeline import open_selected, tokenizer_of

    hush_datasets()
    if public and push_to_hub is None:
        raise InputError("nothing is uploaded that could be public", where="--public", fix="--push-to-hub OWNER/NAME")
    rows = open_selected(selected)
    identity = None
    if model is not None:  # the rows' template arguments are the rows' own
        arguments = rows.manifest.model.template_kwargs if rows.manifest.model else {}
        identity = tokenizer_of(ModelSettings.model_validate({"model": model, "template_kwargs": arguments}))[1]
    export_rows(rows, out_, to=to, format=format, weights=weights, model=identity)
    made = read_manifest(out_)
    print_counts(made, out_)
    out.print(f"trained: {made.facts['trained_tokens']:,} tokens; its README says how to train on it")
    if push_to_hub is not None:
        from tokensieve.exports.hub import push_to_hub as push

        out.print(f"uploaded: {push(out_, push_to_hub, private=not public)}")
    return 0


def verify_export(
    folder: Path,
    /,
    *,
    trainer: str | None = None,
    selected: Path | None = None,
    how: Literal["auto", "trainer", "rules"] = "auto",
    limit: Count = 10,
) -> int:
    """Load a training set as its trainer does, and compare what is trained with what was selected.

    Args:
        folder: Folder that export has made.
        trainer: The trainer; the one that it was written for by default, hf and trl read the same rows.
        selected: Folder of the selection, where it has been moved.
        how: trainer runs the trainer's own data path, rules reads after its documentation, auto as it is installed.
        limit: How many differences are printed.
    """
    from tokensieve.pipeline import open_selected
    from tokensieve.verify import verify_export as verify

    hush_transformers()
    hush_datasets()
    rows = None if selected is None else open_selected(selected)
    found = verify(folder, trainer, selected=rows, how=how, show=limit)
    out.print(found.describe())
    return 0 if found.ok else 1
