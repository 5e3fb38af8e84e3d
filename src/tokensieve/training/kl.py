"""KL divergence to the base on anchors: the loss, the anchors of a step, and the weight that follows a drift budget."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch

from tokensieve.config import KlSettings
from tokensieve.errors import InputError
from tokensieve.types import Anchor

_LARGEST_SUM: Final = 1.0 - 1e-6
"""Of the model's probabilities on the kept entries: the logarithm of the rest stays finite."""

_STEP: Final = 0.1
"""Change of the log of the weight in one step for a drift of twice the budget."""


@dataclass(frozen=True, slots=True, eq=False)
class AnchorBatch:
    """Anchors of one forward pass: B rows padded on the right to T tokens, M places with a distribution each.

    Attributes:
        ids_BT: token ids.
        attention_BT: 1 on tokens, 0 on padding.
        rows_M: row of each place.
        sources_M: position whose output predicts the place, one before it.
        top_ids_MK: the base's most likely entries.
        top_log_p_MK: their log-probabilities in nats.
    """

    ids_BT: torch.Tensor
    attention_BT: torch.Tensor
    rows_M: torch.Tensor
    sources_M: torch.Tensor
    top_ids_MK: torch.Tensor
    top_log_p_MK: torch.Tensor


def collate(anchors: Sequence[Anchor], padding_id: int, device: torch.device) -> AnchorBatch:
    """Anchors as the tensors of one forward pass."""
    lengths = [len(anchor.tokens) for anchor in anchors]
    ids_BT = np.full((len(anchors), max(lengths)), padding_id, dtype=np.int64)
    attention_BT = np.zeros_like(ids_BT)
    for row, anchor in enumerate(anchors):
        ids_BT[row, : lengths[row]] = anchor.tokens.ids_T
        attention_BT[row, : lengths[row]] = 1
    arrays = (
        ids_BT,
        attention_BT,
        np.repeat(np.arange(len(anchors)), [len(anchor.places_N) for anchor in anchors]),
        np.concatenate([anchor.places_N - 1 for anchor in anchors]).astype(np.int64),
        np.concatenate([anchor.top_ids_NK for anchor in anchors]).astype(np.int64),
        np.concatenate([anchor.top_log_p_NK for anchor in anchors]).astype(np.float32),
    )
    return AnchorBatch(*(torch.from_numpy(array).to(device) for array in arrays))


def kl_to_base(logits_MV: torch.Tensor, top_ids_MK: torch.Tensor, top_log_p_MK: torch.Tensor) -> torch.Tensor:
    """Forward KL(base || model) in nats at M places, from the base's K most likely entries.

    All other entries count as one, whose probability is what is left of 1. So the value is never above the exact KL
    (data processing inequality), and equal to it for K = V.

    Args:
        logits_MV: the model's logits.
        top_ids_MK: the base's most likely entries.
        top_log_p_MK: their log-probabilities under the base in nats.

    Returns:
        One value a place, float32, differentiable in the logits.
    """
    log_q_MK = logits_MV.float().log_softmax(-1).gather(1, top_ids_MK)
    p_MK = top_log_p_MK.exp()
    kept_M = (p_MK * (top_log_p_MK - log_q_MK)).sum(-1)
    if top_ids_MK.shape[1] == logits_MV.shape[1]:
        return kept_M
    rest_p_M = (1.0 - p_MK.sum(-1)).clamp_min(0.0)
    rest_log_q_M = torch.log1p(-log_q_MK.exp().sum(-1).clamp_max(_LARGEST_SUM))
    rest_M = torch.where(rest_p_M > 0, rest_p_M * (rest_p_M.clamp_min(1e-12).log() - rest_log_q_M), 0.0)
    return kept_M + rest_M


def kl_of_batch(model: torch.nn.Module, batch: AnchorBatch) -> torch.Tensor:
    """KL to the base at each place [M] of a batch of anchors, nats; one forward pass of the model in training."""
    first = int(batch.sources_M.min())
    kept = batch.ids_BT.shape[1] - first  # the LM head runs on the last positions only
    logits_BTV = model(
        input_ids=batch.ids_BT, attention_mask=batch.attention_BT, use_cache=False, logits_to_keep=kept
    ).logits
    logits_MV = logits_BTV[batch.rows_M, batch.sources_M - first]
    return kl_to_base(logits_MV, batch.top_ids_MK, batch.top_log_p_MK)


