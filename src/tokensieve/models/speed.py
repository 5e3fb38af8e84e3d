"""Rough speed of this machine: the rate of a matrix product, and the share of it that each stage reaches."""

import time
from typing import Final

# Floating-point operations a token and parameter, over the share of the matmul rate that a stage reaches on small
# models (where the overhead of many small products dominates). Measured on the embedded model, two CPU cores.
SCORE: Final = 2 / 0.30
"""Of a token that is read."""
TRAIN: Final = 6 / 0.45
"""Of a token in one training step."""
SAMPLE: Final = 2 / 0.08
"""Of a token that is drawn."""


def matmul_rate(device: str) -> float:
    """Floating-point operations a second of a square product on the device, measured for a moment."""
    import torch

    size = 768
    left = torch.ones(size, size, device=device)
    _ = left @ left
    began, products = time.perf_counter(), 0
    while time.perf_counter() - began < 0.2:
        (left @ left)[0, 0].item()
        products += 1
    return products * 2 * size**3 / (time.perf_counter() - began)
