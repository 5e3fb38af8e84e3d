"""A loaded model with its settings, and the digests that tell one model or adapter from another."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np

from tokensieve.config import ModelSettings
from tokensieve.data.chat import ChatTemplate, prepare
from tokensieve.data.hashing import file_digest
from tokensieve.data.manifest import ModelIdentity, digest_of
from tokensieve.errors import InputError, first_line
from tokensieve.models.fetch import Source
from tokensieve.types import IntArray

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_NO_PART_OF_THE_MODEL: Final = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")
"""Keys of a model's configuration that may differ between two copies of the same model."""

_NO_PART_OF_THE_ADAPTER: Final = ("base_model_name_or_path", "inference_mode", "peft_version", "revision")

_LARGEST_RATIO: Final = 1.25
_SPARE_ROWS: Final = 1024
"""Models pad their embedding to round numbers; beyond a quarter and this many rows the tokenizer is another's."""

_SURPLUS_IDS: Final = 16
"""Ids that a tokenizer may have beyond the embedding, as some released models do; rows that use one are refused."""


ModelLike: TypeAlias = (
    "LoadedModel | ModelSettings | PreTrainedModel | tuple[PreTrainedModel, PreTrainedTokenizerBase] | str | Path"
)
"""Every form in which a model is given in Python: ours; settings; transformers', alone or with its tokenizer; a Hub
name, a folder or a GGUF file."""


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model ready to run, its tokenizer, and which ones they are.

    Attributes:
        model: in evaluation mode, on its device; a ``PeftModel`` where there is an adapter.
        tokenizer: the tokenizer that belongs to it.
        identity: digests, dtype and attention; ``head_dtype`` is filled in by scoring.
        settings: what it was loaded from.
    """

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    identity: ModelIdentity
    settings: ModelSettings

    @property
    def chat(self) -> ChatTemplate:
        """The tokenizer's chat template with the settings' arguments, for rows that the embedding has room for.

        Raises:
            InputError: there is no usable chat template.
        """
        rows = int(self.model.get_input_embeddings().weight.shape[0])
        return prepare(self.tokenizer, self.settings.template_kwargs, vocabulary=rows)

    @property
    def begin_id(self) -> int:
        """The id that a text without a prompt is put behind: begin of text, else end of text, else an end of turn.

        Raises:
            InputError: the tokenizer has neither of the first two, and no usable chat template.
        """
        known = (self.tokenizer.bos_token_id, self.tokenizer.eos_token_id)
        found = next((int(token) for token in known if token is not None), None)
        return self.chat.begin_id if found is None else found

    def text_ids(self, text: str) -> IntArray:
        """Token ids [T] of a text by itself: no template, no special token at either end."""
        ids = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return np.asarray(ids, dtype=np.int32)

    @property
    def stop_ids(self) -> frozenset[int]:
        """Token ids that end an answer: the chat template's end-of-turn tokens, and every end of sequence.

        The template's (``ChatTemplate.stop_ids``) are those that training teaches and selection protects. A model may
        end otherwise too, as its generation settings, its configuration or its tokenizer say.
        """
        found = set(self.chat.stop_ids)
        for source in (self.model.generation_config, self.model.config.get_text_config(), self.tokenizer):
            value = getattr(source, "eos_token_id", None)
            found.update([value] if isinstance(value, int) else value or ())
        return frozenset(found)

    @property
    def device(self) -> "torch.device":
        """Device of the model's inputs."""
        return self.model.device  # type: ignore[no-any-return]


def settings_of(model: "LoadedModel | ModelSettings | str | Path") -> ModelSettings:
    """Settings as they are, those of a loaded model, or those of a model by its name alone.

    Raises:
        InputError: something else was given.
    """
    if isinstance(model, ModelSettings):
        return model
    if isinstance(model, LoadedModel):
        return model.settings
    if isinstance(model, str | Path):
        return ModelSettings(model=str(model))
    raise InputError(
        f"expected a model's name, folder or settings, got {type(model).__name__}",
        fix="pass load_model(…), or the model of transformers with its tokenizer: (model, tokenizer)",
    )


def weights_digest_of(source: Source) -> str:
    """Digest of a model's files, 64 hex digits: of the GGUF file itself, else of safetensors files and configuration.

    Raises:
        InputError: the configuration is no JSON.
    """
    if source.gguf is not None:
        return file_digest(source.gguf)
    return _digest_of_files(source.folder, "config.json", _NO_PART_OF_THE_MODEL)


def adapter_digest_of(source: Source) -> str:
    """Digest of an adapter's safetensors files and configuration, 64 hex digits.

    Raises:
        InputError: the configuration is no JSON.
    """
    return _digest_of_files(source.folder, "adapter_config.json", _NO_PART_OF_THE_ADAPTER)


def _digest_of_files(folder: Path, config_name: str, no_part: tuple[str, ...]) -> str:
    """SHA-256 over the weights files' contents and the configuration; neither names nor places matter."""
    try:
        config = json.loads((folder / config_name).read_text(encoding="utf-8"))
        for key in no_part:
            config.pop(key, None)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"cannot be read as JSON: {first_line(error)}", where=str(folder / config_name)) from error
    return digest_of({"config": config, "files": sorted(file_digest(path) for path in folder.glob("*.safetensors"))})


def state_digest(model: "PreTrainedModel") -> str:
    """SHA-256 over names, shapes and bytes of all weights and the configuration, 64 hex digits."""
    import torch

    digest = hashlib.sha256(model.config.to_json_string(use_diff=False).encode())
    for key, tensor in sorted(model.state_dict().items()):
        flat = tensor.detach().to("cpu").contiguous().reshape(-1)
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(memoryview(flat.view(torch.uint8).numpy()))
    return digest.hexdigest()


def check_tokenizer_fits(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", *, where: str) -> None:
    """Check that the sizes of tokenizer and embedding suggest they were made together, and that special ids have a row.

    A few ids more than the embedding has rows are let through: the chat template refuses the rows that use one.

    Raises:
        InputError: the vocabulary is too large for the model or far too small, or a special id is out of range.
    """
    rows = int(model.get_input_embeddings().weight.shape[0])
    size = len(tokenizer)
    fix = "leave --tokenizer out to take the model's own, or resize the model's embedding to the tokenizer"
    if size > rows + _SURPLUS_IDS:
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
