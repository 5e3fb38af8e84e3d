"""The model's own head, run by the model's own code on hidden states that we give it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from tokensieve.data.score_record import Wanted
from tokensieve.scoring.lm_head import TokenMeasures
from tokensieve.scoring.lm_head_tiles import entropy_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LOGITS_AT_ONCE: Final = 2**25
"""Values in one float32 tile: 128 MiB."""


@dataclass(frozen=True, slots=True, eq=False)
class OwnHead:
    """Everything that a model does behind its backbone, whatever that is.

    Attributes:
        causal: the model. While its head runs, its backbone is replaced by one that hands out the hidden states.
    """

    causal: "PreTrainedModel"

    def logits(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        """Float32 logits of shape ``[N, V]``."""
        backbone = self.causal.base_model
        dummy_BT = torch.zeros((1, len(hidden_ND)), dtype=torch.long, device=hidden_ND.device)
        # An output of the model's own kind, from one token, in which only the hidden states are ours.
        output = backbone(input_ids=dummy_BT[:, :1], use_cache=False)
        output.last_hidden_state = hidden_ND[None]
        backbone.forward = lambda *_args, **_kwargs: output
        try:
            logits: torch.Tensor = self.causal(input_ids=dummy_BT, use_cache=False).logits
        finally:
            del backbone.forward  # the class's own method shows through again
        return logits[0].float()

    def measure(self, hidden_ND: torch.Tensor, targets_N: torch.Tensor, wanted: Wanted) -> TokenMeasures:
        """Nll and what else is wanted of each target; as ``Head.measure``, in tiles of whole vocabularies."""
        vocabulary = int(self.causal.config.get_text_config().vocab_size)
        positions = max(1, _LOGITS_AT_ONCE // vocabulary)
        tiles = zip(torch.split(hidden_ND, positions), torch.split(targets_N, positions), strict=True)
        return TokenMeasures.joined(
            [self._measure_tile(hidden_ND, targets_N, wanted) for hidden_ND, targets_N in tiles]
        )

    def _measure_tile(self, hidden_ND: torch.Tensor, targets_N: torch.Tensor, wanted: Wanted) -> TokenMeasures:
        logits_NV = self.logits(hidden_ND)
        own_N1 = logits_NV.gather(1, targets_N[:, None])
        top_k = wanted.top_k and min(wanted.top_k, logits_NV.shape[1])
        return TokenMeasures(
            nll_N=(logits_NV.logsumexp(1) - own_N1[:, 0]).clamp_min(0.0),
            entropy_N=entropy_of(logits_NV) if wanted.entropy else None,
            rank_N=(logits_NV > own_N1).sum(1).float() if wanted.rank else None,
            top_entropy_N=entropy_of(logits_NV.topk(top_k, dim=1).values) if top_k else None,
        )
