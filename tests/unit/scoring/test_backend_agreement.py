from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch

from tokensieve.config import ScoreSettings
from tokensieve.data.dataset import Rows, in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel, from_memory
from tokensieve.scoring import Backend, compare_backends, score
from tokensieve.scoring.hf import open_backend
from tokensieve.types import Tokens, bools, ints

ModelFactory = Callable[..., LoadedModel]


def _rows(count: int) -> Rows[Tokens]:
    generator = np.random.default_rng(0)
    made = [
        Tokens(f"r{i}", ints(generator.integers(0, 262, 20)), bools([t > 4 for t in range(20)]), bools([False] * 20))
        for i in range(count)
    ]
    return in_memory(made, Manifest(stage="tokens"))


def test_a_model_agrees_with_itself(tiny_model: ModelFactory) -> None:
    found = compare_backends(_rows(10), tiny_model(), tiny_model(), ScoreSettings(use_store=False))
    assert found.tokens == 150
    assert set(found.quantiles.values()) == {0.0}
    assert found.flips == found.near == 0
    assert found.mean == 0.0


def test_bfloat16_is_apart_and_flips_are_counted(tiny_model: ModelFactory) -> None:
    exact = tiny_model(spread=10.0)
    rough = tiny_model(spread=10.0)
    rough.model.to(torch.bfloat16)
    rough = from_memory(rough.model, rough.tokenizer)
    found = compare_backends(_rows(30), exact, rough, threshold=100.0)
    assert 0 < found.quantiles[0.5] <= found.quantiles[0.9] <= found.quantiles[1.0] < 5
    first = np.concatenate([row.nll_T() for row in score(_rows(30), exact)])
    second = np.concatenate([row.nll_T() for row in score(_rows(30), rough)])
    scored = ~np.isnan(first)
    assert found.quantiles[1.0] == pytest.approx(np.abs(first - second)[scored].max())
    kept, kept_too = first[scored] <= np.log(100), second[scored] <= np.log(100)
    assert found.flips == (kept != kept_too).sum()
    assert found.kept_by_first == kept.sum()
    assert found.near >= found.flips
    assert (found.first.dtype, found.second.dtype) == ("float32", "bfloat16")


def test_no_tokens_no_numbers(tiny_model: ModelFactory) -> None:
    found = compare_backends(_rows(0), tiny_model(), tiny_model())
    assert found.tokens == 0
    assert np.isnan(found.mean)
    assert np.isnan(found.quantiles[0.5])


def test_a_threshold_below_every_perplexity_is_refused(tiny_model: ModelFactory) -> None:
    with pytest.raises(InputError, match="at least 1"):
        compare_backends(_rows(1), tiny_model(), tiny_model(), threshold=0.4)


def test_what_is_given_by_function_is_opened_when_its_turn_comes(tiny_model: ModelFactory) -> None:
    order: list[str] = []

    def opened(name: str) -> Callable[[], Backend]:
        def open_it() -> Backend:
            order.append(f"{name} opened")
            return open_backend(tiny_model(), ScoreSettings())

        return open_it

    def rows() -> Iterator[Tokens]:
        order.append("rows read")
        yield from _rows(3)

    found = compare_backends(
        Rows(Manifest(stage="tokens"), rows), opened("first"), opened("second"), ScoreSettings(use_store=False)
    )
    assert order == ["first opened", "rows read", "second opened", "rows read"]
    assert found.quantiles[1.0] == 0.0
