"""Load models and tokenizers from a folder or the Hub, with an identity that scores can be kept under."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tokensieve.config import ModelSettings
from tokensieve.data.chat import ChatTemplate, prepare
from tokensieve.data.hashing import file_digest, template_digest, tokenizer_digest
from tokensieve.data.manifest import ModelIdentity, digest_of
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.models.checks import check_adapter_acts, check_tokenizer_fits
from tokensieve.models.fetch import Source, fetch

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_NO_PART_OF_THE_MODEL: Final = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")
"""Keys of a model's configuration that may differ between two copies of the same model."""

_NO_PART_OF_THE_ADAPTER: Final = ("base_model_name_or_path", "inference_mode", "peft_version", "revision")


@dataclass(frozen=True, slots=True, eq=False)
class LoadedModel:
    """A model ready to run, its tokenizer, and which ones they are.

    Attributes:
        model: in evaluation mode, on its device; a ``PeftModel`` where there is an adapter.
        tokenizer: the tokenizer that belongs to it.
        identity: digests and numbers; ``head_dtype`` is filled in by scoring.
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
    def stop_ids(self) -> frozenset[int]:
        """Token ids that end an answer: the chat template's end-of-turn tokens, and every end of sequence.

        The template's are what training teaches and selection protects (``ChatTemplate.end_ids``). A model may end
        otherwise too, as its generation settings, its configuration or its tokenizer say.
        """
        found = set(self.chat.end_ids)
        for source in (self.model.generation_config, self.model.config.get_text_config(), self.tokenizer):
            value = getattr(source, "eos_token_id", None)
            found.update([value] if isinstance(value, int) else value or ())
        return frozenset(found)

    @property
    def device(self) -> "torch.device":
        """Where the model's inputs must lie."""
        return self.model.device  # type: ignore[no-any-return]


def settings_of(settings: ModelSettings | str) -> ModelSettings:
    """Settings as they are, or those of a model by its name alone."""
    return ModelSettings(model=settings) if isinstance(settings, str) else settings


def load_tokenizer(settings: ModelSettings | str) -> "PreTrainedTokenizerBase":
    """Load a model's tokenizer without its weights.

    Args:
        settings: the model's settings, or just its name, folder or ``pocket``.

    Raises:
        InputError: no such model, or it has no tokenizer.
        EnvironmentProblem: the Hub cannot be reached, or the download broke off.
    """
    settings = settings_of(settings)
    if settings.tokenizer is not None:
        return _read_tokenizer(fetch(settings.tokenizer, weights=False), settings)
    return _read_tokenizer(_fetch_model(settings, weights=False), settings)


def load_model(settings: ModelSettings | str) -> LoadedModel:
    """Load a causal language model with its tokenizer and, where set, its adapter.

    Weights come from safetensors files only. Nothing that a repository ships is executed unless
    ``trust_remote_code`` is set.

    Args:
        settings: the model's settings, or just its name, folder or ``pocket``.

    Returns:
        The model in evaluation mode on its device, with its identity.

    Raises:
        InputError: no such model or no access to it; weights that are missing or do not fit; a tokenizer that does
            not belong to the model; an adapter that does not fit it or changes nothing.
        EnvironmentProblem: the Hub cannot be reached, the download broke off, or a package or device is missing.
    """
    settings = settings_of(settings)
    source = _fetch_model(settings, weights=True)
    tokenizer = load_tokenizer(settings)
    model = _read_model(source, settings)
    check_tokenizer_fits(model, tokenizer, where=settings.model)
    adapter_digest = None
    if settings.adapter is not None:
        adapter = fetch(settings.adapter, code=False)
        model = _put_on(model, adapter, settings.adapter)
        adapter_digest = _digest_of_files(adapter.folder, "adapter_config.json", _NO_PART_OF_THE_ADAPTER)
    model.eval()
    identity = ModelIdentity(
        name=settings.model,
        revision=source.revision,
        weights_digest=_digest_of_files(source.folder, "config.json", _NO_PART_OF_THE_MODEL),
        adapter_digest=adapter_digest,
        tokenizer_digest=tokenizer_digest(tokenizer),
        template_digest=template_digest(tokenizer, settings.template_kwargs),
        template_kwargs=dict(settings.template_kwargs),
        dtype=dtype_name(model),
        attention=str(model.config._attn_implementation),
        quantisation=settings.quantisation,
    )
    return LoadedModel(model, tokenizer, identity, settings)


