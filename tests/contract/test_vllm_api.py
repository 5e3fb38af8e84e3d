"""Our use of vLLM's offline API, held to the names that vLLM 0.11 documents; and those names, to an installed vLLM.

Our code runs against classes that are made from the recorded names and refuse every other one: an option that vLLM does
not know, or a field that its outputs lack, fails here. vLLM itself is run by ``test_real_vllm.py``.
"""

import importlib.machinery
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import make_dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tests.toy_tasks import toy_task

from tokensieve.config import AnswererSettings, GenerateSettings, ModelSettings, SampleSettings, ScoreSettings
from tokensieve.data.dataset import in_memory
from tokensieve.data.manifest import Manifest
from tokensieve.errors import EnvironmentProblem
from tokensieve.generation import generate
from tokensieve.models import LoadedModel
from tokensieve.sampling import Request, VllmSampler
from tokensieve.scoring import compare_backends, open_vllm, score, score_with
from tokensieve.scoring.vllm import open_offline
from tokensieve.types import Tokens, bools, ints

Plain = Callable[[LoadedModel, list[int]], tuple[list[float], list[float], list[int]]]

DOCUMENTED: Mapping[str, tuple[str, ...]] = {
    "LLM": (
        "model", "tokenizer", "tokenizer_mode", "skip_tokenizer_init", "trust_remote_code", "tensor_parallel_size",
        "dtype", "quantization", "revision", "tokenizer_revision", "seed", "gpu_memory_utilization", "swap_space",
        "cpu_offload_gb", "enforce_eager", "hf_token", "hf_overrides", "mm_processor_kwargs",
    ),
    "EngineArgs": ("enable_prefix_caching", "max_model_len", "max_num_seqs"),
    "LLM.generate": ("prompts", "sampling_params", "use_tqdm", "lora_request", "priority"),
    "SamplingParams": (
        "n", "presence_penalty", "frequency_penalty", "repetition_penalty", "temperature", "top_p", "top_k", "min_p",
        "seed", "stop", "stop_token_ids", "ignore_eos", "max_tokens", "min_tokens", "logprobs", "prompt_logprobs",
        "detokenize", "skip_special_tokens", "spaces_between_special_tokens", "include_stop_str_in_output",
    ),
    "TokensPrompt": ("prompt_token_ids", "prompt", "multi_modal_data", "cache_salt"),
    "RequestOutput": ("request_id", "prompt", "prompt_token_ids", "prompt_logprobs", "outputs", "finished"),
    "CompletionOutput": (
        "index", "text", "token_ids", "cumulative_logprob", "logprobs", "finish_reason", "stop_reason",
    ),
    "Logprob": ("logprob", "rank", "decoded_token"),
}  # fmt: skip
"""Options and fields, by class, as vLLM 0.11 documents them: those that we use among others that we do not."""

USED: Mapping[str, tuple[str, ...]] = {
    "LLM": ("model", "tokenizer", "trust_remote_code", "dtype", "seed", "gpu_memory_utilization"),
    "EngineArgs": ("enable_prefix_caching",),
    "LLM.generate": ("prompts", "sampling_params", "use_tqdm"),
    "SamplingParams": (
        "temperature", "top_p", "seed", "stop_token_ids", "max_tokens", "logprobs", "prompt_logprobs", "detokenize",
    ),
    "TokensPrompt": ("prompt_token_ids",),
    "RequestOutput": ("prompt_logprobs", "outputs"),
    "CompletionOutput": ("token_ids", "cumulative_logprob", "finish_reason"),
    "Logprob": ("logprob", "rank"),
}  # fmt: skip
"""Those that we use: what an installed vLLM, of whatever release, has to know."""


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
@pytest.mark.parametrize("name", USED)
def test_the_installed_vllm_knows_the_names(name: str) -> None:
    import vllm
    from vllm.engine.arg_utils import EngineArgs
    from vllm.logprobs import Logprob
    from vllm.outputs import CompletionOutput, RequestOutput

    classes = {"EngineArgs": EngineArgs, "Logprob": Logprob} | {
        "CompletionOutput": CompletionOutput,
        "RequestOutput": RequestOutput,
        "LLM.generate": vllm.LLM.generate,
    }
    found = classes.get(name) or getattr(vllm, name)
    known = {*getattr(found, "__annotations__", ())}
    if not (inspect.isclass(found) and issubclass(found, dict)):  # a TypedDict has no signature
        known |= {*inspect.signature(found).parameters}
    assert set(USED[name]) <= known


