"""The README of an exported folder, which is also the card of the data set on the Hub."""

import json
from collections.abc import Sequence
from typing import cast

from tokensieve.data.manifest import Manifest, ModelIdentity
from tokensieve.exports.trainer_format import Facts, Trainer
from tokensieve.types import BASE_SCORER

_TEMPLATE = """\
---
{configs}tags:
- tokensieve
- token-selection
---

# Training set for {title}

{rows:,} conversations as token ids, with the tokens that teach marked in the labels. Made by tokensieve
{version}; `manifest.json` holds every setting, digest and count.

| | |
|---|---|
| model to train | {model} |
| tokenizer digest | `{tokenizer}` |
| chat template | digest `{template}`{arguments} |
| scores by | {scorer} |
| policy | {policy} |
| rows | {rows:,} of {rows_in:,}{dropped} |
| tokens | {tokens:,}, of which in responses {response:,} |
| trained | {trained:,} |
| left out | {left_out:.2%} of the response tokens (pooled) |
| longest row | {longest:,} tokens |
| end of turn | {ends} |

## Convention

{convention}.

## Train

In this folder, with {title} installed:

```sh
{command}
```

{cautions}## Prove it

```sh
tokensieve verify-export . --trainer {trainer}
```

loads the folder through the trainer's own code and compares every trained (row, position, token) with the selection.
The convention was checked against {checked}.
"""


def readme(trainer: str, convention: Trainer, facts: Facts, manifest: Manifest) -> str:
    """The page, in Markdown with the Hub's front matter."""
    numbers = manifest.facts
    model = manifest.model
    dropped = ", ".join(f"{reason}: {n:,}" for reason, n in manifest.counts.dropped.items())
    return _TEMPLATE.format(
        configs=_configs(facts),
        title=convention.title,
        version=manifest.versions.get("tokensieve", ""),
        model=_model(manifest),
        tokenizer=model.tokenizer_digest[:16] if model else "unknown",
        template=model.template_digest[:16] if model else "unknown",
        arguments=_arguments(model),
        scorer=_scorer(str(numbers.get("scorer", "unknown"))),
        policy=numbers.get("policy", "unknown"),
        rows=facts.rows,
        rows_in=manifest.counts.rows_in,
        dropped=f" (left out: {dropped})" if dropped else "",
        tokens=numbers["tokens"],
        response=numbers["response_tokens"],
        trained=numbers["trained_tokens"],
        left_out=numbers["share_left_out"],
        longest=facts.longest,
        ends=_ends_of_turn(cast("list[int]", numbers["end_of_turn_ids"])),
        convention=convention.convention,
        command=convention.command,
        cautions="".join(f"- {caution}\n" for caution in convention.cautions) + ("\n" if convention.cautions else ""),
        trainer=trainer,
        checked=convention.version,
    )


def _model(manifest: Manifest) -> str:
    """The model's name, with the commit on the Hub where the rows were scored under one of it."""
    name, scored = str(manifest.facts["model_to_train"]), manifest.model
    if scored is not None and scored.revision is not None and scored.name == name:
        return f"{name} at revision {scored.revision}"
    return name


def _arguments(model: ModelIdentity | None) -> str:
    if model is None or not model.template_kwargs:
        return ""
    return f", arguments `{json.dumps(model.template_kwargs, sort_keys=True)}`"


def _ends_of_turn(ids: Sequence[int]) -> str:
    """The ids that end an answer of the trained model, which its generation settings must name."""
    if not ids:
        return "none: no turn in these rows is complete"
    return f"token {', '.join(map(str, ids))}; `eos_token_id` of the trained model's generation settings must hold it"


def _scorer(name: str) -> str:
    return "base, the model itself before training" if name == BASE_SCORER else name


def _configs(facts: Facts) -> str:
    """Front matter that tells ``load_dataset(folder)`` and the Hub which files are the data."""
    if facts.format == "save_to_disk":
        return "configs:\n- config_name: default\n  data_files: data/train/*.arrow\n"
    return f"configs:\n- config_name: default\n  data_files: {facts.data}\n"
