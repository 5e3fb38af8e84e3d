"""Load: any data set becomes tokens, once."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tokensieve.config import DataSettings, ModelSettings, as_settings
from tokensieve.data.arrow_io import StageRow
from tokensieve.data.dataset import Rows, as_rows, open_rows
from tokensieve.data.listed_files import remove_listed_files
from tokensieve.data.manifest import MANIFEST_NAME, Counts, Manifest, ModelIdentity, package_versions
from tokensieve.data.row_counts import Tally
from tokensieve.errors import InputError
from tokensieve.launch import Portion
from tokensieve.pipeline.rows import WEIGHTED_ROWS, collect, first, tokens_of
from tokensieve.selection import structure_ids
from tokensieve.types import JSON, Example, Message, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tokensieve.data.chat import ChatTemplate, WhiteSpace
    from tokensieve.data.formats.sources import Data
    from tokensieve.models import LoadedModel, ModelLike

_TASK_PREFIX = "task:"
STRUCTURE_IDS = "structure_ids"
"""Fact of a manifest: ids of the tokens that delimit tool calls and reasoning, by kind."""


def load(
    source: "Data | Rows[StageRow]",
    model: "ModelLike" = "pocket",
    settings: DataSettings | Mapping[str, object] = DataSettings(),
    out: str | Path | None = None,
    *,
    longest: int | None = None,
) -> Rows[Tokens]:
    """Read a data set and make its tokens, once, with the model's tokenizer and chat template.

    Args:
        source: a file (JSONL, Parquet, CSV), a saved data set, a Hub name (``owner/name``, with ``:config`` and
            ``@revision`` where they matter), ``task:NAME/SPLIT`` for a task's own gold answers, the folder of an
            earlier stage; or in memory: a ``Dataset``, ``DatasetDict``, ``IterableDataset`` of the datasets library, a
            table of pandas, polars or pyarrow, rows as dicts, or an earlier stage's rows.
        model: whose tokenizer and template, in any form that ``load_model`` takes; its weights are not needed.
        settings: form of the rows, length policy, and so on; a dict counts as the settings it spells.
        out: folder for the result; None keeps it in memory.
        longest: most tokens that the model takes in a row, where it is not loaded and so cannot tell.

    Returns:
        The tokens; rows that were dropped are counted by reason in the manifest. A Hub data set is held to the commit
        that its name means now, which the manifest names.

    Raises:
        InputError: what the source holds is not what was expected: file, row and remedy are named.
    """
    from tokensieve.data.chat import WhiteSpace, tokenise_all
    from tokensieve.models import load_model
    from tokensieve.tasks.benchmark_io import hub_commits

    if isinstance(model, Path):
        model = str(model)
    elif not isinstance(model, ModelSettings | str):
        model = load_model(model)

    settings = as_settings(DataSettings, settings, "settings")
    out = None if out is None else Path(out)
    tokenizer, identity = tokenizer_of(model)
    earlier = _earlier_stage(source)
    if earlier is not None and earlier.manifest.stage != "examples":
        return _tokens_again(earlier, identity, settings)
    tally = Tally()
    examples, digest = _examples(source if earlier is None else as_rows(Example, earlier), settings, tally)
    white_space = WhiteSpace(tokenizer)
    structure = structure_ids(tokenizer.get_added_vocab())
    weighted = _WeightedRows()
    tokens = tokenise_all(examples, _chat_of(model), settings, tally, model_limit=longest or _longest_row(model))
    manifest = Manifest(
        stage="tokens",
        settings={**settings.model_dump(mode="json"), "template_kwargs": identity.template_kwargs},
        inputs={"data": digest},
        model=identity,
        versions=dict(package_versions()),
    )

    def account() -> tuple[Counts, Mapping[str, JSON]]:
        ids: dict[str, JSON] = {kind: [*found] for kind, found in white_space.ids.items()}
        facts: dict[str, JSON] = {"format": tally.format, "noted": dict(tally.noted), "white_space_ids": ids}
        facts |= {"benchmarks": dict(commits)} if commits else {}
        return tally.counts, {
            **facts,
            STRUCTURE_IDS: {kind: [*found] for kind, found in structure.items()},
            **weighted.facts,
        }

    with hub_commits() as commits:
        return collect(_watched(tokens, white_space, weighted), manifest, out, account)


def load_beside_others(
    source: str | Path,
    model: "LoadedModel | ModelSettings | str",
    settings: DataSettings,
    out: Path,
    portion: Portion,
    *,
    longest: int | None = None,
) -> Rows[Tokens]:
    """As ``load``, where several processes need the same tokens: each makes its own, the first one's are kept.

    None waits for another: those of a job array may start hours apart. A folder that is being written is nobody
    else's, and it is put into its place whole.

    Args:
        source: as in ``load``.
        model: as in ``load``.
        settings: as in ``load``.
        out: folder of the tokens, for all processes.
        portion: which of the processes this is.
        longest: as in ``load``.

    Raises:
        InputError: as in ``load``.
    """
    if portion.whole or (out / MANIFEST_NAME).is_file():
        return load(source, model, settings, out, longest=longest)
    own = out.with_name(f"{out.name}-{portion}")
    made = load(source, model, settings, own, longest=longest)
    if made.folder is None:  # an earlier stage's tokens, which are read where they lie
        return made
    try:
        own.rename(out)
    except OSError:  # another process was first, or a lone one was begun here and killed
        if not (out / MANIFEST_NAME).is_file():
            return made
        remove_listed_files(own)
    return load(source, model, settings, out, longest=longest)


@dataclass(slots=True)
class _WeightedRows:
    """The count of rows in which a turn has a loss weight between 0 and 1."""

    rows: int = 0

    @property
    def facts(self) -> dict[str, JSON]:
        """For the manifest; empty where there is no such row."""
        return {WEIGHTED_ROWS: self.rows} if self.rows else {}


def _watched(tokens: Iterator[Tokens], white_space: "WhiteSpace", weighted: _WeightedRows) -> Iterator[Tokens]:
    for row in tokens:
        white_space.add(row)
        weighted.rows += row.loss_weight_T is not None
        yield row


def gold_examples(task: str, split: str, folder: Path | None = None, limit: int | None = None) -> Iterator[Example]:
    """A task's problems with their gold answers as conversations.

    Args:
        task: the registered task's name.
        split: the task's split.
        folder: local copies, one folder a benchmark, or the benchmark's own; None is the task's default source.
        limit: the first N problems only.

    Raises:
        InputError: unknown task or split.
    """
    from tokensieve.tasks import get_task

    for problem in get_task(task).problems(split, folder, limit):
        if not problem.gold:
            raise InputError(
                "its problems have no reference answers to train on",
                where=f"task {task}",
                fix="tokensieve generate makes the model's own answers",
            )
        answer = Message(role="assistant", content=problem.gold)
        yield Example(problem.id, (*problem.prompt, answer), problem.task)


def _earlier_stage(source: object) -> Rows[StageRow] | None:
    """Rows that an earlier stage made, in memory or in a folder; None where the source is a data set."""
    if isinstance(source, Rows):
        return source
    if isinstance(source, str | Path) and source != "" and (Path(source) / MANIFEST_NAME).is_file():
        return open_rows(source)
    return None


def _examples(source: "Data", settings: DataSettings, tally: Tally) -> tuple[Iterator[Example], str]:
    """The source's examples, counted in, and the digest of what is read."""
    from tokensieve.data.formats import find, read_examples

    if isinstance(source, str) and source.startswith(_TASK_PREFIX):
        from tokensieve.tasks import split_name

        task, split = split_name(source.removeprefix(_TASK_PREFIX))
        if split and "split" in settings.model_fields_set and settings.split != split:
            raise InputError(
                f"the source names the split {split!r}, the settings {settings.split!r}", where=source, fix="name one"
            )
        problems = gold_examples(task, split or settings.split, settings.data, settings.limit)
        return tally.counted(problems), source
    found = find(source, settings)
    return read_examples(found, settings, tally), found.digest()


