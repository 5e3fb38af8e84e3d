"""Cards for the Hub: a trained model's from a study's report, and a selection's from its manifest."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from tokensieve.data.manifest import Manifest, write_atomically
from tokensieve.errors import InputError
from tokensieve.report import number_format
from tokensieve.report.page import flatten
from tokensieve.report.results_schema import TaskResult
from tokensieve.report.schema import ArmReport, Report, TargetReport
from tokensieve.report.verdict import judge
from tokensieve.types import JSON

CARD_NAME: Final = "README.md"
_OURS: Final = "<!-- card by tokensieve -->"
_PEFTS: Final = "# Model Card for Model ID"
_HUB_NAME: Final = re.compile(r"^[\w.-]+/[\w.-]+$")


@dataclass(frozen=True, slots=True)
class CardFacts:
    """Facts of a card beside its report or manifest.

    Attributes:
        license: identifier as the Hub lists them; ``unknown`` where it was not given.
        datasets: names of data sets on the Hub that the rows come from.
    """

    license: str = "unknown"
    datasets: tuple[str, ...] = ()


def model_card(report: Report, target: TargetReport, arm: ArmReport, method: str, facts: CardFacts) -> str:
    """The card of one arm's trained model, in Markdown with the Hub's front matter.

    Args:
        report: of the study.
        target: what was learnt.
        arm: the arm that trained the model.
        method: ``lora``, ``dora`` or ``full``.
        facts: licence and data sets.
    """
    name = f"{_shown(report.model.name)}, {target.task}, {arm.name}"
    base = _hub_name(report.model.name)
    adapter = method != "full"
    head: dict[str, JSON] = {
        "license": facts.license,
        **({"base_model": base, "base_model_relation": "adapter" if adapter else "finetune"} if base else {}),
        **({"datasets": list(facts.datasets)} if facts.datasets else {}),
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["tokensieve", "token-selection", method],
        "model-index": [{"name": name, "results": _results(report, target, arm)}],
    }
    parts = [
        f"# {name}",
        f"A fine-tuned {_base(report)}: {_learnt(target)} with the policy `{arm.policy}`. Made and measured by "
        "[tokensieve](https://github.com/tokensieve/tokensieve).",
        "## Results",
        _result_table(report, target, arm),
        *_changes(target, arm),
        "## Training data",
        _training_data(arm),
        "## Limits",
        "\n".join(f"- {caveat}" for caveat in (*judge(report).caveats, *report.notes))
        or "None that the study knows of.",
        "## Settings",
        _settings_table(report, arm),
    ]
    return _page(head, parts)


def selection_card(manifest: Manifest, facts: CardFacts) -> str:
    """The card of a selected folder as a data set: which tokens of which rows teach.

    Args:
        manifest: of the folder.
        facts: licence and data sets.

    Raises:
        InputError: the folder is of another stage.
    """
    if manifest.stage != "selected":
        fix = {"exported": "its README.md is its card already", "trained": "give the folder of the study's run"}
        raise InputError(
            f"a folder of the stage {manifest.stage!r} has no card of its own, expected a selection or a study's run",
            fix=fix.get(manifest.stage, "tokensieve select makes one"),
        )
    numbers, counts = manifest.facts, manifest.counts
    head: dict[str, JSON] = {
        "license": facts.license,
        **({"source_datasets": list(facts.datasets)} if facts.datasets else {}),
        "configs": [{"config_name": "default", "data_files": "*.parquet"}],
        "tags": ["tokensieve", "token-selection"],
        "size_categories": [_size(counts.rows_out)],
    }
    model = manifest.model
    rows = {
        "policy": f"`{manifest.settings.get('policy')}`",
        "scored by": f"{_shown(model.name)}, {model.dtype}" if model else "unknown",
        "tokenizer digest": f"`{model.tokenizer_digest[:16]}`" if model else "unknown",
        "rows": f"{counts.rows_out:,} of {counts.rows_in:,}{_dropped(counts.dropped)}",
        "response tokens": f"{numbers['response_tokens']:,}",
        "trained tokens": f"{numbers['trained_tokens']:,}",
        "left out": f"{numbers['left_out_pooled']:.2%} of the response tokens, "
        f"{numbers['left_out_nll']:.2%} of the nll",
        "protected tokens": f"{numbers['protected_tokens']:,}, which hold "
        f"{numbers['protected_share_of_kept_nll']:.2%} of the kept nll",
    }
    parts = [
        "# Training rows with the tokens that teach",
        "Conversations as token ids (`ids`), their responses (`in_response`), scores in nats (`nll.base` and others) "
        "and the decision which tokens contribute to the loss (`train`, and `weight` where selection is soft). "
        "`tokensieve export` writes it for a trainer.",
        _table(("", ""), rows.items()),
    ]
    return _page(head, parts)


def write_card(folder: Path, text: str) -> Path:
    """Write a card into a folder, and return its path.

    Raises:
        InputError: there is a README that neither this package nor PEFT wrote.
        EnvironmentProblem: the disk is full or refuses.
    """
    path = folder / CARD_NAME
    if path.is_file():
        there = path.read_text(encoding="utf-8", errors="replace")
        if _OURS not in there and _PEFTS not in there:
            raise InputError(
                "somebody wrote this file, and it would be overwritten", where=str(path), fix="--out FOLDER"
            )
    write_atomically(path, text.encode())
    return path


def _page(head: Mapping[str, JSON], parts: Sequence[str]) -> str:
    front = yaml.safe_dump(dict(head), sort_keys=False, allow_unicode=True, width=1000)
    return f"---\n{front}---\n\n" + "\n\n".join([*parts, _OURS]) + "\n"


def _results(report: Report, target: TargetReport, arm: ArmReport) -> list[JSON]:
    """The model index: accuracy after training on every task, the mean over the study's seeds."""
    seeds = number_format.count(len(report.seeds), "training seed")
    return [
        {
            "task": {
                "type": "text-generation",
                "name": "the target" if result.task == target.task else "another skill",
            },
            "dataset": {"type": result.task, "name": result.task},
            "metrics": [_metric(result, seeds)],
        }
        for result in arm.results
        if result.accuracy.value is not None
    ]


