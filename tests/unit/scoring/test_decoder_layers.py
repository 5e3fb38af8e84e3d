"""Decoder layers and LM-head sums by torch.compile: the same scores, few graphs, and eager where it fails.

And attention over packed rows by torch's variable-length kernel, which runs on a GPU only: how it is called.
"""

import itertools
import logging
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import pytest
import torch

from tokensieve.config import ScoreSettings
from tokensieve.models import LoadedModel
from tokensieve.scoring import decoder_layers
from tokensieve.scoring.backend import Measures, ScoreRecord, ScoreRequest
from tokensieve.scoring.decoder_layers import CompiledLayers, is_wanted
from tokensieve.scoring.hf import TransformersBackend, open_backend
from tokensieve.scoring.lm_head_tiles import CompiledStep, Sums, add_in_place

ModelFactory = Callable[..., LoadedModel]
MEASURES = Measures(entropy=True, rank=True)


@pytest.fixture(autouse=True)
def _nothing_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoder_layers, "_compiled", {})


def _requests(*lengths: int) -> list[ScoreRequest]:
    generator = np.random.default_rng(0)
    return [
        ScoreRequest(generator.integers(0, 262, length).astype(np.int32), np.arange(1, length, dtype=np.int32))
        for length in lengths
    ]


def _open(loaded: LoadedModel, wanted: Literal["on", "off"], *, packing: bool) -> TransformersBackend:
    loaded = replace(loaded, settings=loaded.settings.model_copy(update={"compile": wanted}))
    return open_backend(loaded, ScoreSettings(packing=packing, token_budget=64))