class AnchorSchedule:
    """The anchors of each step: passes over all of them, each in an order of its own, from the seed alone.

    A resumed run uses the same anchors at the same step as an undisturbed one, since nothing depends on what was drawn
    before.

    Args:
        anchors: all anchors; those without a response token are left out.
        rows: anchors in one step, over all processes.
        seed: of the orders.

    Raises:
        InputError: no anchor has a response token.
    """

    def __init__(self, anchors: Sequence[Anchor], rows: int, seed: int) -> None:
        self._anchors = [anchor for anchor in anchors if len(anchor.places_N)]
        if not self._anchors:
            raise InputError("the anchors hold no response token", where="train.objective.kl.anchors")
        self._rows = rows
        self._seed = seed

    def at(self, step: int) -> list[Anchor]:
        """The anchors of an optimiser step, counted from 0."""
        count, first = len(self._anchors), step * self._rows
        last = first + self._rows - 1
        orders = {turn: self._order(turn) for turn in range(first // count, last // count + 1)}
        return [self._anchors[orders[place // count][place % count]] for place in range(first, last + 1)]

    def _order(self, turn: int) -> list[int]:
        return np.random.default_rng([self._seed, turn]).permutation(len(self._anchors)).tolist()  # type: ignore[no-any-return]


def next_weight(weight: float, drift: float, settings: KlSettings) -> float:
    """The weight of the KL in the next step.

    Where a budget is set, the log of the weight moves by 0.1 for every budget that the drift is above or below it, by
    at most 0.3 upwards, within the settings' range.

    Args:
        weight: of this step.
        drift: mean KL of this step's anchors, nats per token.
        settings: first weight, budget and range.
    """
    if settings.budget is None or settings.weight == 0:
        return weight
    excess = max(-1.0, min(3.0, drift / settings.budget - 1.0))
    bounds = settings.weight / settings.range, settings.weight * settings.range
    return min(max(weight * math.exp(_STEP * excess), bounds[0]), bounds[1])


class KlTerm:
    """The KL term of a training run: which anchors each pass uses, their loss, and the weight from step to step.

    Args:
        anchors: all anchors.
        settings: first weight, rows in a step, budget.
        rows: anchors in one step over all processes, where the settings leave it open.
        seed: of the anchors' order.
        padding_id: token id of padding.
        process: number of this process.
        processes: number of all.

    Raises:
        InputError: no anchor has a response token.
    """

    def __init__(
        self,
        anchors: Sequence[Anchor],
        settings: KlSettings,
        *,
        rows: int,
        seed: int,
        padding_id: int,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self._rows, self._seed = settings.rows or rows, seed
        self._schedule = AnchorSchedule(anchors, self._rows, seed)
        self._settings = settings
        self._padding_id = padding_id
        self._process, self._processes = process, processes
        self._parts: list[list[Anchor]] = []
        self._spare: list[Anchor] = []
        self._places = 1
        self._sum: torch.Tensor | None = None
        self.weight = settings.weight
        """Factor of the KL in this step."""

    def replace(self, anchors: Sequence[Anchor]) -> None:
        """Use other anchors from the next step on."""
        self._schedule = AnchorSchedule(anchors, self._rows, self._seed)

    def begin(self, step: int, passes: int, before: tuple[float, float] | None) -> None:
        """Set the weight of an optimiser step, choose its anchors, and share them among its forward passes.

        Args:
            step: number of the step, counted from 0.
            passes: forward passes of the step on this process.
            before: weight and drift (nats per token) of the step before; None for the first step.
        """
        if before is not None:
            self.weight = next_weight(*before, self._settings)
        anchors = self._schedule.at(step)
        self._places = sum(len(anchor.places_N) for anchor in anchors)
        parts = passes * self._processes
        first = self._process * passes
        self._parts = [anchors[part::parts] for part in range(first, first + passes)]
        self._spare = anchors[:1]
        self._sum = None

    def loss(self, model: torch.nn.Module, device: torch.device) -> torch.Tensor | None:
        """This pass' part of ``weight * mean KL`` over the step's anchor tokens; None where it has no anchors.

        Scaled by the number of processes, since gradients are averaged over them. Of several processes each runs its
        pass, one without anchors for nothing: they meet in every forward pass, and would wait for one that is missing.
        """
        own = self._parts.pop(0)
        if not own and self._processes == 1:
            return None
        batch = collate(own or self._spare, self._padding_id, device)
        total = kl_of_batch(model, batch).sum() * (1.0 if own else 0.0)
        self._sum = total.detach() if self._sum is None else self._sum + total.detach()
        return self.weight * total / self._places * self._processes

    def mean(self, device: torch.device) -> torch.Tensor:
        """This process' part of the step's mean KL in nats per anchor token; the parts add up to it."""
        return (torch.zeros((), device=device) if self._sum is None else self._sum) / self._places
