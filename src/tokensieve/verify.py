"""Proof of an export: load it as the trainer does and compare what is trained with what was selected.

Where the trainer is not installed, its rows are read after the documented rules of its loader, in the release that
``Trainer.version`` names; each trainer's module in ``exports`` says where those rules stand.
"""

import importlib.util
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np

from tokensieve.data.dataset import Rows, as_training_rows
from tokensieve.data.manifest import MANIFEST_NAME, Manifest, read_manifest
from tokensieve.data.row_counts import Tally
from tokensieve.errors import CheckFailed, EnvironmentProblem, InputError, TokensieveError, first_line
from tokensieve.exports import TRAINERS, ExportSettings, TrainedTokens, exported
from tokensieve.exports import weights_T as token_weights_T
from tokensieve.exports.data_paths import LoadedRow, Source
from tokensieve.exports.files import read_rows
from tokensieve.types import Selected

__all__ = ["Difference", "Verification", "verify_export"]

How: TypeAlias = Literal["auto", "trainer", "rules"]

_WEIGHT_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Difference:
    """One place at which a trainer does something else than was selected.

    Attributes:
        row: number of the row in the export, from 0.
        id: the row's id in the selection; empty where the selection has no such row.
        position: position of the token in the conversation; None where the whole row differs.
        token: its id; None where the whole row differs.
        problem: what differs.
    """

    row: int
    id: str
    position: int | None
    token: int | None
    problem: str

    def __str__(self) -> str:
        place = "" if self.position is None else f", position {self.position}, token {self.token}"
        return f"row {self.row} ({self.id}){place}: {self.problem}"


@dataclass(frozen=True, slots=True)
class Verification:
    """The result of a comparison.

    Attributes:
        trainer: whose data path or rules.
        how: in words, with the version where the trainer itself ran.
        rows: rows compared.
        trained_tokens: tokens that the trainer trains.
        different_tokens: number of (row, position, token) that differ.
        first: the first differences.
    """

    trainer: str
    how: str
    rows: int
    trained_tokens: int
    different_tokens: int
    first: tuple[Difference, ...]

    @property
    def ok(self) -> bool:
        """True where exactly the selected tokens are trained."""
        return self.different_tokens == 0

    def describe(self) -> str:
        """The result in lines for people, the first differences included."""
        if self.ok:
            return f"{self.trained_tokens:,} trained tokens in {self.rows:,} rows are those selected ({self.how})"
        head = (
            f"{self.different_tokens:,} differences between {self.trainer} and the selection ({self.how}); the first:"
        )
        return "\n".join([head, *(f"  {difference}" for difference in self.first)])


def verify_export(
    folder: str | Path,
    trainer: str | None = None,
    *,
    selected: Rows[Selected] | None = None,
    how: How = "auto",
    show: int = 10,
) -> Verification:
    """Load an exported folder as a trainer does and compare the set of trained (row, position, token).

    Args:
        folder: the export.
        trainer: one of ``TRAINERS``; None is the one it was written for.
        selected: the selection it was made from; None takes it from where it lay when the export was written.
        how: ``trainer`` runs the trainer's own data path, ``rules`` reads after its documented rules, ``auto`` runs
            the trainer where it is installed.
        show: number of differences to keep.

    Raises:
        InputError: not an export, an unknown trainer, a folder of another convention, or no selection to compare with.
        EnvironmentProblem: the trainer is to run and is not installed.
        CheckFailed: the trainer cannot load the folder at all.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    name = _named(manifest, trainer, folder)
    rows = selected if selected is not None else _selection(manifest, folder)
    if rows.manifest.digest != manifest.inputs.get("selected"):
        raise InputError(
            "the selection is not the one that the export was made from",
            where=str(rows.folder or "selected"),
            fix="tokensieve export again, or name the right selection",
        )
    written = ExportSettings.model_validate(manifest.settings)
    expected = exported(rows, written.to, written.weights, Tally(), TrainedTokens())
    with tempfile.TemporaryDirectory(prefix="tokensieve-verify-") as scratch:
        source = Source(folder, written.format, Path(scratch))
        loaded, said = _load(source, name, how)
        return _compare(name, said, expected, _readable(loaded, name, folder), show)


def _named(manifest: Manifest, trainer: str | None, folder: Path) -> str:
    """The trainer to verify with, if it reads what the folder was written for."""
    if manifest.stage != "exported":
        raise InputError(f"expected an export, got the folder of the stage {manifest.stage!r}", where=str(folder))
    written_for = str(manifest.settings["to"])
    name = trainer or written_for
    if name not in TRAINERS:
        raise InputError(f"unknown trainer {name!r}; there are: {', '.join(TRAINERS)}", fix="--trainer NAME")
    if TRAINERS[name].read is not TRAINERS[written_for].read:
        raise InputError(
            f"the folder was written for {written_for}, whose convention {name} does not read",
            where=str(folder),
            fix=f"tokensieve export … --to {name}",
        )
    return name


def _selection(manifest: Manifest, folder: Path) -> Rows[Selected]:
    place = manifest.facts.get("selected_folder")
    if not isinstance(place, str) or not (Path(place) / MANIFEST_NAME).is_file():
        raise InputError(
            f"the selection is not at {place!r} any more", where=str(folder), fix="--selected FOLDER names it"
        )
    return as_training_rows(place)


def _load(source: Source, name: str, how: How) -> tuple[Iterator[LoadedRow], str]:
    """The trainer's rows, and in words how they were got."""
    trainer = TRAINERS[name]
    installed = importlib.util.find_spec(trainer.package) is not None
    if how == "rules" or (how == "auto" and not installed):
        words = f"by the documented rules of {trainer.version}; the trainer itself did not run"
        return (trainer.read(record) for record in read_rows(source.folder, source.format)), words
    if not installed:
        raise EnvironmentProblem(f"{name} is not installed", fix=f"pip install {trainer.package}, or --how rules")
    return trainer.load(source), f"through {trainer.package}'s own data path"


