"""What the scoring benchmark works on: rows of GSM8K, and a model to score them."""

import argparse
import json
import re
from dataclasses import dataclass
from typing import Final

_WORD = re.compile(r"\s?\w+|\s?[^\w\s]|\s")

SIZES: Final = {
    "llama-90m": (512, 8, 8, 4, 1536, 128_256),
    "llama-135m": (576, 30, 9, 3, 1536, 49_152),
    "llama-3b": (3072, 28, 24, 8, 8192, 128_256),
    "llama-tiny": (64, 2, 4, 2, 128, 32_000),
}
"""Hidden size, layers, heads, key heads, inner size and vocabulary: of Llama-3.2-3B's shape, of SmolLM2-135M's, …"""


@dataclass(frozen=True)
class Row:
    """A prompt and its response, as text and as ids."""

    prompt: str
    response: str
    prompt_ids: list[int]
    response_ids: list[int]

    @property
    def ids(self) -> list[int]:
        """Prompt and response."""
        return [*self.prompt_ids, *self.response_ids]


def model_and_rows(options: argparse.Namespace):
    from tokensieve.config import ModelSettings
    from tokensieve.models import load_model

    texts = _texts(options)
    if options.model.startswith("llama-"):
        loaded = _random_llama(options, texts)
    else:
        loaded = load_model(ModelSettings(model=options.model, dtype=options.dtype, device=options.device))
    encode = loaded.tokenizer.encode
    rows = []
    for prompt, response in texts:
        ids = (encode(prompt, add_special_tokens=False), encode(response, add_special_tokens=False))
        rows.append(Row(prompt, response, *ids))
    return loaded, rows


def _texts(options: argparse.Namespace) -> list[tuple[str, str]]:
    texts = []
    with (options.data / "gsm8k" / "train.jsonl").open(encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            texts.append((record["question"], "\n" + record["answer"]))
            if len(texts) == options.rows:
                return texts
    return texts


def _random_llama(options: argparse.Namespace, texts: list[tuple[str, str]]):
    """A Llama type with random weights, and a word-level tokenizer whose lengths are like those of its real ones."""
    import torch
    from tokenizers import Regex, Tokenizer, pre_tokenizers
    from tokenizers.models import WordLevel
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from tokensieve.config import ModelSettings
    from tokensieve.data.manifest import ModelIdentity
    from tokensieve.models import LoadedModel

    words = sorted({word for pair in texts for text in pair for word in _WORD.findall(text)})
    stride = min(7, (SIZES[options.model][-1] - 10) // len(words))
    vocabulary = {word: 10 + stride * index for index, word in enumerate(words)} | {"<unk>": 0, "<end>": 1}
    backend = Tokenizer(WordLevel(vocab=vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(_WORD.pattern), "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<end>")
    names = (
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "num_key_value_heads",
        "intermediate_size",
        "vocab_size",
    )
    config = LlamaConfig(**dict(zip(names, SIZES[options.model], strict=True)), tie_word_embeddings=True)
    device = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    with torch.device(device):
        model = LlamaForCausalLM._from_config(config, dtype=getattr(torch, options.dtype)).eval()
    identity = ModelIdentity(name=options.model, weights_digest="random", dtype=options.dtype, attention="sdpa")
    return LoadedModel(model, tokenizer, identity, ModelSettings(model=options.model, device=device))
