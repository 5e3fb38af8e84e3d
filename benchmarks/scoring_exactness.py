"""How exact scores are, by model class: against each model's own full logits, one row at a time, softmax in float64.

    python benchmarks/scoring_exactness.py

The classes are those of ``tests/contract/test_model_classes.py``: small, random, with distributions far from flat. The
columns are the largest difference in nats over all scored tokens: rows padded and packed together, in float32; and with
a bfloat16 backbone, our float32 head and the model's own bfloat16 head against the same hidden states in float64, with
the tokens that change sides at perplexity 2.5 and 3.1 under the latter.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from machine import describe_run

sys.path.insert(0, str(Path(__file__).parents[1]))

THRESHOLDS = (2.5, 3.1)


def main() -> None:
    import torch
    from tests.conftest import compute_plain_scores, make_tiny_model, make_tiny_tokenizer
    from tests.contract.test_model_classes import CLASSES, make, make_rows

    from tokensieve.models import from_memory

    print(describe_run())
    tokenizer = make_tiny_tokenizer()
    rows = make_rows([120, 3, 77, 48, 31, 2, 99, 64, 8, 120])
    print(f"{'':26}{'tokens':>8}{'padded':>10}{'packed':>10}{'bf16: f32 head':>16}{'bf16 head':>11}{'flips':>8}")
    for name in CLASSES:
        loaded = make(lambda *words, **changes: make_tiny_model(tokenizer, *words, **changes), name)
        exact = np.concatenate([compute_plain_scores(loaded, row.ids_T.tolist())[0] for row in rows])
        exact = exact[np.concatenate([row.in_response_T[1:] for row in rows])]
        padded, packed = (np.abs(_nll(rows, loaded, packing=packing) - exact).max() for packing in (False, True))
        rough = from_memory(loaded.model.to(torch.bfloat16), tokenizer)
        reference = _from_hidden_states(rows, rough)
        ours, own = (np.abs(_nll(rows, rough, head_dtype=head) - reference) for head in ("float32", "model"))
        theirs = _nll(rows, rough, head_dtype="model")
        flips = sum(int(((theirs <= np.log(t)) != (reference <= np.log(t))).sum()) for t in THRESHOLDS)
        figures = f"{padded:10.1e}{packed:10.1e}{ours.max():16.1e}{own.max():11.1e}{flips:8}"
        print(f"{name:26}{len(exact):8}{figures}", flush=True)


def _nll(rows, loaded, **changes) -> np.ndarray:
    """All scored tokens' nll."""
    from tokensieve.config import ScoreSettings
    from tokensieve.data.dataset import in_memory
    from tokensieve.data.manifest import Manifest
    from tokensieve.scoring import score

    settings = ScoreSettings(use_store=False, token_budget=256, **changes)
    nll_T = np.concatenate([row.nll_T() for row in score(in_memory(rows, Manifest(stage="tokens")), loaded, settings)])
    return nll_T[~np.isnan(nll_T)].astype(np.float64)


def _from_hidden_states(rows, loaded) -> np.ndarray:
    """The same from the hidden states of the backbone as scoring reads them, with head and softmax in float64."""
    import torch

    from tokensieve.config import ScoreSettings
    from tokensieve.scoring.backend import request_for
    from tokensieve.scoring.batching import batches
    from tokensieve.scoring.hf import open_backend

    backbone = open_backend(loaded, ScoreSettings(token_budget=256)).backbone
    requests = [request_for(row, prompts=False) for row in rows]
    found = {}
    head = backbone.head
    with torch.inference_mode():
        for batch in batches([r for r in requests if len(r.positions_N)], 256, backbone.layout):
            hidden_ND = backbone.hidden_states(batch).double()
            logits_NV = hidden_ND @ head.weight_VD.double().T
            logits_NV = head.shaped(logits_NV, None if head.bias_V is None else head.bias_V.double())
            targets_N = torch.from_numpy(np.concatenate([r.targets_N for r in batch.requests])).long()
            nll_N = logits_NV.logsumexp(1) - logits_NV.gather(1, targets_N[:, None])[:, 0]
            bounds = np.cumsum([len(r.positions_N) for r in batch.requests])[:-1]
            for request, part in zip(batch.requests, np.split(nll_N.numpy(), bounds), strict=True):
                found[id(request)] = part
    return np.concatenate([found[id(r)] for r in requests if len(r.positions_N)])


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    main()