def _readable(loaded: Iterator[LoadedRow], name: str, folder: Path) -> Iterator[LoadedRow]:
    """The same rows; whatever a trainer's libraries raise on the way means that it cannot load the folder."""
    try:
        yield from loaded
    except TokensieveError:
        raise
    except Exception as error:
        raise CheckFailed(
            f"{name} cannot load the training set: {type(error).__name__}: {first_line(error)}",
            where=str(folder),
            fix="tokensieve export again, into another folder",
        ) from error


def _compare(
    name: str, said: str, expected: Iterator[Selected], loaded: Iterator[LoadedRow], show: int
) -> Verification:
    rows = trained = different = 0
    first: list[Difference] = []
    for number, (want, got) in enumerate(zip_longest(expected, loaded)):
        rows += 1
        trained += 0 if got is None else len(got.places)
        for difference in _differences(number, want, got):
            different += 1
            if len(first) < show:
                first.append(difference)
    return Verification(name, said, rows, trained, different, tuple(first))


def _differences(number: int, want: Selected | None, got: LoadedRow | None) -> Iterator[Difference]:
    """Every place at which one row differs."""
    if want is None:
        yield Difference(number, "", None, None, "a row too many")
        return
    row_id, ids_T = want.tokens.id, want.tokens.ids_T
    if got is None:
        yield Difference(number, row_id, None, None, "the row is missing")
        return
    wanted = {(int(t), int(ids_T[t])) for t in np.flatnonzero(want.train_T) if t > 0}
    found = set(zip(got.places.tolist(), got.tokens.tolist(), strict=True))
    for position, token in sorted(wanted - found):
        yield Difference(number, row_id, position, token, "selected but not trained")
    for position, token in sorted(found - wanted):
        yield Difference(number, row_id, position, token, "trained but not selected")
    length = len(got.ids_T)
    if not np.array_equal(got.ids_T, ids_T[:length]) or length < len(ids_T) - 1:
        at = next(
            (t for t, (a, b) in enumerate(zip(ids_T, got.ids_T, strict=False)) if a != b), min(len(ids_T), length)
        )
        yield Difference(number, row_id, at, int(ids_T[min(at, len(ids_T) - 1)]), "the context is another from here on")
    yield from _weight_differences(number, want, got)


def _weight_differences(number: int, want: Selected, got: LoadedRow) -> Iterator[Difference]:
    if want.weight_T is None:
        weights = {} if got.weights is None else dict(zip(got.places.tolist(), got.weights.tolist(), strict=True))
        wrong = {place: weight for place, weight in weights.items() if abs(weight - 1) > _WEIGHT_TOLERANCE}
    else:
        weight_T = token_weights_T(want)
        weights = dict.fromkeys(got.places.tolist(), 1.0)
        if got.weights is not None:
            weights = dict(zip(got.places.tolist(), got.weights.tolist(), strict=True))
        wrong = {t: w for t, w in weights.items() if t < len(weight_T) and abs(w - weight_T[t]) > _WEIGHT_TOLERANCE}
    for place, weight in sorted(wrong.items()):
        token = int(want.tokens.ids_T[place]) if place < len(want.tokens) else None
        yield Difference(number, want.tokens.id, place, token, f"its weight is {weight:g} in the trainer")
