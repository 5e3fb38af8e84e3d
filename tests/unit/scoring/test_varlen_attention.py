"""Attention over packed rows by torch's variable-length kernel, which runs on a GPU only: how it is called."""

import itertools
import sys
import types

import pytest
import torch

from tokensieve.scoring import varlen_attention


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


ROWS = varlen_attention._Rows(
    (varlen_attention._Run(1, 6), varlen_attention._Run(2, 3), varlen_attention._Run(3, 1)),
    torch.tensor([0, 6, 9, 12, 13, 14, 15], dtype=torch.int32),
)


def test_the_kernel_is_called_as_documented_and_agrees_with_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    _kernel(monkeypatch, _stand_in)
    token = varlen_attention._rows.set(ROWS)
    try:
        found = varlen_attention._attend_varlen(*_packed(), 0.3)
        expected, _ = varlen_attention._attend(torch.nn.Module(), *_packed(), None, 0.3)
    finally:
        varlen_attention._rows.reset(token)
    assert found.shape == (1, 15, 4, 8)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("error", [RuntimeError("no such card"), TypeError("unexpected argument"), ValueError("heads")])
def test_where_the_kernel_does_not_run_rows_are_not_packed(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    _kernel(monkeypatch, refuse)
    token = varlen_attention._rows.set(ROWS)
    try:
        with pytest.raises(varlen_attention.UnsupportedAttention, match=str(error)):
            varlen_attention._attend_varlen(*_packed(), 0.3)
        _kernel(monkeypatch, lambda *_, **__: (_ for _ in ()).throw(torch.OutOfMemoryError("full")))
        with pytest.raises(torch.OutOfMemoryError):
            varlen_attention._attend_varlen(*_packed(), 0.3)
    finally:
        varlen_attention._rows.reset(token)
