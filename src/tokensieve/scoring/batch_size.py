"""How many tokens go through the model at once."""

from typing import TYPE_CHECKING, Final

import psutil
import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SMALLEST: Final = 256
_CPU_LARGEST: Final = 4096
"""On a CPU larger products are no faster, and larger batches only hold more padding."""

_GPU_LARGEST: Final = 65_536
_SHARE: Final = 0.4
"""Of the free memory; the rest is for attention, the head's tiles, and what was not foreseen."""


def find_token_budget(model: "PreTrainedModel", device: torch.device) -> int:
    """Tokens in one batch, from the free memory and the model's widths; a power of two, so that runs repeat."""
    config = model.config.get_text_config()
    hidden = int(config.hidden_size)
    inner = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    # What is alive at the widest point of a layer: residual, normed, queries, keys, values; and the gated product.
    per_token = model.dtype.itemsize * (8 * hidden + 4 * inner)
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        largest = _GPU_LARGEST
    else:
        free, largest = psutil.virtual_memory().available, _CPU_LARGEST
    fitting = int(_SHARE * free / per_token)
    budget = _SMALLEST
    while 2 * budget <= min(fitting, largest):
        budget *= 2
    return budget


def is_out_of_memory(error: RuntimeError | MemoryError) -> bool:
    """Whether an error says that memory ran out; the CPU allocator's has no class of its own."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def keep_heap() -> None:
    """Have the C library keep freed blocks of up to 32 MiB for the next layer instead of returning them to the system.

    glibc raises its thresholds for that to the size of the largest block that it has mapped and freed. Without this
    every activation is made of fresh pages, which took a tenth of the time of a small model. Harmless elsewhere.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8).fill_(0)