def _same(found: ScoreRecord | None, expected: ScoreRecord | None) -> None:
    assert found is not None
    assert expected is not None
    np.testing.assert_allclose(found.nll_N, expected.nll_N, atol=1e-5)
    assert found.entropy_N is not None
    assert expected.entropy_N is not None
    np.testing.assert_allclose(found.entropy_N, expected.entropy_N, atol=1e-5)
    np.testing.assert_array_equal(found.rank_N, expected.rank_N)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of torch about torch, at the compiler's first import
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_layers_give_the_same_scores_by_few_graphs_whatever_the_lengths(
    tiny_model: ModelFactory, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    """Rows of many lengths, packed, and padded too where compiling is cheap; the model keeps its own layers."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    counters = torch._dynamo.utils.counters
    counters.clear()
    loaded = tiny_model(num_hidden_layers=3)
    requests = _requests(40, 33, 21, 20, 9, 8, 5, 3, 2)
    for packing in (True,) if backend == "inductor" else (True, False):
        compiled = _open(loaded, "on", packing=packing)
        assert compiled.facts["compiled"] is True
        found = compiled.score(requests, MEASURES)
        for one, other in zip(found, _open(loaded, "off", packing=packing).score(requests, MEASURES), strict=True):
            _same(one, other)
    # Packed layers and the head's sums; padded layers and those of one row alone.
    assert counters["stats"]["unique_graphs"] <= (2 if backend == "inductor" else 4)
    assert not any("forward" in layer.__dict__ for layer in decoder_layers.decoder_layers(loaded.model))


def test_many_models_in_one_process_are_all_compiled(tiny_model: ModelFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's limit counts by code object, which all of transformers' layers share; a structure is compiled once."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    monkeypatch.setattr(torch._dynamo.config, "recompile_limit", 3)
    for width in (16, 32, 48, 64, 80):
        loaded = tiny_model(hidden_size=width, num_hidden_layers=1)
        assert _open(loaded, "on", packing=True).facts["compiled"] is True
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for again in (loaded, tiny_model(hidden_size=80, num_hidden_layers=1)):
        assert _open(again, "on", packing=True).facts["compiled"] is True
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs


def test_a_compiler_that_fails_leaves_the_eager_layers_and_a_line_in_the_log(
    tiny_model: ModelFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> object:
        def call(*_: object, **__: object) -> None:
            raise torch._dynamo.exc.TorchDynamoException("no compiler here\nand more")

        return call

    monkeypatch.setattr(torch, "compile", refuse)
    loaded, requests = tiny_model(), _requests(12, 7, 7)
    with caplog.at_level(logging.WARNING):
        backend = _open(loaded, "on", packing=True)
    assert [record.message for record in caplog.records] == [
        "decoder layers run without torch.compile: TorchDynamoException: no compiler here and more"
    ]
    assert backend.facts["compiled"] is False
    assert "no compiler here" in str(backend.facts["notes"])
    for one, other in zip(
        backend.score(requests, MEASURES), _open(loaded, "off", packing=True).score(requests, MEASURES), strict=True
    ):
        _same(one, other)
    guess_N, tile_NV = torch.zeros(3), torch.randn(3, 5, generator=torch.Generator().manual_seed(0))
    sums = Sums(guess_N, guess_N, guess_N, None, guess_N)
    column_N, step = torch.tensor([0, 4, 9]), CompiledStep()
    with caplog.at_level(logging.WARNING):
        both = [step(sums, guess_N, column_N, tile_NV.clone(), torch.empty(3, 5)) for _ in range(2)]
    assert len(caplog.records) == 2
    expected = add_in_place(sums, guess_N, column_N, tile_NV.clone(), torch.empty(3, 5))
    for made in both:
        for value, right in zip(made, expected, strict=True):
            torch.testing.assert_close(value, right)


def test_an_error_of_the_model_is_not_taken_for_one_of_the_compiler(tiny_model: ModelFactory) -> None:
    layers = CompiledLayers(tiny_model().model)

    def full() -> None:
        raise torch.OutOfMemoryError("full")

    with pytest.raises(torch.OutOfMemoryError):
        layers.run(full)
    assert layers.problem is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_that_compute_something_else_are_not_used(
    tiny_model: ModelFactory, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(
        torch, "compile", lambda forward, **_: lambda *inputs, **options: forward(*inputs, **options) * 1.5
    )
    loaded = tiny_model()
    loaded.model.to(dtype)
    backend = _open(loaded, "on", packing=False)
    assert backend.facts["compiled"] is False
    assert backend.backbone.compiled is None


def test_auto_is_for_cuda_alone() -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    assert [is_wanted("auto", cuda), is_wanted("auto", cpu), is_wanted("on", cpu), is_wanted("off", cuda)] == [
        True,
        False,
        True,
        False,
    ]


def test_a_model_without_a_list_of_layers_runs_eager(tiny_model: ModelFactory) -> None:
    model = tiny_model().model
    model.config.num_hidden_layers = 17
    assert CompiledLayers(model).problem is not None


def _stand_in(
    query_THD: torch.Tensor,
    key_THD: torch.Tensor,
    value_THD: torch.Tensor,
    bounds_B: torch.Tensor,
    key_bounds_B: torch.Tensor,
    longest: int,
    key_longest: int,
    *,
    scale: float | None,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> torch.Tensor:
    """What the kernel is documented to compute, row by row."""
    assert bounds_B.dtype == torch.int32
    assert torch.equal(bounds_B, key_bounds_B)
    assert longest == key_longest == int(bounds_B.diff().max())
    assert window_size == (-1, 0)
    output = torch.empty_like(query_THD)
    for start, stop in itertools.pairwise(bounds_B.tolist()):
        query, key, value = (part[start:stop].transpose(0, 1)[None] for part in (query_THD, key_THD, value_THD))
        attended = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, scale=scale, is_causal=True, enable_gqa=enable_gqa
        )
        output[start:stop] = attended[0].transpose(0, 1)
    return output


def _kernel(monkeypatch: pytest.MonkeyPatch, function: object) -> None:
    module = types.ModuleType("torch.nn.attention.varlen")
    module.__dict__["varlen_attn"] = function
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", module)


def _packed() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(1, heads, 15, 8, generator=generator) for heads in (4, 2, 2))  # type: ignore[return-value]


ROWS = decoder_layers._Rows(
    (decoder_layers._Run(1, 6), decoder_layers._Run(2, 3), decoder_layers._Run(3, 1)),
    torch.tensor([0, 6, 9, 12, 13, 14, 15], dtype=torch.int32),
)


def test_the_kernel_is_called_as_documented_and_agrees_with_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    _kernel(monkeypatch, _stand_in)
    token = decoder_layers._rows.set(ROWS)
    try:
        found = decoder_layers._attend_varlen(*_packed(), 0.3)
        expected, _ = decoder_layers._attend(torch.nn.Module(), *_packed(), None, 0.3)
    finally:
        decoder_layers._rows.reset(token)
    assert found.shape == (1, 15, 4, 8)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("error", [RuntimeError("no such card"), TypeError("unexpected argument"), ValueError("heads")])
def test_where_the_kernel_does_not_run_rows_are_not_packed(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    _kernel(monkeypatch, refuse)
    token = decoder_layers._rows.set(ROWS)
    try:
        with pytest.raises(decoder_layers.UnsupportedAttention, match=str(error)):
            decoder_layers._attend_varlen(*_packed(), 0.3)
        _kernel(monkeypatch, lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
        with pytest.raises(torch.OutOfMemoryError):
            decoder_layers._attend_varlen(*_packed(), 0.3)
    finally:
        decoder_layers._rows.reset(token)
