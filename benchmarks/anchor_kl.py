"""KL to the base from k stored entries against the exact KL with the adapter off, on a model's own dialogues.

A LoRA adapter is trained for a few steps; then both models read dialogues of the base. Printed for each k: the mean KL
in nats per token, its error and that of its gradient in the logits relative to the exact ones, and the bytes that an
anchor's token takes. ``--model pocket``, or a file such as build/real-models/SmolLM2-135M-Instruct.Q4_1.gguf.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from machine import describe_run

from tokensieve.config import DataSettings, DriftSettings, LoraSettings, ModelSettings, ScoreSettings, TrainSettings
from tokensieve.drift import probe_sets, row_divergences
from tokensieve.models import LoadedModel, load_model
from tokensieve.pipeline import load, select
from tokensieve.scoring import score
from tokensieve.scoring.response_states import top_log_probs
from tokensieve.training import train
from tokensieve.training.kl import kl_to_base
from tokensieve.types import Tokens

SIZES = (8, 16, 32, 64, 128, 256)
_BYTES_AN_ENTRY = 8
"""An int32 id and a float32 log-probability."""


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--data", default="task:pocket_sql_house/train", help="what the adapter is trained on")
    parser.add_argument("--rows", type=int, default=16, help="training rows, all of them in every step")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--dialogues", type=int, default=32)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    return parser.parse_args()


def _tuned(base: LoadedModel, options: argparse.Namespace, work: Path) -> ModelSettings:
    """The base with an adapter of a few steps on it."""
    data = load(options.data, base, DataSettings(limit=options.rows))
    chosen = select(score(data, base, ScoreSettings(use_store=False)), "plain")
    settings = TrainSettings(
        learning_rate=options.rate,
        epochs=options.steps,
        batch_size=options.rows,
        warmup_steps=0,
        lora=LoraSettings(dropout=0.0),
    )
    return train(chosen, base.settings, settings, work / "adapter").on(base.settings)


def _logits_NV(model: torch.nn.Module, row: Tokens) -> torch.Tensor:
    """Logits that predict the row's response tokens, float32."""
    places_N = torch.from_numpy(np.flatnonzero(row.in_response_T[1:]))
    with torch.inference_mode():
        logits_TV = model(input_ids=torch.from_numpy(row.ids_T.astype(np.int64))[None]).logits[0]
    return logits_TV[places_N].float().clone()


def _row_sums(row: Tokens, base: LoadedModel, model: torch.nn.Module, sizes: tuple[int, ...]) -> np.ndarray:
    """Of one row: exact KL and squared norm of its gradient, then for each k KL and squared gradient error, summed."""
    tuned_NV = _logits_NV(model, row)
    with model.disable_adapter():
        off_NV = _logits_NV(model, row)
    log_p_NV, log_q_NV = off_NV.double().log_softmax(-1), tuned_NV.double().log_softmax(-1)
    exact_gradient_NV = log_q_NV.exp() - log_p_NV.exp()
    sums = [float((log_p_NV.exp() * (log_p_NV - log_q_NV)).sum()), float(exact_gradient_NV.square().sum())]
    ((ids_NV, stored_NV),) = top_log_probs([row], base, max(sizes))
    for k in sizes:
        logits_NV = tuned_NV.clone().requires_grad_()
        ids_NK = torch.from_numpy(ids_NV[:, :k].astype(np.int64))
        kl = kl_to_base(logits_NV, ids_NK, torch.from_numpy(stored_NV[:, :k])).sum()
        (gradient_NV,) = torch.autograd.grad(kl, logits_NV)
        sums += [float(kl.detach()), float((gradient_NV.double() - exact_gradient_NV).square().sum())]
    return np.array(sums)


def main() -> None:
    """Train, measure and print."""
    options = _options()
    print(describe_run(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        base = load_model(ModelSettings(model=options.model, dtype="float32"))
        vocabulary = int(base.model.config.get_text_config().vocab_size)
        drawing = DriftSettings(dialogues=options.dialogues, max_new_tokens=options.max_new_tokens, seed=1)
        rows = probe_sets(base, drawing, Path(folder))["dialogues"]
        settings = _tuned(base, options, Path(folder))
        tuned = load_model(settings)
        sizes = (*(k for k in SIZES if k < vocabulary), vocabulary)
        sums = np.sum([_row_sums(row, base, tuned.model, sizes) for row in rows], axis=0)
        states = row_divergences(rows, base, tuned)
    tokens = sum(len(one.kl_N) for one in states)
    through_states = sum(float(one.kl_N.sum(dtype=np.float64)) for one in states) / tokens
    exact = sums[0] / tokens
    print(f"{vocabulary:,} vocabulary entries, {len(rows)} dialogues, {tokens:,} response tokens")
    print(f"exact, adapter off, float64: {exact:.6f} nats/token; through stored hidden states: {through_states:.6f}")
    print(f"{'k':>8} {'nats/token':>11} {'error':>9} {'gradient error':>15} {'bytes/token':>12}")
    for place, k in enumerate(sizes):
        found, squared = sums[2 + 2 * place] / tokens, sums[3 + 2 * place]
        errors = f"{found / exact - 1:>+9.2%} {(squared / sums[1]) ** 0.5:>15.2%}"
        print(f"{k:>8,} {found:>11.6f} {errors} {_BYTES_AN_ENTRY * k:>12,}")


if __name__ == "__main__":
    main()
