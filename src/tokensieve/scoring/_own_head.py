"""The model's own head, run by the model's own code on hidden states that we give it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from tokensieve.scoring._head import TokenMeasures

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

    def measure(self, hidden_ND: torch.Tensor, targets_N: torch.Tensor, *, entropy: bool, rank: bool) -> TokenMeasures:
        """Nll (nats), entropy (nats) and rank of each target; as ``Head.measure``, in tiles of whole vocabularies."""
        vocabulary = int(self.causal.config.get_text_config().vocab_size)
        positions = max(1, _LOGITS_AT_ONCE // vocabulary)
        nll, entropies, ranks = ([torch.zeros(0, device=hidden_ND.device)] for _ in range(3))
        for start in range(0, len(targets_N), positions):
            logits_NV = self.logits(hidden_ND[start : start + positions])
            own_N1 = logits_NV.gather(1, targets_N[start : start + positions, None])
            log_p_NV = torch.log_softmax(logits_NV, dim=1)
            nll.append(-log_p_NV.gather(1, targets_N[start : start + positions, None])[:, 0])
            ranks.append((logits_NV > own_N1).sum(1).float())
            entropies.append(-(log_p_NV.exp() * log_p_NV).nan_to_num(0.0).sum(1))
        return TokenMeasures(
            nll_N=torch.cat(nll),
            entropy_N=torch.cat(entropies) if entropy else None,
            rank_N=torch.cat(ranks) if rank else None,
        )
