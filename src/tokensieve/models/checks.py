"""Checks that what was loaded belongs together and does what it should."""

from typing import TYPE_CHECKING, Final

from tokensieve.errors import InputError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_LARGEST_RATIO: Final = 1.25
_SPARE_ROWS: Final = 1024
"""Models pad their embedding to round numbers; beyond a quarter and this many rows the tokenizer is another's."""

_PROBE_LENGTH: Final = 16


def check_tokenizer_fits(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", *, where: str) -> None:
    """Check that every id of the tokenizer has an embedding, and that the sizes suggest they were made together.

    Raises:
        InputError: the vocabulary is too large for the model or far too small, or a special id is out of range.
    """
    rows = int(model.get_input_embeddings().weight.shape[0])
    size = len(tokenizer)
    fix = "leave --tokenizer out to take the model's own, or resize the model's embedding to the tokenizer"
    if size > rows:
        raise InputError(
            f"the tokenizer has {size:,} ids, the model embeddings for {rows:,}: they do not belong together",
            where=where,
            fix=fix,
        )
    if rows > _LARGEST_RATIO * size + _SPARE_ROWS:
        raise InputError(
            f"the model has embeddings for {rows:,} ids, the tokenizer only {size:,}: they do not belong together",
            where=where,
            fix=fix,
        )
    special = {
        "tokenizer's end of sequence": tokenizer.eos_token_id,
        "tokenizer's padding": tokenizer.pad_token_id,
        "tokenizer's begin of sequence": tokenizer.bos_token_id,
        "model's end of sequence": getattr(model.config, "eos_token_id", None),
    }
    for name, value in special.items():
        for token_id in value if isinstance(value, list | tuple) else [value]:
            if token_id is not None and not 0 <= token_id < rows:
                raise InputError(f"the {name} id {token_id} is outside the model's {rows:,} ids", where=where, fix=fix)


def probe_ids(model: "PreTrainedModel", length: int = _PROBE_LENGTH) -> "torch.Tensor":
    """Token ids of shape ``[1, length]`` that any model takes: spread evenly over its vocabulary."""
    import torch

    rows = int(model.get_input_embeddings().weight.shape[0])
    return (torch.arange(length, device=model.device) * max(1, rows // (length + 1)) + 1).remainder(rows)[None]


def check_adapter_acts(model: "PeftModel", *, where: str) -> None:
    """Check that the adapter changes the logits of a probe; some backends ignore an adapter without a word.

    Raises:
        InputError: the logits are the same with and without it.
    """
    import torch

    ids = probe_ids(model.get_base_model())
    with torch.inference_mode():
        with_adapter = model(input_ids=ids, use_cache=False).logits
        with model.disable_adapter():
            without = model(input_ids=ids, use_cache=False).logits
    if torch.equal(with_adapter, without):
        raise InputError(
            "the adapter does not change the model's output: it was never trained, or names none of its layers",
            where=where,
            fix="check that --adapter belongs to --model, or leave it out",
        )