def test_what_we_use_is_documented() -> None:
    assert all(set(names) <= set(DOCUMENTED[name]) for name, names in USED.items())


def _strict(name: str) -> type[Any]:
    """A class with the documented fields; any other option is a TypeError, any other attribute an AttributeError."""
    return make_dataclass(name, [(field, object, None) for field in DOCUMENTED[name]], slots=True)


PARAMS, OUTPUT, COMPLETION, LOGPROB = map(_strict, ("SamplingParams", "RequestOutput", "CompletionOutput", "Logprob"))


class Engine:
    """Answers like ``vllm.LLM`` and takes its documented options only.

    Completions say the prompt's last token again; after an even one they stop. Prompts are scored by ``plain``.
    """

    made: list["Engine"]
    ended: list[str]
    plain: Callable[[list[int]], tuple[list[float], list[int]]]
    llm_engine = SimpleNamespace(
        model_config=SimpleNamespace(max_model_len=64, dtype=torch.float32),
        engine_core=SimpleNamespace(shutdown=lambda: Engine.ended.append("engine")),
    )

    def __init__(self, model: str, **options: object) -> None:
        unknown = options.keys() - {*DOCUMENTED["LLM"], *DOCUMENTED["EngineArgs"]}
        if unknown:
            raise TypeError(f"vLLM has no option {unknown}")
        self.params: list[Any] = []
        self.made.append(self)

    def generate(self, prompts: Sequence[Any], sampling_params: Any = None, *, use_tqdm: bool = True) -> list[Any]:
        if not isinstance(sampling_params, list):
            sampling_params = [sampling_params] * len(prompts)
        self.params += sampling_params
        return [self._output(prompt, params) for prompt, params in zip(prompts, sampling_params, strict=True)]

    def _output(self, prompt: Mapping[str, list[int]], params: Any) -> Any:
        assert set(prompt) <= set(DOCUMENTED["TokensPrompt"])
        ids = prompt["prompt_token_ids"]
        stops = ids[-1] % 2 == 0
        completion = COMPLETION(
            index=0,
            text="" if params.detokenize is False else "said",
            token_ids=[ids[-1], 2] if stops else [ids[-1]] * params.max_tokens,
            cumulative_logprob=-0.5 if params.logprobs is not None else None,
            finish_reason="stop" if stops else "length",
        )
        told: list[Any] = []
        if params.prompt_logprobs is not None:
            nll, rank = self.plain(ids)
            told = [None, *({i: LOGPROB(-n, r + 1)} for i, n, r in zip(ids[1:], nll, rank, strict=True))]
        return OUTPUT(prompt_token_ids=ids, prompt_logprobs=told or None, outputs=[completion], finished=True)


@pytest.fixture
def engines(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[..., LoadedModel], plain_scores: Plain
) -> type[Engine]:
    """The strict stand-in as the module ``vllm``."""
    loaded = tiny_model()

    def plain(ids: list[int]) -> tuple[list[float], list[int]]:
        nll, _, rank = plain_scores(loaded, ids)
        return nll, rank

    module = ModuleType("vllm")
    module.__spec__ = importlib.machinery.ModuleSpec("vllm", None)
    module.__dict__.update(LLM=Engine, SamplingParams=PARAMS, TokensPrompt=dict)
    monkeypatch.setitem(sys.modules, "vllm", module)
    monkeypatch.setattr(Engine, "made", [], raising=False)
    monkeypatch.setattr(Engine, "ended", [], raising=False)
    monkeypatch.setattr(Engine, "plain", staticmethod(plain), raising=False)
    return Engine