def _metric(result: TaskResult, seeds: str) -> JSON:
    """Accuracy; of a task that is measured by likelihood the nll of all tokens."""
    if result.nll.value is not None:
        return {"type": "nll", "value": round(result.nll.value, 4), "name": f"nll in nats per token, {seeds}"}
    return {"type": "accuracy", "value": round(result.accuracy.value or 0.0, 4), "name": f"accuracy, {seeds}"}


def _result_table(report: Report, target: TargetReport, arm: ArmReport) -> str:
    rows = []
    for result in arm.results:
        base = arm.started_at(result.task) or target.base_result(result.task)
        cells = [_measured(one) for one in (base, result)]
        rows.append((f"{result.task}{' (target)' if result.task == target.task else ''}", *cells))
    seeds = number_format.count(len(report.seeds), "training seed")
    nats = " (nll in nats per token of tasks measured by likelihood)" if any(one.nats for one in arm.results) else ""
    return _table(("task", "before", "after"), rows) + f"\n\nShare of problems solved{nats}, 95 % intervals; {seeds}."


def _measured(result: TaskResult | None) -> str:
    """Accuracy, or of a task that is measured by likelihood the nll of all tokens."""
    if result is not None and result.nll.defined:
        ends = number_format.interval(result.nll, 3, signs=False)
        return f"{number_format.number(result.nll.value, 3)} nats" + (f" ({ends})" if ends else "")
    estimate = None if result is None else result.accuracy
    if estimate is None or estimate.value is None:
        return number_format.UNDEFINED
    ends = number_format.interval(estimate, 1, 100, signs=False)
    return f"{number_format.percent(estimate.value, 1)}" + (f" ({ends})" if ends else "")


def _changes(target: TargetReport, arm: ArmReport) -> list[str]:
    what = "Fall of the target's nll" if target.by_likelihood else "Gain on the target"
    said = [
        f"{what}: {number_format.change(target.gain(arm), target.gain_unit)}. "
        f"Backward transfer, the mean change of the other skills: {number_format.change(arm.backward_transfer, '%')}."
    ]
    drifts = [run.drift for run in arm.runs if run.drift is not None]
    if drifts:
        said.append(
            f"Drift from the base: {sum(drifts) / len(drifts):.4f} nats per token (forward KL, mean over seeds)."
        )
    return said


def _training_data(arm: ArmReport) -> str:
    profile = arm.profile
    rows = {
        "responses by": arm.origin.value.replace("_", " "),
        "rows": f"{arm.rows_out:,} of {arm.rows_in:,}{_dropped(arm.dropped)}",
        "policy": f"`{arm.policy}`",
    }
    if profile is not None:
        rows["response tokens"] = f"{profile.response_tokens:,}"
        if profile.trained_pooled is not None:
            rows["left out"] = f"{1 - profile.trained_pooled:.2%} of the response tokens"
    rows["protected tokens"] = f"{arm.protected_tokens:,}"
    return _table(("", ""), rows.items())


def _settings_table(report: Report, arm: ArmReport) -> str:
    train = report.settings.get("train")
    listed = list(flatten(train)) if isinstance(train, dict) else []
    own = [(f"{key} (of this arm)", str(value)) for key, value in arm.own_settings.items()]
    model = report.model
    identity = [("base model", _shown(model.name)), ("revision", model.revision or number_format.UNDEFINED)]
    digests = [(key.replace("_", " "), str(value)) for key in ("weights_digest", "tokenizer_digest")
               if (value := getattr(model, key))]  # fmt: skip
    versions = list(report.versions.items())
    shown = [(key, f"`{_without_places(value)}`") for key, value in (*listed, *own, *identity, *digests, *versions)]
    return _table(("setting", "value"), shown)


def _table(head: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        lines.append(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |")
    return "\n".join(lines)


def _dropped(dropped: Mapping[str, int]) -> str:
    return f" (dropped: {', '.join(f'{reason}: {n:,}' for reason, n in dropped.items())})" if dropped else ""


def _learnt(target: TargetReport) -> str:
    """The task that was learnt, and the one before it where there are two in a row."""
    return f"it learnt {f'`{target.after}`, then ' if target.after else ''}`{target.task}`"


def _base(report: Report) -> str:
    name = _hub_name(report.model.name)
    return f"[{name}](https://huggingface.co/{name})" if name else _shown(report.model.name)


def _hub_name(name: str) -> str | None:
    """The name where it is one of the Hub's, None for the embedded model and for places on this machine."""
    return name if _HUB_NAME.match(name) and not Path(name).exists() else None


def _shown(name: str) -> str:
    """A model's name without the folder that it lies in here."""
    return name if _HUB_NAME.match(name) else Path(name).name


def _without_places(text: str) -> str:
    """A setting without the folder that it lies in here."""
    return Path(text).name if text.startswith(("/", "~")) else text


def _size(rows: int) -> str:
    """The Hub's category of a data set's size."""
    limits = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
    return next((name for limit, name in limits if rows < limit), "1M<n<10M")
