"""Exact forward KL divergence between two models at the response tokens of some rows, one model in memory at a time."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from tokensieve.config import ModelSettings, ScoreSettings
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel, load_model
from tokensieve.scoring.backbone import open_backbone
from tokensieve.scoring.backend import ScoreRequest, request_for
from tokensieve.scoring.lm_head import ModelHead, TiledHead
from tokensieve.scoring.response_states import response_states
from tokensieve.types import FloatArray, Tokens

_LOGITS_AT_ONCE: Final = 2**24
"""Float32 logits of one model in one chunk of positions: 64 MiB; two models and their softmax hold four of these."""


@dataclass(frozen=True, slots=True, eq=False)
class RowDivergence:
    """Two models on one row. N is the number of response tokens that something precedes.

    Attributes:
        id: the row's id.
        task: the row's task; empty where there is none.
        kl_N: forward KL(base || tuned) of the next-token distributions at each response token, nats, float32, >= 0.
        base_nll_N: nll of the token under the base, nats.
        tuned_nll_N: the same under the tuned model.
    """

    id: str
    task: str
    kl_N: FloatArray
    base_nll_N: FloatArray
    tuned_nll_N: FloatArray

    @property
    def mean_kl(self) -> float:
        """Mean KL in nats per token; NaN for a row without response tokens."""
        return float(self.kl_N.mean(dtype=np.float64)) if len(self.kl_N) else float("nan")


def row_divergences(
    rows: Sequence[Tokens],
    base: LoadedModel | ModelSettings | str,
    tuned: LoadedModel | ModelSettings | str,
    *,
    token_budget: int | None = None,
) -> list[RowDivergence]:
    """Compare two models' next-token distributions at every response token; see ``BaseStates``.

    Args:
        rows: token ids with their responses; both models must use the tokenizer that made them.
        base: the model before training.
        tuned: the model after training.
        token_budget: tokens in one batch, padding included; None finds it from the free memory.

    Raises:
        InputError: as in ``BaseStates.compare``.
    """
    return BaseStates(rows, load_model(base), token_budget).compare(tuned)


class BaseStates:
    """Hidden states [N, D] of a base at the response tokens of some rows, in a temporary file, and its LM head.

    The base runs once, and then any number of tuned models over the same rows. The logits of both are made from hidden
    states and LM head in chunks of positions, in float32. So the KL is exact over the whole vocabulary, and neither two
    backbones nor [N, V] logits are ever held.

    Args:
        rows: token ids with their responses.
        base: the model before training; not kept, but for its LM head.
        token_budget: tokens in one batch, padding included; None finds it from the free memory.
    """

    def __init__(self, rows: Sequence[Tokens], base: LoadedModel, token_budget: int | None = None) -> None:
        self._rows = rows
        self._token_budget = token_budget
        self._requests = [request_for(row, prompts=False) for row in rows]
        self._starts = np.cumsum([0, *(len(request.positions_N) for request in self._requests)])
        self._tokenizer, self._dtype = base.identity.tokenizer_digest, base.model.dtype
        self._head, self._states_ND = _write_states(base, self._requests, self._starts, token_budget)

    def compare(self, tuned: LoadedModel | ModelSettings | str) -> list[RowDivergence]:
        """Divergence of a tuned model from the base on every row.

        Returns:
            One entry a row, in order; a row without response tokens has arrays of length 0.

        Raises:
            InputError: the models have vocabularies of different sizes or another tokenizer, or as in ``load_model``.
        """
        after = load_model(tuned)
        if after.identity.tokenizer_digest != self._tokenizer:
            raise InputError(
                "the two models have different tokenizers, so their next-token distributions cannot be compared",
                where=after.identity.name,
                fix="compare a model with its own fine-tuned copy",
            )
        found = np.full((3, int(self._starts[-1])), np.nan, dtype=np.float32)
        for places_M, hidden_MD, head, targets_M in response_states(after, self._requests, self._token_budget):
            if _vocabulary(head) != _vocabulary(self._head):
                raise InputError(
                    f"the base has {_vocabulary(self._head):,} vocabulary entries, the tuned model "
                    f"{_vocabulary(head):,}",
                    where=after.identity.name,
                    fix="compare a model with its own fine-tuned copy",
                )
            # Stored in float32, which holds 16-bit hidden states exactly; given to the head in the backbone's dtype.
            base_MD = torch.from_numpy(self._states_ND[places_M]).to(hidden_MD.device, self._dtype)
            found[:, places_M] = _compare(self._head, base_MD, head, hidden_MD, targets_M)
        pieces = [np.split(values_N, self._starts[1:-1]) for values_N in found]
        return [
            RowDivergence(row.id, row.task, kl_N, base_N, tuned_N)
            for row, kl_N, base_N, tuned_N in zip(self._rows, *pieces, strict=True)
        ]


def _write_states(
    loaded: LoadedModel,
    requests: Sequence[ScoreRequest],
    starts: NDArray[np.int64],
    token_budget: int | None,
) -> tuple[TiledHead | ModelHead, NDArray[np.float32]]:
    """Hidden states [N, D] of all rows in a file, float32, and the LM head that makes logits of them."""
    width = int(loaded.model.config.get_text_config().hidden_size)
    states_ND: NDArray[np.float32] = np.zeros((0, width), dtype=np.float32)
    if starts[-1]:
        # The file has no name, and goes with the mapping, which outlives the closed handle.
        with tempfile.TemporaryFile() as file:
            states_ND = np.memmap(file, dtype=np.float32, mode="w+", shape=(int(starts[-1]), width))
    head: TiledHead | ModelHead | None = None
    for places_M, hidden_MD, one, _ in response_states(loaded, requests, token_budget):
        states_ND[places_M] = hidden_MD.float().cpu().numpy()
        head = one
    return head or open_backbone(loaded, ScoreSettings(), compiles=False).head, states_ND


def _compare(
    base_head: TiledHead | ModelHead,
    base_ND: torch.Tensor,
    tuned_head: TiledHead | ModelHead,
    tuned_ND: torch.Tensor,
    targets_N: torch.Tensor,
) -> NDArray[np.float32]:
    """KL(base || tuned), base nll, tuned nll at N positions, nats, as [3, N]."""
    size = max(1, _LOGITS_AT_ONCE // _vocabulary(base_head))
    parts = []
    with torch.inference_mode():
        for start in range(0, len(targets_N), size):
            here = slice(start, start + size)
            base_NV = base_head.logits(base_ND[here]).log_softmax(-1)
            tuned_NV = tuned_head.logits(tuned_ND[here]).log_softmax(-1)
            targets_N1 = targets_N[here, None]
            base_nll_N, tuned_nll_N = (-log_p_NV.gather(1, targets_N1)[:, 0] for log_p_NV in (base_NV, tuned_NV))
            # A base probability of 0 adds 0, whatever the tuned model says there.
            kl_N = torch.where(base_NV.isneginf(), 0.0, base_NV.exp() * (base_NV - tuned_NV)).sum(-1).clamp_min(0.0)
            parts.append(torch.stack([kl_N, base_nll_N, tuned_nll_N]).cpu())
    return torch.cat(parts, 1).numpy()


def _vocabulary(head: TiledHead | ModelHead) -> int:
    return len(head.weight_VD) if isinstance(head, TiledHead) else int(head.causal.config.get_text_config().vocab_size)
