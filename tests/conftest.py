"""Fixtures for everyone: tiny random models of real classes, a tokenizer, and the published benchmark rows."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest

from tokensieve.models import LoadedModel, from_memory

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}\n"
    "{% else %}{{ message['content'] }}<|end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)

_SIZES = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 3,
}

ModelFactory: TypeAlias = Callable[..., LoadedModel]


def pytest_configure() -> None:
    """Share the cores among the processes that run tests: each with all of them would wait for the others."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        import torch

        threads = max(1, (os.cpu_count() or 1) // workers)
        os.environ["OMP_NUM_THREADS"] = str(threads)  # of the processes that tests start
        torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's own cache, nor reaches for the Hub."""
    monkeypatch.setenv("TOKENSIEVE_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch as in a launcher's process: among how many threads a product is shared changes its last bits."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_tokenizer() -> object:
    """See ``make_tiny_tokenizer``."""
    return make_tiny_tokenizer()


def make_tiny_tokenizer() -> object:
    """A byte-level tokenizer with chat template and end-of-turn token: 256 bytes, five special ids, no merges."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import PreTrainedTokenizerFast

    special = ["<|begin|>", "<|user|>", "<|end|>", "<|pad|>", "<|assistant|>", "<|system|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet])}
    backend = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        additional_special_tokens=["<|user|>", "<|assistant|>", "<|system|>"],
    )
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def make_tiny_model(
    tokenizer: object, config_name: str = "LlamaConfig", *, seed: int = 0, spread: float = 6.0, **changes: object
) -> LoadedModel:
    """A random model of a class of transformers, by its config's name; see ``tiny_model``."""
    import torch
    import transformers

    config = getattr(transformers, config_name)(**{**_SIZES, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(spread)
    return from_memory(model, tokenizer, name=f"tiny-{config_name}")


@pytest.fixture(scope="session")
def tiny_model(tiny_tokenizer: object) -> ModelFactory:
    """Make a random model of a class of transformers, by its config's name, e.g. ``tiny_model("LlamaConfig")``.

    Keyword arguments change the configuration; ``seed`` chooses the weights, ``spread`` scales them so that the
    distributions are far from flat.
    """
    return partial(make_tiny_model, tiny_tokenizer)


@pytest.fixture(scope="session")
def tiny_folder(tiny_model: ModelFactory, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama and its tokenizer, saved as a folder."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    loaded = tiny_model("LlamaConfig")
    loaded.model.save_pretrained(folder)
    loaded.tokenizer.save_pretrained(folder)
    return folder


PlainScores: TypeAlias = Callable[[LoadedModel, "list[int]"], "tuple[list[float], list[float], list[int]]"]


@pytest.fixture(scope="session")
def plain_scores() -> PlainScores:
    """See ``compute_plain_scores``."""
    return compute_plain_scores


def compute_plain_scores(loaded: LoadedModel, ids: list[int]) -> tuple[list[float], list[float], list[int]]:
    """Nll, entropy and rank of tokens 1 to T-1 of one row, the plain way: one row, full logits, float64 softmax."""
    import torch

    with torch.inference_mode():
        logits_TV = loaded.model(input_ids=torch.tensor([ids])).logits[0, :-1].double()
    targets_T1 = torch.tensor(ids[1:])[:, None]
    log_p_TV = logits_TV.log_softmax(-1)
    nll = -log_p_TV.gather(1, targets_T1)[:, 0]
    entropy = -(log_p_TV.exp() * log_p_TV).sum(-1)
    rank = (logits_TV > logits_TV.gather(1, targets_T1)).sum(-1)
    return nll.tolist(), entropy.tolist(), rank.tolist()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the benchmarks as published: ``TOKENSIEVE_DATA``, else ``shared/data`` beside the repository."""
    named = os.environ.get("TOKENSIEVE_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no benchmark data at {folder}; TOKENSIEVE_DATA names another place")
    return folder
