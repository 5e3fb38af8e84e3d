"""The choice of anchors, before training and once again in it: the rows of highest drift, and some at random."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from tokensieve.config import AnchorSettings, KlSettings
from tokensieve.data.dataset import Rows, open_rows, open_rows_of
from tokensieve.data.manifest import MANIFEST_NAME
from tokensieve.errors import InputError
from tokensieve.training.adapter import CHOSEN_AGAIN
from tokensieve.training.kl import collate, kl_of_batch
from tokensieve.types import JSON, Anchor

if TYPE_CHECKING:
    from transformers import TrainerState

CANDIDATES: Final = "candidates"
"""Folder inside that of the anchors with all candidates, where training may choose again."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One chosen row.

    Attributes:
        index: place among the candidates.
        at_random: True where it was drawn at random.
    """

    index: int
    at_random: bool


def choose(drifts: Sequence[float], count: int, random_share: float, seed: int) -> list[Choice]:
    """Choose anchors by drift, and a share of them at random from the rest.

    Args:
        drifts: KL(base || pilot) of each candidate in nats per token; a candidate with NaN is never chosen.
        count: anchors to choose; all usable candidates where there are no more.
        random_share: fraction of the anchors that is drawn at random, without replacement.
        seed: of the draw; the choice depends on it and on the drifts alone.

    Returns:
        Choices in the order of the candidates. Ties of drift go to the earlier candidate.

    Raises:
        InputError: no candidate has a drift.
    """
    usable = [index for index, drift in enumerate(drifts) if not math.isnan(drift)]
    if not usable:
        raise InputError("no candidate has a response token, so none can be an anchor")
    count = min(count, len(usable))
    drawn = round(random_share * count)
    by_drift = sorted(usable, key=lambda index: -drifts[index])
    top = by_drift[: count - drawn]
    rest = sorted(set(usable) - set(top))
    random = np.random.default_rng(seed).choice(rest, size=drawn, replace=False).tolist() if drawn else []
    return sorted(
        [Choice(index, at_random=False) for index in top] + [Choice(int(index), at_random=True) for index in random],
        key=lambda choice: choice.index,
    )


@dataclass(frozen=True, slots=True)
class Refresh:
    """A second choice of anchors.

    Attributes:
        candidates: all rows to choose from, with the base's distributions; read shard by shard.
        rules: number, random share and seed of the choice.
        share: of the run's steps, after which it is made.
        rows: candidates in one forward pass.
        padding_id: token id of padding.
    """

    candidates: Rows[Anchor]
    rules: AnchorSettings
    share: float
    rows: int
    padding_id: int

    def is_due(self, state: "TrainerState") -> bool:
        """True from the step on before which the choice is made."""
        return bool(state.global_step >= math.ceil(self.share * state.max_steps))

    def anchors(
        self, model: torch.nn.Module, state: "TrainerState", agree: Callable[[torch.Tensor], torch.Tensor]
    ) -> list[Anchor]:
        """The anchors of the second choice: those in the trainer's log, or those that the model is measured for now.

        Args:
            model: in training; measured in evaluation mode, so that dropout neither counts nor is drawn.
            state: the trainer's; the choice goes into its log, which a checkpoint keeps, so that a resumed run has it.
            agree: makes one tensor of those of all processes, so that all choose the same.

        Raises:
            InputError: no candidate has a response token.
        """
        places = next((entry[CHOSEN_AGAIN] for entry in state.log_history if CHOSEN_AGAIN in entry), None)
        if places is None:
            drifts_N = agree(self._drifts(model)).tolist()
            places = [one.index for one in choose(drifts_N, self.rules.count, self.rules.random_share, self.rules.seed)]
            mean = sum(drifts_N[place] for place in places) / len(places)
            state.log_history.append({CHOSEN_AGAIN: places, "their_drift": mean, "step": state.global_step})
        wanted = set(places)
        return [anchor for place, anchor in enumerate(self.candidates) if place in wanted]

    def _drifts(self, model: torch.nn.Module) -> torch.Tensor:
        """Mean KL to the base of each candidate in nats per token [N]; NaN without response tokens."""
        device = next(model.parameters()).device
        drifts_N = torch.full((len(self.candidates),), math.nan, device=device)
        training = model.training
        model.eval()
        try:
            for part in _batches(self.candidates, self.rows):
                batch = collate([anchor for _, anchor in part], self.padding_id, device)
                with torch.no_grad():
                    kl_M = kl_of_batch(model, batch)
                sums_B = torch.zeros(len(part), device=device).index_add_(0, batch.rows_M, kl_M)
                counts_B = torch.bincount(batch.rows_M, minlength=len(part))
                drifts_N[torch.tensor([place for place, _ in part], device=device)] = sums_B / counts_B
        finally:
            model.train(training)
        return drifts_N


def open_refresh(folder: Path, settings: KlSettings, *, rows: int, padding_id: int) -> Refresh | None:
    """The second choice that the settings ask for; None where they ask for none.

    Args:
        folder: of the anchors.
        settings: when it is made.
        rows: candidates in one forward pass.
        padding_id: token id of padding.

    Raises:
        InputError: the folder holds the chosen anchors only.
    """
    if settings.refresh is None:
        return None
    place = folder / CANDIDATES
    if not (place / MANIFEST_NAME).is_file():
        raise InputError(
            "anchors are to be chosen again, and the folder holds no candidates",
            where=str(folder),
            fix="tokensieve anchors … --refreshable, or leave --kl.refresh out",
        )
    rules = AnchorSettings.model_validate(open_rows(folder).manifest.settings)
    return Refresh(open_rows_of(Anchor, place), rules, settings.refresh, rows, padding_id)


def refresh_facts(state: "TrainerState") -> dict[str, JSON]:
    """For the manifest of the run: step of the second choice, its places among the candidates, their mean drift.

    Empty without one.
    """
    for entry in state.log_history:
        if CHOSEN_AGAIN in entry:
            return {CHOSEN_AGAIN: {"step": entry["step"], "drift": entry["their_drift"], "places": entry[CHOSEN_AGAIN]}}
    return {}


def _batches(candidates: Rows[Anchor], size: int) -> Iterator[Sequence[tuple[int, Anchor]]]:
    """Candidates with their places, rows of like length together within each shard; those without response left out."""
    start = 0
    for read in candidates.shards():
        shard = read()
        placed = [(start + n, anchor) for n, anchor in enumerate(shard) if len(anchor.places_N)]
        placed.sort(key=lambda one: len(one[1].tokens))
        start += len(shard)
        for first in range(0, len(placed), size):
            yield placed[first : first + size]
