"""Export: selected rows as a training set in a trainer's own format, with its configuration and README."""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict

from tokensieve.data.hashing import refuse_another_tokenizer
from tokensieve.data.listed_files import check_replaceable, files_in, replace_listed_files
from tokensieve.data.manifest import Manifest, ModelIdentity, Timing, package_versions
from tokensieve.data.row_counts import Tally
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.exports.automodel import AUTOMODEL
from tokensieve.exports.axolotl import AXOLOTL
from tokensieve.exports.files import DATA, Format, write_rows
from tokensieve.exports.hub import readme
from tokensieve.exports.litgpt import LITGPT
from tokensieve.exports.llamafactory import LLAMAFACTORY
from tokensieve.exports.ms_swift import MS_SWIFT
from tokensieve.exports.trainer_format import Facts, Trainer, refuse_soft, rounded
from tokensieve.exports.trl import HF, TRL
from tokensieve.pocket import POCKET
from tokensieve.types import JSON, Selected

if TYPE_CHECKING:
    from tokensieve.data.dataset import Rows  # loads pyarrow, which the help of the commands does without

Weights: TypeAlias = Literal["refuse", "round"]

NOTHING_TRAINED: Final = "no trained token"

TRAINERS: Final[Mapping[str, Trainer]] = {
    "trl": TRL,
    "hf": HF,
    "axolotl": AXOLOTL,
    "llamafactory": LLAMAFACTORY,
    "ms-swift": MS_SWIFT,
    "litgpt": LITGPT,
    "automodel": AUTOMODEL,
}
"""The trainers that a training set can be written for and verified with, by name."""


class ExportSettings(BaseModel):
    """Settings of an export, as its manifest holds them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: str
    """Name of the trainer."""
    format: Format
    """Files of the training set."""
    weights: Weights
    """Treatment of token weights between 0 and 1."""
    selected: dict[str, JSON]
    """Settings of the selection."""


class TrainedTokens:
    """Digest and counts of the tokens a training set trains, one row after the other.

    A token is trained where it has a label and a token before it to be predicted from; a row's first token never is.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.tokens = 0
        self.response_tokens = 0
        self.trained_tokens = 0
        self.longest = 0
        self.end_of_turn_ids: set[int] = set()
        self._hash = hashlib.sha256()

    def add(self, selected: Selected) -> None:
        """Count one row."""
        tokens = selected.tokens
        places = np.flatnonzero(selected.train_T[1:]).astype(np.int32) + 1
        self.rows += 1
        self.tokens += len(tokens)
        self.response_tokens += int(tokens.in_response_T.sum())
        self.trained_tokens += len(places)
        self.longest = max(self.longest, len(tokens))
        self.end_of_turn_ids.update(tokens.ids_T[tokens.ends_turn_T].tolist())
        self._hash.update(np.int32(len(places)).tobytes() + places.tobytes() + tokens.ids_T[places].tobytes())

    @property
    def digest(self) -> str:
        """SHA-256 of all (row, position, token), 64 hex digits."""
        return self._hash.hexdigest()


