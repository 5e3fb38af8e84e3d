"""Memory that runs out: batches in halves, rows in pieces, and at last rows that are left out and counted."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tokensieve.config import ScoreSettings
from tokensieve.data.dataset import Rows, in_memory, open_rows
from tokensieve.data.manifest import Manifest
from tokensieve.errors import EnvironmentProblem
from tokensieve.launch import Portion
from tokensieve.models import LoadedModel
from tokensieve.scoring import score_all, score_with
from tokensieve.scoring.hf import TransformersBackend, open_backend
from tokensieve.scoring.sharding import TOO_LARGE
from tokensieve.types import Scored, Tokens, bools, ints

ModelFactory = Callable[..., LoadedModel]

SETTINGS = ScoreSettings(token_budget=512, use_store=False, shard_rows=8)


def _rows(count: int, longest: int = 120) -> Rows[Tokens]:
    generator = np.random.default_rng(0)
    made = []
    for index in range(count):
        length = longest if index == count // 2 else int(generator.integers(2, 24))
        flags = bools([place >= length // 2 for place in range(length)])
        made.append(Tokens(f"r{index}", ints(generator.integers(0, 262, length)), flags, bools([False] * length)))
    return in_memory(made, Manifest(stage="tokens"))


@dataclass
class _Small:
    """A backbone on a device that holds so many tokens at once."""

    backbone: torch.nn.Module
    tokens: int
    error: Exception = field(default_factory=lambda: torch.OutOfMemoryError("no room"))
    sizes: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, *, input_ids: torch.Tensor, **options: object) -> object:
        self.sizes.append(tuple(input_ids.shape))
        if input_ids.numel() > self.tokens:
            raise self.error
        return self.backbone(input_ids=input_ids, **options)

    def __getattr__(self, name: str) -> object:
        return getattr(self.backbone, name)


def _on(backend: TransformersBackend, small: _Small) -> TransformersBackend:
    return replace(backend, backbone=replace(backend.backbone, layers=small))


@pytest.mark.parametrize("packing", [False, True])
def test_a_batch_is_halved_and_a_row_alone_is_read_in_pieces(tiny_model: ModelFactory, packing: bool) -> None:
    settings = SETTINGS.model_copy(update={"packing": packing})
    backend = open_backend(tiny_model(), settings)
    expected = score_with(_rows(20), backend, settings)
    small = _Small(backend.backbone.layers, tokens=64)
    found = score_with(_rows(20), _on(backend, small), settings)
    assert max(rows * length for rows, length in small.sizes) > 64
    assert (1, 60) in small.sizes  # half of the long row
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.nll_T(), other.nll_T(), atol=1e-5)
    assert not found.manifest.counts.dropped


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_a_row_that_fits_in_no_way_is_left_out_and_counted(
    tiny_model: ModelFactory, tmp_path: Path, error: Exception
) -> None:
    backend = open_backend(tiny_model(), SETTINGS)
    small = _on(backend, _Small(backend.backbone.layers, tokens=30, error=error))
    found = score_with(_rows(20), small, SETTINGS)
    counts = found.manifest.counts
    assert (counts.rows_in, counts.rows_out, counts.dropped) == (20, 19, {TOO_LARGE: 1})
    assert counts.dropped_ids == {TOO_LARGE: ["r10"]}
    assert [row.tokens.id for row in found] == [f"r{index}" for index in range(20) if index != 10]
    folder = score_with(_rows(20), small, SETTINGS, out=tmp_path / "out")
    assert folder.manifest.counts == counts


def test_what_was_left_out_stays_counted_when_a_run_goes_on(tiny_model: ModelFactory, tmp_path: Path) -> None:
    backend = open_backend(tiny_model(), SETTINGS)
    small = _on(backend, _Small(backend.backbone.layers, tokens=30))
    score_with(_rows(20), small, SETTINGS, out=tmp_path / "out")
    (tmp_path / "out" / "rows-00000.parquet").unlink()
    again = score_with(_rows(20), small, SETTINGS, out=tmp_path / "out")
    assert again.manifest.counts.dropped_ids == {TOO_LARGE: ["r10"]}
    for index in range(2):
        score_with(_rows(20), small, SETTINGS, out=tmp_path / "two", portion=Portion(index, 2))
    assert open_rows(tmp_path / "two").manifest.counts == again.manifest.counts
    assert all(isinstance(row, Scored) for row in open_rows(tmp_path / "two"))


def test_models_with_a_running_state_are_not_read_in_pieces(tiny_model: ModelFactory) -> None:
    loaded = tiny_model("MambaConfig", spread=2.0, state_size=4, expand=2, conv_kernel=4)
    backend = open_backend(loaded, SETTINGS)
    found = score_with(_rows(6), _on(backend, _Small(backend.backbone.layers, tokens=64)), SETTINGS)
    assert found.manifest.counts.dropped == {TOO_LARGE: 1}


def test_other_errors_are_not_swallowed(tiny_model: ModelFactory) -> None:
    backend = open_backend(tiny_model(), SETTINGS)
    small = _Small(backend.backbone.layers, tokens=0, error=RuntimeError("a bug"))
    with pytest.raises(RuntimeError, match="a bug"):
        score_with(_rows(3), _on(backend, small), SETTINGS)


def test_a_caller_that_needs_every_row_is_told(tiny_model: ModelFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    from tokensieve.scoring import hf

    loaded = tiny_model()
    open_whole = hf.open_backend

    def open_small(loaded: LoadedModel, settings: ScoreSettings) -> TransformersBackend:
        backend = open_whole(loaded, settings)
        return _on(backend, _Small(backend.backbone.layers, tokens=30))

    assert len(score_all(list(_rows(5)), loaded, SETTINGS)) == 5
    monkeypatch.setattr(hf, "open_backend", open_small)
    with pytest.raises(EnvironmentProblem, match="1 of 5 rows do not fit into memory"):
        score_all(list(_rows(5)), loaded, SETTINGS)


_LONG_ROWS = """
import re, sys
from pathlib import Path
import numpy as np, torch
from transformers import LlamaConfig, LlamaForCausalLM
from tokensieve.config import ModelSettings, ScoreSettings
from tokensieve.data.dataset import in_memory
from tokensieve.data.manifest import Manifest, ModelIdentity
from tokensieve.models import LoadedModel
from tokensieve.scoring import score
from tokensieve.types import Tokens

