"""A model that is held in memory already: trained just now, or built in a test."""

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tokensieve.config import ModelSettings, TemplateArgument
from tokensieve.data.hashing import template_digest, tokenizer_digest
from tokensieve.data.manifest import ModelIdentity
from tokensieve.models.checks import check_tokenizer_fits
from tokensieve.models.load import LoadedModel, dtype_name

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def from_memory(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    *,
    name: str = "in-memory",
    template_kwargs: Mapping[str, TemplateArgument] | None = None,
) -> LoadedModel:
    """Take a model as it is, with a digest of the weights it holds now.

    Args:
        model: a causal language model, with or without a PEFT adapter; put into evaluation mode.
        tokenizer: its tokenizer.
        name: how manifests call it.
        template_kwargs: the chat template's arguments.

    Returns:
        The model with its identity. Train it further and the identity is no longer true: call this again.

    Raises:
        InputError: the tokenizer holds ids that the model has no embedding for.
    """
    model.eval()
    check_tokenizer_fits(model, tokenizer, where=name)
    settings = ModelSettings(model=name, device=str(model.device), template_kwargs=dict(template_kwargs or {}))
    identity = ModelIdentity(
        name=name,
        weights_digest=_digest_of_state(model),
        tokenizer_digest=tokenizer_digest(tokenizer),
        template_digest=template_digest(tokenizer, settings.template_kwargs),
        template_kwargs=dict(settings.template_kwargs),
        dtype=dtype_name(model),
        attention=str(model.config._attn_implementation),
    )
    return LoadedModel(model, tokenizer, identity, settings)


def _digest_of_state(model: "PreTrainedModel") -> str:
    """SHA-256 over names, shapes and bytes of all weights and the configuration, 64 hex digits."""
    import torch

    digest = hashlib.sha256(model.config.to_json_string(use_diff=False).encode())
    for key, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().to("cpu").contiguous().reshape(-1)
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()
