"""The card of a model that a study has trained, written into the model's folder."""

from pathlib import Path

from tokensieve.errors import InputError
from tokensieve.report import read_report
from tokensieve.report.card import CardFacts, model_card, write_card
from tokensieve.study.runner import prepare, settings_of_run
from tokensieve.study.steps import ArmPlan, TargetPlan
from tokensieve.training import open_adapter


def write_model_card(
    root: Path, arm: str, *, target: str = "", seed: int | None = None, facts: CardFacts, out: Path | None = None
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


def _target(targets: tuple[TargetPlan, ...], name: str) -> TargetPlan:
    names = [target.settings.task for target in targets]
    if not name and len(targets) == 1:
        return targets[0]
    if name not in names:
        raise InputError(f"expected a target, got {name or 'none'}", fix=f"--target {' or '.join(names)}")
    return targets[names.index(name)]


def _arm(target: TargetPlan, name: str) -> ArmPlan:
    names = [arm.settings.name for arm in target.arms]
    if name not in names:
        raise InputError(f"no arm {name!r}; there are: {', '.join(names)}", fix=f"--arm '{names[0]}'")
    return target.arms[names.index(name)]
