"""Steps of fixed shapes, captured once for each window of columns, and steps that check guesses: the same answers."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tokensieve.config import SampleSettings
from tokensieve.models import LoadedModel
from tokensieve.sampling import LocalSampler, Request, decode, steps
from tokensieve.sampling.decode import Decoder
from tokensieve.sampling.draw import Job
from tokensieve.sampling.steps import Guesser, worth

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
    monkeypatch.setattr(steps, "_WINDOW", 16)
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
    run = steps.StaticStep._run

    current: list[object] = [None]

    @contextmanager
    def device(chosen: object) -> Iterator[None]:
        current.append(chosen)
        yield
        current.pop()

    @contextmanager
    def graph(made: _Graph, pool: object, capture_error_mode: str) -> Iterator[None]:
        assert capture_error_mode == "thread_local"
        assert current[-1] == torch.device("cpu"), "captured on another device than the model's"
        if refuses:
            raise RuntimeError("operation not permitted when stream is capturing")
        assert pool == (None if made is _Graph.made[0] else "pool")
        yield

    def remembered(step: steps.StaticStep, window: int) -> torch.Tensor:
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
        "device": device,
        "graph": graph,
    }
    for name, function in names.items():
        monkeypatch.setattr(torch.cuda, name, function)
    monkeypatch.setattr(steps.StaticStep, "_run", remembered)
    own = steps.StaticStep.__init__
    monkeypatch.setattr(steps.StaticStep, "__init__", lambda step, *inputs, **_: own(step, *inputs, capture=True))


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


@pytest.mark.parametrize(
    ("prompt", "answer", "room", "expected"),
    [
        ([1, 2, 3, 4, 5, 6], [9, 2, 3], 9, [4, 5]),
        ([1, 2, 3, 4, 5, 6], [9, 2, 3], 1, [4]),
        ([1, 2, 3, 4, 5, 6], [9, 2, 3], 0, []),
        ([2, 3, 7, 2, 3, 8], [2, 3], 9, [8, 2]),
        ([7, 2, 3, 4, 5, 1, 3, 4, 6], [9, 2, 3, 4], 9, [5, 1]),
        ([1, 2], [3, 4], 9, []),
        ([], [5], 9, []),
        ([], [4, 4, 4], 9, [4]),
    ],
)
def test_what_followed_the_last_tokens_before_is_guessed(
    prompt: list[int], answer: list[int], room: int, expected: list[int]
) -> None:
    assert Guesser(np.array(prompt, np.int32)).guess(answer, room) == expected


def test_the_reach_grows_with_what_came_true() -> None:
    guesser = Guesser(np.zeros(0, np.int32))
    reaches = []
    for made, right in ((2, 2), (4, 4), (8, 8), (16, 16), (16, 3), (3, 0), (0, 0), (1, 1)):
        guesser.learn(made, right)
        reaches.append(guesser.reach)
    assert reaches == [4, 8, 16, 16, 3, 1, 1, 2]


@pytest.mark.parametrize(
    ("lengths", "expected"), [([], 0), ([0], 0), ([5], 5), ([5, 0], 5), ([5, 0, 0], 0), ([1, 1, 0, 8], 2)]
)
def test_at_most_half_of_a_pass_is_padding(lengths: list[int], expected: int) -> None:
    assert worth([[0] * length for length in lengths]) == expected


@pytest.mark.parametrize("temperature", [0.0, 0.3])
@pytest.mark.parametrize("few", [2, 100])
def test_answers_are_those_of_single_steps(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[..., LoadedModel], temperature: float, few: int
) -> None:
    loaded = tiny_model("LlamaConfig")
    rng = np.random.default_rng(3)
    prompts = [np.tile(rng.integers(6, 260, 5), 3).astype(np.int32)[: int(rng.integers(4, 15))] for _ in range(4)]
    asked = [Request(f"p/{i}", (), 12 + 11 * i, prompt_T=prompt, n=2) for i, prompt in enumerate(prompts)]
    settings = SampleSettings(temperature=temperature, batch_size=8)
    passes = {}
    for limit in (0, few):
        monkeypatch.setattr(decode, "_FEW", limit)
        counted: list[int] = []
        handle = loaded.model.register_forward_pre_hook(lambda *_, counted=counted: counted.append(1))
        drawn = {(s.problem_id, s.index): (s.ids, s.finished) for s in LocalSampler(loaded).draw(asked, settings)}
        handle.remove()
        passes[limit] = (len(counted), drawn)
    assert passes[few][1] == passes[0][1]
    if temperature == 0 and few > 1:
        assert passes[few][0] < passes[0][0], "greedy answers of a random model go round in circles"
