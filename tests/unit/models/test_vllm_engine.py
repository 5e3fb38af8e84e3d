"""vLLM's engine: what it is started with, and what is refused before it starts."""

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch

from tokensieve.config import ModelSettings
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.models import fingerprint
from tokensieve.models.vllm_engine import share_of_card, start_vllm


class Llm:
    """Keeps what it was started with, and whether it was ended."""

    given: tuple[str, dict[str, object]]
    ended: list[str]

    def __init__(self, model: str, **options: object) -> None:
        Llm.given, Llm.ended = (model, options), []
        core = SimpleNamespace(shutdown=lambda: Llm.ended.append(model))
        config = SimpleNamespace(max_model_len=64, dtype=torch.bfloat16)
        self.llm_engine = SimpleNamespace(model_config=config, engine_core=core)
        if options["dtype"] == "float16":
            raise RuntimeError("Engine core initialization failed. See root cause above.\nmore")


@pytest.fixture(autouse=True)
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("vllm")
    module.__dict__["LLM"] = Llm
    monkeypatch.setitem(sys.modules, "vllm", module)


@pytest.mark.parametrize("name", ["pocket", "folder"])
def test_the_engine_reads_the_folder_of_the_model(tiny_folder: Path, name: str) -> None:
    settings = ModelSettings(model=name if name == "pocket" else str(tiny_folder))
    engine = start_vllm(settings, "--backend vllm")
    folder, options = Llm.given
    assert (Path(folder) / "config.json").is_file()
    assert (Path(folder).name == "pocket") == (name == "pocket")
    assert (options["tokenizer"], options["trust_remote_code"], options["dtype"]) == (None, False, "auto")
    assert engine.context_length == 64
    assert (engine.identity.backend, engine.identity.dtype) == ("vllm", "bfloat16"), "what vLLM chose"
    assert engine.identity.weights_digest == fingerprint(settings)


def test_a_closed_engine_has_ended(tiny_folder: Path) -> None:
    engine = start_vllm(ModelSettings(model=str(tiny_folder)), "--backend vllm")
    assert Llm.ended == []
    engine.close()
    assert Llm.ended == [str(tiny_folder)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adapter": "somewhere"}, "--adapter: adapters are read by the transformers backend only"),
        ({"quantisation": "nf4"}, "--quantisation: weights are quantised by the transformers backend only"),
        ({"device": "cuda:1"}, r"--device: vLLM does not take 'cuda:1'\n.*CUDA_VISIBLE_DEVICES"),
        ({"attention": "eager"}, "--attention: vLLM does not take 'eager'"),
        ({"tp_plan": "auto"}, "--tp-plan: vLLM does not take 'auto'"),
        ({"model": "nowhere/at/all"}, "nowhere/at/all: no such folder"),
    ],
)
def test_what_vllm_would_leave_out_is_refused(tiny_folder: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        start_vllm(ModelSettings.model_validate({"model": str(tiny_folder), **change}), "--backend vllm")


def test_an_engine_that_does_not_start_is_the_environments_fault(tiny_folder: Path) -> None:
    failed = r"vLLM does not start: Engine core initialization failed[^\n]*\n.*fix"
    with pytest.raises(EnvironmentProblem, match=failed):
        start_vllm(ModelSettings(model=str(tiny_folder), dtype="float16"), "--backend vllm")


def test_without_vllm_its_install_line_is_given(monkeypatch: pytest.MonkeyPatch, tiny_folder: Path) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(EnvironmentProblem, match=r"--backend vllm: .*\n.*tokensieve\[vllm\]"):
        start_vllm(ModelSettings(model=str(tiny_folder)), "--backend vllm")


@pytest.mark.parametrize(("free", "whole", "share"), [(80, 80, 0.9), (76, 80, 0.9), (64, 80, 0.76), (8, 80, 0.095)])
def test_vllm_takes_what_is_free_beside_a_model_of_ours(free: int, whole: int, share: float) -> None:
    assert share_of_card(free * 2**30, whole * 2**30) == share
