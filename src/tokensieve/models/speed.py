"""Speed of a model on this machine, measured for a moment, and the time that work with it takes, roughly."""

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokensieve.models.device import matmul_rate

if TYPE_CHECKING:
    from torch import nn

    from tokensieve.models.identity import LoadedModel

_MEASURED_S: Final = 0.3
"""Longest forward pass that is measured, by the rate of a matrix product."""
_ROW: Final = 128
_ROWS: Final = 8
"""Rows, and tokens in each, of the forward pass that is measured where it is not too long."""
_ANSWERS: Final = 32
"""Answers that are drawn at a time, for the speed of drawing."""
_TRAINED: Final = 3.0
"""Time of a token in a training step over that of a token that is read: forward, and twice as much backward."""
_DRAWN: Final = 1.5
"""Time of a drawn token over that of a step's share: attention to the cache, and rows that have ended early."""
_SPECTRUM: Final = 24.0
"""Operations of a weight update for each parameter and unit of the width: Gram matrices, and their eigenvalues."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a piece of work does with a model.

    Attributes:
        read: tokens in forward passes.
        trained: tokens in training steps.
        drawn: tokens of answers.
        spectra: weight updates whose singular values are computed.
    """

    read: float = 0.0
    trained: float = 0.0
    drawn: float = 0.0
    spectra: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.read + other.read,
            self.trained + other.trained,
            self.drawn + other.drawn,
            self.spectra + other.spectra,
        )

    def __bool__(self) -> bool:
        """False where nothing takes time."""
        return self != NOTHING


NOTHING: Final = Work()
"""Work that takes no time."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds that a model needs on this machine.

    Attributes:
        read_s: a token in a forward pass.
        drawn_s: a token of an answer, many answers at a time.
        spectrum_s: the singular values of one weight update.
    """

    read_s: float
    drawn_s: float
    spectrum_s: float

    def seconds(self, work: Work) -> float:
        """Time of the work, roughly."""
        read = (work.read + _TRAINED * work.trained) * self.read_s
        return read + work.drawn * self.drawn_s + work.spectra * self.spectrum_s


def measure_speed(loaded: "LoadedModel", threads: int | None = None) -> Speed:
    """Measure a model by two forward passes: of some rows, and of one token of many rows, as a decoding step has.

    Takes about a second; a few on a CPU with a model of several billion parameters.

    Args:
        loaded: the model.
        threads: CPU threads of the process that will work with it; None is this process's number.
    """
    import torch

    model, before = loaded.model, torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        parameters, rate = model.num_parameters(), matmul_rate(str(loaded.device))
        tokens = max(_ROW, min(_ROW * _ROWS, int(_MEASURED_S * rate / (2 * parameters))))
        rows = tokens // _ROW
        read = _forward_s(model.base_model, loaded, rows, _ROW) / (rows * _ROW)
        drawn = _forward_s(model, loaded, _ANSWERS, 1) / _ANSWERS
    finally:
        torch.set_num_threads(before)
    width = float(getattr(model.config.get_text_config(), "hidden_size", 0))
    return Speed(read, _DRAWN * drawn, _SPECTRUM * width * parameters / rate)


def _forward_s(model: "nn.Module", loaded: "LoadedModel", rows: int, length: int) -> float:
    """Seconds of a forward pass, the second of two: the first one makes what a model keeps."""
    import torch

    ids_BT = torch.zeros((rows, length), dtype=torch.int64, device=loaded.device)
    began = 0.0
    with torch.no_grad():
        for _ in range(2):
            began = time.perf_counter()
            model(input_ids=ids_BT, use_cache=False)[0].sum().item()  # waits for the device
    return time.perf_counter() - began
