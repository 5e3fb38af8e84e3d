"""What we assume of vLLM's documented offline API, on a stand-in that follows it; vLLM itself does not run here."""

import importlib.machinery
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tokensieve.config import ModelSettings, SampleSettings
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.sampling import Request, VllmSampler


@dataclass
class SamplingParams:
    """The fields that are used, by vLLM's own names."""

    temperature: float
    top_p: float
    max_tokens: int
    seed: int
    logprobs: int
    detokenize: bool
    n: int = 1


@dataclass
class Completion:
    token_ids: list[int]
    finish_reason: str
    cumulative_logprob: float | None
    index: int = 0
    text: str = ""
    stop_reason: int | str | None = None


@dataclass
class Output:
    outputs: list[Completion]
    prompt_token_ids: list[int] = field(default_factory=list)


class Engine:
    """Says the prompt's last token again and again; even prompts stop by themselves."""

    last: "Engine"

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        self.calls: list[tuple[list[dict[str, list[int]]], list[SamplingParams]]] = []
        Engine.last = self

    def generate(
        self, prompts: list[dict[str, list[int]]], params: list[SamplingParams], use_tqdm: bool
    ) -> list[Output]:
        self.calls.append((prompts, params))
        return [Output([self._one(prompt["prompt_token_ids"])]) for prompt in prompts]

    def _one(self, prompt: list[int]) -> Completion:
        if prompt[-1] % 2 == 0:
            return Completion([prompt[-1], 2], "stop", -0.5)
        return Completion([prompt[-1]] * 4, "length", -2.0)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[Engine]:
    module = ModuleType("vllm")
    module.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    module.LLM, module.SamplingParams = Engine, SamplingParams  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    return Engine


def test_samples_are_what_the_engine_says(engine: type[Engine], tiny_folder: Path) -> None:
    import numpy as np

    sampler = VllmSampler(ModelSettings(model=str(tiny_folder)))
    prompts = {"even": np.array([9, 40], np.int32), "odd": np.array([9, 41], np.int32)}
    asked = [Request(name, (), 4, n=2, first=1, task="t", prompt_T=prompt) for name, prompt in prompts.items()]
    found = list(sampler.draw(asked, SampleSettings(temperature=0.7, top_p=0.9, seed=5)))
    assert [(s.problem_id, s.index, s.ids, s.finished, s.nll) for s in found] == [
        ("even", 1, (40, 2), True, 0.25),
        ("even", 2, (40, 2), True, 0.25),
        ("odd", 1, (41,) * 4, False, 0.5),
        ("odd", 2, (41,) * 4, False, 0.5),
    ]
    assert not any(sample.retokenised for sample in found)
    _, params = engine.last.calls[0]
    assert len({p.seed for p in params}) == 4, "every answer has its own seed"
    assert {(p.temperature, p.top_p, p.max_tokens) for p in params} == {(0.7, 0.9, 4)}
    assert sampler.identity.backend == "vllm"


def test_without_vllm_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tokensieve.sampling.vllm.find_spec", lambda name: None)
    with pytest.raises(EnvironmentProblem, match=r"pip install .tokensieve\[vllm\]"):
        VllmSampler(ModelSettings(model="m"))


def test_adapters_are_refused_rather_than_ignored(engine: type[Engine]) -> None:
    with pytest.raises(InputError, match="takes no adapter"):
        VllmSampler(ModelSettings(model="m", adapter="a"))
