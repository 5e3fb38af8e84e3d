"""The transformers backend's loop over batches: what it asks the device for, and when."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tokensieve.config import ScoreSettings
from tokensieve.models import LoadedModel
from tokensieve.scoring import hf
from tokensieve.scoring.backend import Measures, ScoreRequest

ModelFactory = Callable[..., LoadedModel]

_WAITING_OPERATIONS = ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique", "masked_select", "bincount")
_WAITING_METHODS = ("cpu", "item", "tolist", "numpy")


class _Waits(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what makes the host wait for a GPU: operations that read values, and copies to the host."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counted: Counter[str] = Counter()

    def __torch_dispatch__(self, operation, types, inputs=(), options=None):  # type: ignore[no-untyped-def]
        name = operation.name().removeprefix("aten::").partition(".")[0]
        if name in _WAITING_OPERATIONS:
            self.counted[name] += 1
        return operation(*inputs, **(options or {}))


@contextmanager
def _counting(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Waits]:
    with monkeypatch.context() as patch, _Waits() as waits:
        for method in _WAITING_METHODS:
            own = getattr(torch.Tensor, method)

            def counted(tensor, *inputs, _own=own, _name=method, **options):  # type: ignore[no-untyped-def]
                waits.counted[_name] += 1
                return _own(tensor, *inputs, **options)

            patch.setattr(torch.Tensor, method, counted)
        yield waits


def _requests(*lengths: int) -> list[ScoreRequest]:
    generator = np.random.default_rng(0)
    return [
        ScoreRequest(generator.integers(0, 262, length).astype(np.int32), np.arange(1, length, dtype=np.int32))
        for length in lengths
    ]


@pytest.mark.parametrize("packing", [True, False])
def test_nothing_waits_for_the_device_until_all_batches_are_measured(
    tiny_model: ModelFactory, monkeypatch: pytest.MonkeyPatch, packing: bool
) -> None:
    settings = ScoreSettings(packing=packing, token_budget=48)
    backend = hf.open_backend(tiny_model(), settings)
    requests = _requests(40, 30, 21, 12, 5, 3)
    inside: list[dict[str, int]] = []
    gathered: list[int] = []
    records_of = hf.records_of

    def watched(measured: list[hf.Measured]) -> object:
        inside.append(dict(waits.counted))
        gathered.append(len(measured))
        return records_of(measured)

    monkeypatch.setattr(hf, "records_of", watched)
    with _counting(monkeypatch) as waits:
        records = backend.score(requests, Measures(entropy=True, rank=True))
    assert gathered[0] > 2
    # Padded rows wait once a batch: transformers looks whether position ids are those of packed rows.
    assert inside == [{} if packing else {"is_nonzero": gathered[0]}]
    assert waits.counted - Counter(inside[0]) == {"cpu": 3, "numpy": 3}  # nll, entropy and rank, once each
    assert [len(record.nll_N) for record in records if record is not None] == [39, 29, 20, 11, 4, 2]


def test_a_shared_prompt_is_read_without_waiting_too(tiny_model: ModelFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = hf.open_backend(tiny_model(), ScoreSettings(token_budget=256))
    prompt_T = np.arange(20, dtype=np.int32)
    requests = [
        ScoreRequest(
            np.concatenate([prompt_T, np.arange(n, 2 * n, dtype=np.int32)]), np.arange(20, 20 + n, dtype=np.int32)
        )
        for n in (5, 4, 3)
    ]
    inside: list[dict[str, int]] = []

    def watched(_: list[hf.Measured]) -> dict[int, object]:
        inside.append(dict(waits.counted))
        return {}

    monkeypatch.setattr(hf, "records_of", watched)
    with _counting(monkeypatch) as waits:
        backend.score(requests, Measures())
    assert inside == [{}]