def fingerprint(settings: ModelSettings | str) -> str:
    """What decides a model's results, found without loading its weights: 64 hex digits.

    Covers the files of weights, adapter, tokenizer and template, and the settings that choose numbers, attention and
    quantisation. Names and places do not count.

    Args:
        settings: the model's settings, or just its name, folder or ``pocket``.

    Raises:
        InputError: as in ``load_model``.
        EnvironmentProblem: as in ``load_model``.
    """
    settings = settings_of(settings)
    tokenizer = load_tokenizer(settings)
    adapter = None if settings.adapter is None else fetch(settings.adapter, code=False).folder
    weights = _digest_of_files(_fetch_model(settings, weights=True).folder, "config.json", _NO_PART_OF_THE_MODEL)
    tuned = adapter and _digest_of_files(adapter, "adapter_config.json", _NO_PART_OF_THE_ADAPTER)
    chosen = settings.model_dump(mode="json", include={"dtype", "attention", "device", "quantisation"})
    template = template_digest(tokenizer, settings.template_kwargs)
    return digest_of([weights, tuned, tokenizer_digest(tokenizer), template, chosen])


def load_chat(settings: ModelSettings | str) -> ChatTemplate:
    """A model's chat template with its arguments, without the weights; see ``LoadedModel.chat``.

    Raises:
        InputError: as in ``load_tokenizer``, or the tokenizer has no usable chat template.
        EnvironmentProblem: as in ``load_tokenizer``.
    """
    settings = settings_of(settings)
    return prepare(load_tokenizer(settings), settings.template_kwargs, vocabulary=vocabulary_size(settings))


def vocabulary_size(settings: ModelSettings | str) -> int | None:
    """Ids that the model has embeddings for, from its configuration alone; None where that does not say.

    Raises:
        EnvironmentProblem: the Hub cannot be reached.
    """
    try:
        return getattr(_config(settings_of(settings)), "vocab_size", None)
    except InputError:  # a folder with a tokenizer only, or an architecture of vLLM's
        return None


def context_length(settings: ModelSettings | str) -> int | None:
    """Most tokens that a model takes in a row, from its configuration alone; None where that does not say.

    Raises:
        InputError: no such model, or one that transformers does not know.
        EnvironmentProblem: the Hub cannot be reached.
    """
    return getattr(_config(settings_of(settings)), "max_position_embeddings", None)


def dtype_name(model: "PreTrainedModel") -> str:
    """The numbers a model computes in: float32, bfloat16 or float16."""
    return str(model.dtype).removeprefix("torch.")


def _fetch_model(settings: ModelSettings, *, weights: bool) -> Source:
    source = fetch(settings.model, settings.revision, weights=weights, code=settings.trust_remote_code)
    if (source.folder / "config.json").is_file():
        return source
    if (source.folder / "adapter_config.json").is_file():
        raise InputError(
            "this is an adapter, not a model",
            where=settings.model,
            fix=f"--adapter {settings.model} and its base model as --model",
        )
    raise InputError("there is no config.json, so this is no model", where=settings.model, fix="check --model")


def _config(settings: ModelSettings) -> "PretrainedConfig":
    """The configuration of the text model."""
    from transformers import AutoConfig

    folder = _fetch_model(settings, weights=False).folder
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=settings.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"the model cannot be loaded: {_first_line(error)}", where=settings.model) from error
    return config.get_text_config()


