"""Resident memory of scoring against the number of rows, for the scoring benchmark."""

import re
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np


def resident_mib() -> float:
    """Memory that this process holds now; on a GPU, the device's."""
    return _gpu_mib(peak=False) or _status_mib("VmRSS")


def peak_mib() -> float:
    """The most that it has held since ``reset_peak``."""
    return _gpu_mib(peak=True) or _status_mib("VmHWM")


def reset_peak() -> None:
    import torch

    Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _gpu_mib(*, peak: bool) -> float:
    import torch

    if not torch.cuda.is_available():
        return 0.0
    return (torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()) / 2**20


def _status_mib(name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def stream(count: int) -> dict[str, object]:
    """Score ``count`` short rows into a folder and a store, with a backend that computes nothing."""
    from tokensieve.config import ScoreSettings
    from tokensieve.data.dataset import Rows
    from tokensieve.data.manifest import Counts, Manifest, ModelIdentity
    from tokensieve.scoring import score_with
    from tokensieve.scoring.backend import ScoreRecord
    from tokensieve.types import Tokens

    class Nothing:
        identity = ModelIdentity(name="nothing", weights_digest="0")
        facts: dict[str, object] = {}  # noqa: RUF012
        max_length = vocab_size = None
        has_entropy = has_rank = True

        def resumed(self, facts: object) -> "Nothing":  # noqa: ARG002
            return self

        def score(self, requests, measures) -> list[ScoreRecord]:  # noqa: ARG002
            return [ScoreRecord(np.zeros(len(r.positions_N), np.float32)) for r in requests]

    def rows() -> Iterator[Tokens]:
        for index in range(count):
            ids_T = np.array([index & 0xFFFF, index >> 16, 3, 4, 5, 6, 7, 8], dtype=np.int32)
            yield Tokens(str(index), ids_T, np.arange(8) > 3, np.zeros(8, dtype=np.bool_))

    start = time.perf_counter()
    manifest = Manifest(stage="tokens", counts=Counts(rows_out=count))
    with tempfile.TemporaryDirectory() as folder:
        settings = ScoreSettings(entropy=False, rank=False, store=Path(folder) / "store")
        score_with(Rows(manifest, rows), Nothing(), settings, out=Path(folder) / "out")
    return {
        "peak_mib": _status_mib("VmHWM"),
        "seconds": time.perf_counter() - start,
    }