def mib(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

def rows(length, count):
    generator = np.random.default_rng(0)
    drawn = [generator.integers(0, 128_000, length, dtype=np.int32) for _ in range(count)]
    flags = np.arange(length) > 9, np.zeros(length, dtype=bool)
    made = [Tokens(str(number), ids, *flags) for number, ids in enumerate(drawn)]
    return in_memory(made, Manifest(stage="tokens"))

config = LlamaConfig(
    vocab_size=128_256, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    intermediate_size=192, max_position_embeddings=8192, tie_word_embeddings=True,
)
model = LlamaForCausalLM(config).eval()
loaded = LoadedModel(model, None, ModelIdentity(name="m"), ModelSettings())
settings = ScoreSettings(use_store=False)
list(score(rows(16, 2), loaded, settings))  # kernels and libraries
before = mib("VmRSS")
Path("/proc/self/clear_refs").write_text("5")
found = list(score(rows(8192, 1), loaded, settings))
assert len(found) == 1 and int(np.isfinite(found[0].nll_T()).sum()) == 8182
print(mib("VmHWM") - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is read from Linux's /proc")
def test_8k_tokens_by_128k_entries_stay_below_a_gigabyte() -> None:
    """A row of which all is scored, in a process of its own; its logits would be 4 GiB."""
    # One thread: on a busy machine two that wait for each other take many times as long.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _LONG_ROWS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 1000
