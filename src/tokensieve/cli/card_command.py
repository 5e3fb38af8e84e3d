"""``tokensieve card``: the Hub's README of a trained model or of a selection."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from tokensieve.cli.console import hush_transformers, out
from tokensieve.errors import InputError

if TYPE_CHECKING:
    from tokensieve.report.card import CardFacts
    from tokensieve.study.plan import ArmPlan, TargetPlan


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
        path = _write_model_card(folder, arm, target=target, seed=seed, facts=facts, out=out_)
    out.print(f"wrote {path}")
    return 0


def _write_model_card(
    root: Path, arm: str, *, target: str, seed: int | None, facts: "CardFacts", out: Path | None
) -> Path:
    """Write the card of one arm's model, and return its path.

    Args:
        root: folder of the run.
        arm: name of the arm.
        target: the task that was learnt; empty where the study has one target.
        seed: of the training run; None is the first.
        facts: licence and data sets.
        out: folder of the card; None is the model's own.

    Raises:
        InputError: no such target, arm or seed, an arm without a model, or a README that somebody wrote.
    """
    from tokensieve.report import read_report
    from tokensieve.report.card import model_card, write_card
    from tokensieve.study.runner import prepare, settings_of_run
    from tokensieve.training import open_adapter

    study = prepare(settings_of_run(root), root)
    plan = _target(study.plan.targets, target)
    chosen = _arm(plan, arm)
    report = read_report(root)
    told = next(one for one in report.targets if one.task == plan.settings.task)
    of_arm = next(one for one in told.arms if one.name == arm)
    if of_arm.not_trained:
        raise InputError(f"there is no model: {of_arm.not_trained}", where=arm)
    runs = [run for run in chosen.runs if run.learning_rate == of_arm.learning_rate]  # the rate that was chosen
    run = next((run for run in runs if seed is None or run.seed == seed), None)
    if run is None:
        raise InputError(f"no run with seed {seed}; there are: {', '.join(str(r.seed) for r in runs)}")
    folder = study.runner.folder(run.repair or run.train)
    card = model_card(report, told, of_arm, open_adapter(folder).method, facts)
    return write_card(out or folder, card)


def _target(targets: "tuple[TargetPlan, ...]", name: str) -> "TargetPlan":
    names = [target.settings.task for target in targets]
    if not name and len(targets) == 1:
        return targets[0]
    if name not in names:
        raise InputError(f"expected a target, got {name or 'none'}", fix=f"--target {' or '.join(names)}")
    return targets[names.index(name)]


def _arm(target: "TargetPlan", name: str) -> "ArmPlan":
    names = [arm.settings.name for arm in target.arms]
    if name not in names:
        raise InputError(f"no arm {name!r}; there are: {', '.join(names)}", fix=f"--arm '{names[0]}'")
    return target.arms[names.index(name)]
