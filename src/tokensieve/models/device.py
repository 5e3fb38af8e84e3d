"""Devices: by name, dtype of weights there, copies to them, rough speed, and arguments that save memory on them."""

import time
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np

from tokensieve.errors import EnvironmentProblem, InputError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from transformers import PreTrainedModel


def device_of(name: str) -> "torch.device":
    """The device of a setting's name; ``auto`` is CUDA, then MPS, then the CPU.

    Raises:
        InputError: no such device name.
        EnvironmentProblem: CUDA is not there.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device {name!r}", where="--device", fix="auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise EnvironmentProblem("no CUDA device is there", where="--device", fix="--device auto")
    return device


def dtype_of(name: str, device: "torch.device") -> "torch.dtype":
    """The dtype of a setting's name; ``auto`` is bfloat16 on CUDA, else float32."""
    import torch

    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def dtype_name(model: "PreTrainedModel") -> str:
    """Name of a model's dtype, e.g. bfloat16."""
    return str(model.dtype).removeprefix("torch.")


def on_device(part: "torch.Tensor", device: "torch.device") -> "torch.Tensor":
    """Copy a CPU tensor to a device; to a GPU from pinned memory, so that nothing waits for what the GPU does now."""
    return part.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else part.to(device)


def int64_on(device: "torch.device", values: "NDArray[np.integer]") -> "torch.Tensor":
    """Whole numbers on a device, int64, without waiting for it."""
    import torch

    return on_device(torch.from_numpy(values.astype(np.int64)), device)


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


def checkpointing_arguments(on: bool) -> dict[str, bool]:
    """Arguments that turn gradient checkpointing on or off, under every name that the release knows.

    Up to 5.17 that is ``gradient_checkpointing`` only. Later ones have ``activation_checkpointing`` and keep the old
    name as an alias, which TRL's defaults set, so that both have to be given.
    """
    from transformers import TrainingArguments

    known = {field.name for field in fields(TrainingArguments)}
    return {name: on for name in ("gradient_checkpointing", "activation_checkpointing") if name in known}
