"""``tokensieve compare``: evaluations of fine-tuned models against the base, with a gate for other programs."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter, validators

from tokensieve.cli.console import out
from tokensieve.errors import InputError


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
