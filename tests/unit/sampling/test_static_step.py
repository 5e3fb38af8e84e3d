"""Steps of fixed shapes draw the answers of growing ones, and are captured once for each window of columns."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tokensieve.config import SampleSettings
from tokensieve.models import LoadedModel
from tokensieve.sampling import decode, static_step
from tokensieve.sampling.decode import Decoder, Job

ModelFactory = Callable[..., LoadedModel]
STOPS = frozenset({2})


def _jobs(count: int, limit: int) -> list[Job]:
    generator = np.random.default_rng(3)
    prompts = [generator.integers(6, 260, int(generator.integers(3, 30))).astype(np.int32) for _ in range(count)]
    return [
        Job(f"p{i}", n, prompt, int(generator.integers(4, limit))) for i, prompt in enumerate(prompts) for n in (0, 1)
    ]


def _drawn(
    loaded: LoadedModel, jobs: list[Job], rule: dict[str, float], slots: int, *, static: bool
) -> dict[tuple[str, int], tuple[int, ...]]:
    decoder = Decoder(loaded.model, STOPS, SampleSettings(**rule), pad_id=2, static=static)
    return {(one.job.key, one.job.index): one.ids for one in decoder.draw(jobs, slots)}


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static_step, "_WINDOW", 16)
    monkeypatch.setattr(decode, "_SPARE_COLUMNS", 4)


@pytest.mark.parametrize("rule", [{"temperature": 0.0}, {"temperature": 0.7, "top_p": 0.8}])
@pytest.mark.parametrize("slots", [1, 5, 64])
def test_the_same_answers_whether_the_cache_grows_or_stays(
    tiny_model: ModelFactory, rule: dict[str, float], slots: int
) -> None:
    """Slots that are refilled, moved to the front of their storage, and given up at the end."""
    loaded, jobs = tiny_model(num_key_value_heads=1), _jobs(9, 40)
    grown = _drawn(loaded, jobs, rule, slots, static=False)
    assert _drawn(loaded, jobs, rule, slots, static=True) == grown
    assert len(grown) == 18
    assert len({len(ids) for ids in grown.values()}) > 3


def test_models_with_windows_keep_the_growing_cache(tiny_model: ModelFactory) -> None:
    loaded = tiny_model("MistralConfig", sliding_window=9)
    decoder = Decoder(loaded.model, STOPS, SampleSettings(), pad_id=2, static=True)
    assert len(list(decoder.draw(_jobs(3, 20), 4))) == 6
    assert decoder._static_step is None


class _Graph:
    """A graph that computes its step again: what a replay is documented to do."""

    made: "list[_Graph]" = []  # noqa: RUF012 - emptied by each test

    def __init__(self) -> None:
        self.made.append(self)
        self.replays = 0
        self.again: Callable[[], None] = lambda: None

    def pool(self) -> str:
        return "pool"

    def replay(self) -> None:
        self.replays += 1
        self.again()


def _again(logits_BV: torch.Tensor, values_BV: torch.Tensor) -> None:
    logits_BV.copy_(values_BV)


def _stand_in(monkeypatch: pytest.MonkeyPatch, *, refuses: bool = False) -> None:
    _Graph.made.clear()
    run = static_step.StaticStep._run

    @contextmanager
    def graph(made: _Graph, pool: object, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        if refuses:
            raise RuntimeError("operation not permitted when stream is capturing")
        assert pool == (None if made is _Graph.made[0] else "pool")
        yield

    def remembered(step: static_step.StaticStep, window: int) -> torch.Tensor:
        logits_BV = run(step, window)
        if _Graph.made:
            _Graph.made[-1].again = lambda: _again(logits_BV, run(step, window))
        return logits_BV

    stream = SimpleNamespace(wait_stream=lambda _: None)
    names = {
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda _: nullcontext(),
        "CUDAGraph": _Graph,
        "graph": graph,
    }
    for name, function in names.items():
        monkeypatch.setattr(torch.cuda, name, function)
    monkeypatch.setattr(static_step.StaticStep, "_run", remembered)
    own = static_step.StaticStep.__init__
    monkeypatch.setattr(static_step.StaticStep, "__init__", lambda step, *inputs, **_: own(step, *inputs, capture=True))


def test_a_step_is_captured_once_for_a_window_and_replayed(
    tiny_model: ModelFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = tiny_model()
    prompt_T = np.arange(6, 20, dtype=np.int32)
    jobs = [Job("p", n, prompt_T, 60) for n in range(3)]
    rule = {"temperature": 1.0}
    grown = _drawn(loaded, jobs, rule, 3, static=False)
    _stand_in(monkeypatch)
    assert _drawn(loaded, jobs, rule, 3, static=True) == grown
    assert sum(graph.replays for graph in _Graph.made) == max(map(len, grown.values())) - 1
    assert 2 <= len(_Graph.made) < sum(graph.replays for graph in _Graph.made) / 2


def test_a_model_that_cannot_be_captured_runs_step_by_step(
    tiny_model: ModelFactory, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loaded, jobs = tiny_model(), _jobs(4, 30)
    grown = _drawn(loaded, jobs, {"temperature": 1.0}, 8, static=False)
    _stand_in(monkeypatch, refuses=True)
    with caplog.at_level(logging.WARNING):
        assert _drawn(loaded, jobs, {"temperature": 1.0}, 8, static=True) == grown
    assert "decoding steps run without CUDA graphs: operation not permitted" in caplog.records[0].message
