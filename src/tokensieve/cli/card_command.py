"""``tokensieve card``: the Hub's README of a trained model or of a selection."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from tokensieve.cli.console import hush_transformers, out
from tokensieve.errors import InputError


def card(
    folder: Path,
    /,
    *,
    arm: str = "",
    target: str = "",
    seed: int | None = None,
    license: str = "unknown",  # noqa: A002 the option's name
    datasets: tuple[str, ...] = (),
    out_: Annotated[Path | None, Parameter(name="--out")] = None,
) -> int:
    """Write the Hub's README, with its metadata: of an arm's model from a study's run, or of a selection.

    Args:
        folder: Folder of a study's run, or one that select has made.
        arm: The arm whose model it is, for a run.
        target: The task that was learnt, for a run with several.
        seed: The training seed, for a run; the first by default.
        license: The licence, as the Hub names it, e.g. apache-2.0.
        datasets: Names on the Hub of the data sets that the rows come from.
        out_: Folder of the README; the model's or the selection's own by default.
    """
    from tokensieve.data.manifest import MANIFEST_NAME, read_manifest
    from tokensieve.report.card import CardFacts, selection_card, write_card
    from tokensieve.study.cards import write_model_card

    facts = CardFacts(license, tuple(datasets))
    if (folder / MANIFEST_NAME).is_file():
        if arm or target or seed is not None:
            raise InputError(
                "an arm, a target and a seed are of a study's run", where=str(folder), fix="leave them out"
            )
        path = write_card(out_ or folder, selection_card(read_manifest(folder), facts))
    else:
        if not arm:
            raise InputError("no arm is named", where=str(folder), fix="--arm NAME")
        hush_transformers()
        path = write_model_card(folder, arm, target=target, seed=seed, facts=facts, out=out_)
    out.print(f"wrote {path}")
    return 0