def _read_tokenizer(source: Source, settings: ModelSettings) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(source.folder), trust_remote_code=settings.trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"no usable tokenizer: {_first_line(error)}",
            where=settings.tokenizer or settings.model,
            fix="give one with --tokenizer",
        ) from error


def _read_model(source: Source, settings: ModelSettings) -> "PreTrainedModel":
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    if not any(source.folder.glob("*.safetensors")):
        raise InputError(
            "there are no weights in safetensors files",
            where=settings.model,
            fix="convert the model with transformers' save_pretrained, which writes safetensors",
        )
    device = _device(settings.device)
    arguments: dict[str, object] = {"dtype": _dtype(settings.dtype, device), "use_safetensors": True}
    if settings.attention != "auto":
        arguments["attn_implementation"] = settings.attention
    if settings.quantisation != "none":
        arguments["quantization_config"] = _quantisation(settings)
    if settings.tp_plan != "none":
        arguments["tp_plan"] = settings.tp_plan
    elif device.type != "cpu":
        arguments["device_map"] = {"": device}
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            str(source.folder), output_loading_info=True, trust_remote_code=settings.trust_remote_code, **arguments
        )
    except ImportError as error:
        raise EnvironmentProblem(
            f"a package is missing: {_first_line(error)}", where=settings.model, fix="install it, or choose otherwise"
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        if type(error).__name__ == "OutOfMemoryError":
            raise EnvironmentProblem(
                "the model does not fit into the device's memory",
                where=settings.model,
                fix="--quantisation nf4, a smaller model, or --tp-plan auto over several GPUs",
            ) from error
        raise InputError(f"the model cannot be loaded: {_first_line(error)}", where=settings.model) from error
    if missing := sorted(report["missing_keys"]):
        raise InputError(
            f"the files lack {len(missing)} weights, which would be random: {', '.join(missing[:3])}",
            where=settings.model,
            fix="check that the files are complete and that the model is a causal language model",
        )
    return model


def _put_on(model: "PreTrainedModel", adapter: Source, name: str) -> "PreTrainedModel":
    from peft import PeftModel
    from safetensors import SafetensorError

    if not (adapter.folder / "adapter_config.json").is_file():
        raise InputError("there is no adapter_config.json, so this is no PEFT adapter", where=name)
    if not any(adapter.folder.glob("*.safetensors")):
        raise InputError("there are no adapter weights in safetensors files", where=name, fix="check --adapter")
    try:
        adapted = PeftModel.from_pretrained(model, str(adapter.folder))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise InputError(f"the adapter does not fit the model: {_first_line(error)}", where=name) from error
    check_adapter_acts(adapted, where=name)
    return adapted


def _device(name: str) -> "torch.device":
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"unknown device {name!r}", where="--device", fix="auto, cpu, cuda, cuda:1 or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise EnvironmentProblem("no CUDA device is there", where="--device", fix="--device auto")
    return device


def _dtype(name: str, device: "torch.device") -> "torch.dtype":
    import torch

    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def _quantisation(settings: ModelSettings) -> object:
    """How a QLoRA run holds the weights; the settings are those of its paper (nf4, double quantisation)."""
    from importlib.util import find_spec

    from transformers import BitsAndBytesConfig

    if find_spec("bitsandbytes") is None:
        raise EnvironmentProblem(
            f"quantisation {settings.quantisation} needs bitsandbytes",
            where=settings.model,
            fix="pip install bitsandbytes",
        )
    if settings.quantisation == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=_dtype(settings.dtype, _device(settings.device)),
    )


def _digest_of_files(folder: Path, config_name: str, no_part: tuple[str, ...]) -> str:
    """SHA-256 over the weights files' contents and the configuration; neither names nor places matter."""
    config = json.loads((folder / config_name).read_text(encoding="utf-8"))
    for key in no_part:
        config.pop(key, None)
    return digest_of({"config": config, "files": sorted(file_digest(path) for path in folder.glob("*.safetensors"))})


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
