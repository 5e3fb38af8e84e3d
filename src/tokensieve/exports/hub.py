"""An exported folder as a data set on the Hub: its README, which is the card, and the upload."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tokensieve.data.listed_files import listed_files
from tokensieve.data.manifest import MANIFEST_NAME, Manifest, ModelIdentity, read_manifest
from tokensieve.errors import EnvironmentProblem, InputError, first_line
from tokensieve.exports.trainer_format import Facts, Trainer
from tokensieve.types import BASE_SCORER, JSON

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

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
        ends=_ends_of_turn(manifest.fact("end_of_turn_ids", list[int]) or []),
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


# --- the upload ------------------------------------------------------------------------------------------------------


def push_to_hub(folder: Path, repo: str, *, private: bool = True, token: str | None = None) -> str:
    """Upload an exported folder, whole, in one commit.

    It goes without the places of the selection and of a local model on this machine, and without the ids of dropped
    rows.

    Args:
        folder: the export; its README states model, scorer, policy and the share left out.
        repo: ``owner/name``; made where there is none.
        private: whether only its owner may read it; one that others may read already is then refused.
        token: access token; None is the one that ``hf auth login`` has stored. It is sent and never written.

    Returns:
        The address of the commit.

    Raises:
        InputError: not an export, the name is not one of a repository, or it is public and that was not asked for.
        EnvironmentProblem: the Hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalTokenNotFoundError

    manifest = read_manifest(folder)
    if manifest.stage != "exported":
        raise InputError(f"expected an export, got the folder of the stage {manifest.stage!r}", where=str(folder))
    if not listed_files(manifest):
        raise InputError("the manifest lists no files", where=str(folder), fix="tokensieve export into a new folder")
    if missing := [name for name in listed_files(manifest) if not (folder / name).is_file()]:
        raise InputError(f"missing: {', '.join(missing)}", where=str(folder), fix="tokensieve export again")
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    try:
        api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
        _check_private(api, repo, private)
        commit = api.create_commit(
            repo,
            list(_files(folder, manifest)),
            commit_message=f"Training set for {manifest.settings['to']}: {manifest.facts.get('policy', '')}",
            repo_type="dataset",
        )
    except HFValidationError as error:
        raise InputError(f"not a repository's name: {error}", where=repo, fix="owner/name") from None
    except (HfHubHTTPError, LocalTokenNotFoundError) as error:
        raise EnvironmentProblem(
            f"the Hub refuses: {first_line(error)}", where=repo, fix="hf auth login, with a token that may write to it"
        ) from None
    except OSError as error:
        raise EnvironmentProblem(f"the Hub cannot be reached: {error}", where=repo, fix="check the network") from None
    return str(commit.commit_url)


def _check_private(api: "HfApi", repo: str, private: bool) -> None:
    """Refuse a repository that others can read where a private one is wanted: it was there before, and stays so."""
    if private and not api.dataset_info(repo).private:
        raise InputError(
            "the data set is there already, and public", where=repo, fix="--public, or a name that is not taken"
        )


def _files(folder: Path, manifest: Manifest) -> "Iterator[CommitOperationAdd]":
    """Every file that the export's manifest lists, without paths of this machine; others in the folder stay here."""
    from huggingface_hub import CommitOperationAdd

    counts = manifest.counts.model_copy(update={"dropped_ids": {}})
    facts: dict[str, JSON] = {**manifest.facts, "selected_folder": None}
    facts.pop("files", None)  # the digests of files as they lie here
    shown = manifest.model_copy(update={"counts": counts, "facts": facts})
    for name in sorted([*listed_files(manifest), MANIFEST_NAME]):
        path = folder / name
        if name.startswith("data/"):
            yield CommitOperationAdd(path_in_repo=name, path_or_fileobj=str(path))
            continue
        text = shown.model_dump_json(indent=2) if name == MANIFEST_NAME else path.read_text(encoding="utf-8")
        for place, model in _places(manifest):
            text = text.replace(place, model)
        yield CommitOperationAdd(path_in_repo=name, path_or_fileobj=text.encode())


def _places(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """Folders of models on this machine, and the names that stand for them."""
    named = {str(manifest.facts.get("place_of_model", "")), manifest.model.name if manifest.model else ""}
    for place in sorted(named, key=len, reverse=True):
        if Path(place).expanduser().is_absolute():
            yield place, Path(place).name