def test_prompts_are_scored_with_documented_options_and_fields(
    engines: type[Engine], tiny_model: Callable[..., LoadedModel], tiny_folder: Path
) -> None:
    """Equal to the scores of the transformers backend: shift, sign and ranks from 1 are read right."""
    rows = in_memory(
        [
            Tokens("a", ints([5, 6, 7, 200, 9]), bools([False, False, True, True, True]), bools([False] * 5)),
            Tokens("b", ints([8, 9, 3]), bools([False, True, True]), bools([False] * 3)),
        ],
        Manifest(stage="tokens"),
    )
    backend = open_offline(ModelSettings(model=str(tiny_folder)))
    assert (backend.identity.backend, backend.max_length) == ("vllm", 63)
    settings = ScoreSettings(entropy=False)
    for one, other in zip(score_with(rows, backend, settings), score(rows, tiny_model(), settings), strict=True):
        np.testing.assert_allclose(one.nll_T(), other.nll_T(), atol=1e-5)
        np.testing.assert_array_equal(one.scores["base"].rank_T, other.scores["base"].rank_T)
    (engine,) = engines.made
    assert {(p.prompt_logprobs, p.max_tokens, p.temperature, p.detokenize) for p in engine.params} == {
        (0, 1, 0.0, False)
    }


def test_answers_are_drawn_with_documented_options_and_fields(engines: type[Engine], tiny_folder: Path) -> None:
    sampler = VllmSampler(ModelSettings(model=str(tiny_folder)))
    prompts = {"even": np.array([9, 40], np.int32), "odd": np.array([9, 41], np.int32)}
    asked = [Request(name, (), 4, n=2, first=1, task="t", prompt_T=prompt) for name, prompt in prompts.items()]
    found = list(sampler.draw(asked, SampleSettings(temperature=0.7, top_p=0.9, seed=5)))
    assert [(s.problem_id, s.index, s.ids, s.finished, s.nll) for s in found] == [
        ("even", 1, (40, 2), True, 0.25),
        ("even", 2, (40, 2), True, 0.25),
        ("odd", 1, (41,) * 4, False, 0.125),
        ("odd", 2, (41,) * 4, False, 0.125),
    ]
    assert not any(sample.retokenised for sample in found)
    (engine,) = engines.made
    assert len({p.seed for p in engine.params}) == 4, "every answer has its own seed"
    assert {(p.temperature, p.top_p, p.max_tokens) for p in engine.params} == {(0.7, 0.9, 4)}
    assert (sampler.identity.backend, sampler.identity.dtype) == ("vllm", "float32")


def test_whoever_starts_an_engine_ends_it(engines: type[Engine], tiny_folder: Path, tmp_path: Path) -> None:
    """What comes next in this process may need the card's memory."""
    row = Tokens("a", ints([5, 6, 7]), bools([False, True, True]), bools([False] * 3))
    rows, model = in_memory([row], Manifest(stage="tokens")), ModelSettings(model=str(tiny_folder))
    settings = ScoreSettings(entropy=False, use_store=False)
    score(rows, model, settings, launch={"backend": "vllm"})
    assert engines.ended == ["engine"]
    compare_backends(rows, model, partial(open_vllm, model), settings)
    assert engines.ended == ["engine"] * 2
    answers = GenerateSettings(answerer=AnswererSettings(backend="vllm"), sampling=SampleSettings(max_new_tokens=2))
    generate(toy_task("toy"), model, answers, tmp_path / "own", limit=2)
    assert engines.ended == ["engine"] * 3
    assert len(engines.made) == 3


def test_a_name_that_vllm_does_not_document_fails() -> None:
    """The stand-in itself can fail."""
    with pytest.raises(TypeError):
        PARAMS(prompt_logprob=0)
    with pytest.raises(AttributeError):
        _ = COMPLETION().ids
    with pytest.raises(TypeError, match="enable_prefix_cache"):
        Engine("m", enable_prefix_cache=True)


def test_without_vllm_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(EnvironmentProblem, match=r"answerer.backend: .*\n.*pip install .tokensieve\[vllm\]"):
        VllmSampler(ModelSettings(model=str(tiny_folder)))