def export(
    rows: "Rows[Selected] | str | Path",
    folder: str | Path,
    *,
    to: str = "trl",
    format: Format = "parquet",  # noqa: A002 - the option's name
    weights: Weights = "refuse",
    model: ModelIdentity | None = None,
) -> Path:
    """Write a training set for a trainer, with its configuration, a README and the manifest beside it.

    Rows without one trained token are left out, counted and listed by id: some trainers divide by zero on them.

    Args:
        rows: selected rows, or anchors (every response token of them is trained); or their folder.
        folder: where to; missing, empty, or an earlier export: the files that its manifest lists are replaced, what
            else lies in it stays.
        to: one of ``TRAINERS``.
        format: files of the training set; where the trainer does not load Parquet its own format is taken.
        weights: what happens to token weights between 0 and 1 where the trainer takes none: refused, or rounded at
            one half.
        model: the model that is to be trained, by its name and digests; the configuration names it. None is the one
            that the rows were made for.

    Returns:
        The folder.

    Raises:
        InputError: the rows are not selected, the trainer or format is unknown, the model has another tokenizer or
            chat template than the rows were made with, weights are refused, no row is left, or the folder holds
            something else, or a file of the earlier export that was changed since.
        EnvironmentProblem: the disk is full or refuses.
    """
    from tokensieve.data.dataset import as_training_rows  # pyarrow, which `tokensieve --help` does without

    folder = Path(folder)
    if folder.is_symlink():  # to another disk, which a finished folder cannot be renamed to
        folder = folder.resolve()
    trainer, chosen = _resolve(to, format)
    rows = as_training_rows(rows)
    if model is not None:
        refuse_another_tokenizer(
            rows.manifest.model, model, fix="score and select the data again with the model that is to be trained"
        )
    check_replaceable(folder, "exported")
    began = time.monotonic()
    part = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        tally, trained = Tally(), TrainedTokens()
        write_rows(
            (trainer.row(row) for row in exported(rows, to, weights, tally, trained)),
            part,
            chosen,
            trainer.columns,
        )
        if not trained.rows:
            raise InputError(
                f"not one row is left; {tally.describe() or 'there was none'}", where=str(rows.folder or "")
            )
        manifest = _manifest(rows, to, chosen, weights, tally, trained, model or rows.manifest.model)
        facts = Facts(
            model=str(manifest.facts["place_of_model"]),
            data=DATA[chosen],
            format=chosen,
            longest=trained.longest,
            rows=trained.rows,
            output=f"../{folder.resolve().name}-adapter",
        )
        for name, text in trainer.files(facts).items():
            (part / name).write_text(text, encoding="utf-8")
        (part / "README.md").write_text(readme(to, trainer, facts, manifest), encoding="utf-8")
        listed: dict[str, JSON] = {**manifest.facts, "files": {**files_in(part)}}
        manifest.model_copy(update={"facts": listed, "timing": Timing.since(began)}).write(part)
        replace_listed_files(folder, part)
    except OSError as error:
        raise EnvironmentProblem(f"could not be written: {error.strerror or error}", where=str(folder)) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def exported(
    rows: "Rows[Selected]", to: str, weights: Weights, tally: Tally, trained: TrainedTokens
) -> Iterator[Selected]:
    """The selected rows that an export holds, in its order; the others are counted.

    Raises:
        InputError: a row has token weights that the trainer does not take.
    """
    takes_weights = TRAINERS[to].weights
    for selected in rows:
        tally.take()
        row = selected
        if not takes_weights:
            if weights == "round":
                row = rounded(selected)
            else:
                refuse_soft(selected, TRAINERS[to].title, (name for name, one in TRAINERS.items() if one.weights))
        if not row.train_T[1:].any():
            tally.drop(NOTHING_TRAINED, row.tokens.id)
            continue
        trained.add(row)
        yield row


def _resolve(to: str, format: Format) -> tuple[Trainer, Format]:  # noqa: A002
    if to not in TRAINERS:
        raise InputError(f"unknown trainer {to!r}; there are: {', '.join(TRAINERS)}", fix="--to NAME")
    trainer = TRAINERS[to]
    if format in trainer.formats:
        return trainer, format
    if format == "parquet":  # the default gives way to the trainer's own
        return trainer, trainer.formats[0]
    raise InputError(
        f"{trainer.title} does not load {format}; it loads {', '.join(trainer.formats)}", fix="leave --format out"
    )


def _manifest(
    rows: "Rows[Selected]",
    to: str,
    chosen: Format,
    weights: Weights,
    tally: Tally,
    trained: TrainedTokens,
    model: ModelIdentity | None,
) -> Manifest:
    source = rows.manifest
    counts = tally.counts
    name = model.name if model else "NAME-OF-THE-MODEL"
    facts: dict[str, JSON] = {
        **source.facts,
        "trainer": to,
        "format": chosen,
        "model_to_train": name,
        "place_of_model": _place_of_model(name),
        "policy": source.settings.get("policy", "unknown"),
        "scorer": source.settings.get("scorer", "unknown"),
        "tokens": trained.tokens,
        "response_tokens": trained.response_tokens,
        "trained_tokens": trained.trained_tokens,
        "share_left_out": 1 - trained.trained_tokens / trained.response_tokens,
        "longest": trained.longest,
        "end_of_turn_ids": [*sorted(trained.end_of_turn_ids)],
        "trained_digest": trained.digest,
        "selected_folder": str(rows.folder.resolve()) if rows.folder else None,
    }
    settings = ExportSettings(to=to, format=chosen, weights=weights, selected=source.settings)
    return Manifest(
        stage="exported",
        settings=settings.model_dump(mode="json"),
        inputs={"selected": source.digest},
        model=source.model,
        versions=dict(package_versions()),
        seed=source.seed,
        facts=facts,
        counts=counts.model_copy(update={"rows_out": trained.rows}),
    )


def _place_of_model(name: str) -> str:
    """Path or Hub name under which a trainer finds the model, from whatever folder it is started."""
    folder = POCKET if name == "pocket" else Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name