def _tokens_again(earlier: Rows[StageRow], identity: ModelIdentity, settings: DataSettings) -> Rows[Tokens]:
    """Tokens as an earlier stage stored them; never made again, and refused under another tokenizer."""
    made_by = earlier.manifest.model
    if made_by is None or earlier.manifest.stage not in ("tokens", "scored", "selected"):
        raise InputError(
            f"a folder of {earlier.manifest.stage} rows holds no training tokens", where=str(earlier.folder)
        )
    if made_by.tokenizer_digest != identity.tokenizer_digest:
        raise InputError(
            f"the tokens were made with another tokenizer, that of {made_by.name} ({made_by.tokenizer_digest[:16]}),"
            f" than that of {identity.name} ({identity.tokenizer_digest[:16]})",
            where=str(earlier.folder),
            fix="load the data set itself with this model",
        )

    def iterate() -> Iterator[Tokens]:
        for row in first(earlier, settings.limit):
            yield tokens_of(row)

    return Rows(first(earlier, settings.limit).manifest.model_copy(update={"stage": "tokens"}), iterate)


def _longest_row(model: "LoadedModel | ModelSettings | str") -> int | None:
    """Tokens that the model takes; None where its configuration is not at hand."""
    from tokensieve.models import LoadedModel

    return getattr(model.model.config, "max_position_embeddings", None) if isinstance(model, LoadedModel) else None


def _chat_of(model: "LoadedModel | ModelSettings | str") -> "ChatTemplate":
    """A model's chat template with its arguments; the weights are left where they are."""
    from tokensieve.models import LoadedModel, load_chat

    return model.chat if isinstance(model, LoadedModel) else load_chat(model)


def tokenizer_of(model: "LoadedModel | ModelSettings | str") -> "tuple[PreTrainedTokenizerBase, ModelIdentity]":
    """A model's tokenizer, and the digests of it and of its chat template; the weights are left where they are.

    Raises:
        InputError: no such model, or it has no tokenizer.
        EnvironmentProblem: the Hub cannot be reached.
    """
    from tokensieve.data.hashing import template_digest, tokenizer_digest
    from tokensieve.models import LoadedModel, load_tokenizer, settings_of

    if isinstance(model, LoadedModel):
        return model.tokenizer, model.identity
    settings = settings_of(model)
    tokenizer = load_tokenizer(settings)
    identity = ModelIdentity(
        name=settings.model,
        revision=settings.revision,
        tokenizer_digest=tokenizer_digest(tokenizer),
        template_digest=template_digest(tokenizer, settings.template_kwargs),
        template_kwargs=dict(settings.template_kwargs),
    )
    return tokenizer, identity
