"""Load models and tokenizers from a folder, a GGUF file, the Hub or memory, with the identity of their scores."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tokensieve.config import ModelSettings, TemplateArgument
from tokensieve.data.chat import ChatTemplate, prepare
from tokensieve.data.hashing import template_digest, tokenizer_digest
from tokensieve.data.manifest import ModelIdentity, digest_of
from tokensieve.errors import InputError, first_line
from tokensieve.models.adapter import put_on
from tokensieve.models.device import dtype_name
from tokensieve.models.fetch import Source, fetch
from tokensieve.models.identity import (
    LoadedModel,
    ModelLike,
    adapter_digest_of,
    check_tokenizer_fits,
    settings_of,
    state_digest,
    weights_digest_of,
)
from tokensieve.models.weights import check_finite, read_weights

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(settings: ModelSettings | str | Path) -> "PreTrainedTokenizerBase":
    """Load a model's tokenizer without its weights.

    Args:
        settings: the model's settings, or just its name, folder, GGUF file or ``pocket``.

    Raises:
        InputError: no such model, or it has no tokenizer.
        EnvironmentProblem: the Hub cannot be reached, or the download broke off.
    """
    settings = settings_of(settings)
    if settings.tokenizer is not None:
        return _read_tokenizer(fetch(settings.tokenizer, weights=False), settings)
    return _read_tokenizer(fetch_model(settings, weights=False), settings)


def load_model(model: ModelLike) -> LoadedModel:
    """Load a causal language model with its tokenizer and, where set, its adapter.

    Weights come from safetensors files or a GGUF file, which is dequantised. Nothing that a repository ships is
    executed unless ``trust_remote_code`` is set.

    Args:
        model: the model's settings, or just its name, folder, GGUF file or ``pocket``. A model of transformers is taken
            as it is, with the tokenizer given beside it, else with the one at the place that it was loaded from; a
            loaded model is returned.

    Returns:
        The model in evaluation mode on its device, with its identity.

    Raises:
        InputError: no such model or no access to it; weights that are missing, unused or not finite; a tokenizer that
            does not belong to the model; an adapter that does not fit it, fits in part, was trained on another or
            changes nothing.
        EnvironmentProblem: the Hub cannot be reached, the download broke off, or a package or device is missing.
    """
    if isinstance(model, LoadedModel):
        return model
    if isinstance(model, tuple) or hasattr(model, "get_input_embeddings"):
        return _taken(model)
    return _load(settings_of(model))


def _load(settings: ModelSettings) -> LoadedModel:
    source = fetch_model(settings, weights=True)
    tokenizer = load_tokenizer(settings)
    model = read_weights(source, settings)
    check_tokenizer_fits(model, tokenizer, where=settings.model)
    weights_digest = weights_digest_of(source)
    adapter_digest = None
    if settings.adapter is not None:
        adapter = fetch(settings.adapter, code=False)
        model = put_on(model, adapter, settings.adapter, base=settings.model, weights_digest=weights_digest)
        adapter_digest = adapter_digest_of(adapter)
    model.eval()
    identity = ModelIdentity(
        name=settings.model,
        revision=source.revision,
        weights_digest=weights_digest,
        adapter_digest=adapter_digest,
        tokenizer_digest=tokenizer_digest(tokenizer),
        template_digest=template_digest(tokenizer, settings.template_kwargs),
        template_kwargs=dict(settings.template_kwargs),
        dtype=dtype_name(model),
        attention=str(model.config._attn_implementation),
        quantisation=settings.quantisation,
    )
    return LoadedModel(model, tokenizer, identity, settings)


def _taken(model: "PreTrainedModel | tuple[PreTrainedModel, PreTrainedTokenizerBase]") -> LoadedModel:
    """A model of transformers, alone or with its tokenizer, taken as it is."""
    if isinstance(model, tuple):
        if len(model) != 2 or not hasattr(model[0], "get_input_embeddings") or not hasattr(model[1], "get_vocab"):
            kinds = ", ".join(type(part).__name__ for part in model)
            raise InputError(f"expected (model, tokenizer), got ({kinds})")
        network, tokenizer = model
        return from_memory(network, tokenizer, name=str(network.config._name_or_path or "in-memory"))
    name = str(model.config._name_or_path)
    if not name:
        raise InputError(
            "the model does not say where its tokenizer is", fix="pass both: (model, tokenizer), or load_model(FOLDER)"
        )
    return from_memory(model, load_tokenizer(name), name=name)


def from_memory(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    *,
    name: str = "in-memory",
    template_kwargs: Mapping[str, TemplateArgument] | None = None,
) -> LoadedModel:
    """Take a model that is held in memory as it is, with a digest of the weights it holds now.

    Args:
        model: a causal language model, with or without a PEFT adapter; put into evaluation mode.
        tokenizer: its tokenizer.
        name: its name in manifests.
        template_kwargs: the chat template's arguments.

    Returns:
        The model with its identity. Train it further and the identity is no longer true: call this again.

    Raises:
        InputError: the tokenizer holds ids that the model has no embedding for, or a weight is not finite.
    """
    model.eval()
    check_tokenizer_fits(model, tokenizer, where=name)
    check_finite(model, where=name)
    settings = ModelSettings(model=name, device=str(model.device), template_kwargs=dict(template_kwargs or {}))
    identity = ModelIdentity(
        name=name,
        weights_digest=state_digest(model),
        tokenizer_digest=tokenizer_digest(tokenizer),
        template_digest=template_digest(tokenizer, settings.template_kwargs),
        template_kwargs=dict(settings.template_kwargs),
        dtype=dtype_name(model),
        attention=str(model.config._attn_implementation),
    )
    return LoadedModel(model, tokenizer, identity, settings)


def fingerprint(settings: ModelSettings | str | Path) -> str:
    """Digest of all that decides a model's results, found without loading its weights: 64 hex digits.

    Covers the files of weights, adapter, tokenizer and template, and the settings of dtype, attention and quantisation.
    Names and places do not count.

    Args:
        settings: the model's settings, or just its name, folder, GGUF file or ``pocket``.

    Raises:
        InputError: as in ``load_model``.
        EnvironmentProblem: as in ``load_model``.
    """
    settings = settings_of(settings)
    tokenizer = load_tokenizer(settings)
    weights = weights_digest_of(fetch_model(settings, weights=True))
    tuned = None if settings.adapter is None else adapter_digest_of(fetch(settings.adapter, code=False))
    chosen = settings.model_dump(mode="json", include={"dtype", "attention", "device", "quantisation"})
    template = template_digest(tokenizer, settings.template_kwargs)
    return digest_of([weights, tuned, tokenizer_digest(tokenizer), template, chosen])


def load_chat(settings: ModelSettings | str | Path) -> ChatTemplate:
    """A model's chat template with its arguments, without the weights; see ``LoadedModel.chat``.

    Raises:
        InputError: as in ``load_tokenizer``, or the tokenizer has no usable chat template.
        EnvironmentProblem: as in ``load_tokenizer``.
    """
    settings = settings_of(settings)
    # With a tokenizer of its own, the model may be a name that only a server knows; scoring checks the ids then.
    size = vocabulary_size(settings) if settings.tokenizer is None else None
    return prepare(load_tokenizer(settings), settings.template_kwargs, vocabulary=size)


def vocabulary_size(settings: ModelSettings | str | Path) -> int | None:
    """Ids that the model has embeddings for, from its configuration alone; None where that does not say.

    Raises:
        EnvironmentProblem: the Hub cannot be reached.
    """
    try:
        return getattr(_config(settings_of(settings)), "vocab_size", None)
    except InputError:  # a folder with a tokenizer only, or an architecture of vLLM's
        return None


def context_length(settings: ModelSettings | str | Path) -> int | None:
    """Most tokens that a model takes in a row, from its configuration alone; None where that does not say.

    Raises:
        InputError: no such model, or one that transformers does not know.
        EnvironmentProblem: the Hub cannot be reached.
    """
    return getattr(_config(settings_of(settings)), "max_position_embeddings", None)


def fetch_model(settings: ModelSettings, *, weights: bool) -> Source:
    """Find the files of a model, downloaded where they have to be; see ``fetch``.

    Raises:
        InputError: as in ``fetch``, or what is there is no model.
        EnvironmentProblem: as in ``fetch``.
    """
    source = fetch(settings.model, settings.revision, weights=weights, code=settings.trust_remote_code)
    if (source.folder / "config.json").is_file():
        return source
    if (source.folder / "adapter_config.json").is_file():
        raise InputError(
            "this is an adapter, not a model",
            where=settings.model,
            fix=f"--adapter {settings.model} and its base model as --model",
        )
    if found := sorted(source.folder.glob("*.gguf")):
        raise InputError(
            "there is no config.json, but a GGUF file",
            where=settings.model,
            fix=f"--model {source.folder / found[0].name}",
        )
    raise InputError("there is no config.json, so this is no model", where=settings.model, fix="check --model")


def _config(settings: ModelSettings) -> "PretrainedConfig":
    """The configuration of the text model."""
    from transformers import AutoConfig

    folder = fetch_model(settings, weights=False).folder
    try:
        config = AutoConfig.from_pretrained(str(folder), trust_remote_code=settings.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"the model cannot be loaded: {first_line(error)}", where=settings.model) from error
    return config.get_text_config()


def _read_tokenizer(source: Source, settings: ModelSettings) -> "PreTrainedTokenizerBase":
    from transformers import AutoTokenizer

    files = {path.name for path in source.folder.iterdir()}
    if "tekken.json" in files and not files & {"tokenizer.json", "tokenizer.model", "vocab.json"}:
        raise InputError(
            "its tokenizer is in mistral-common's format alone (tekken.json), without places of tokens in the text and"
            " without a chat template",
            where=settings.tokenizer or settings.model,
            fix="--tokenizer with a repository of the same model that has a tokenizer.json and a chat template",
        )
    try:
        return AutoTokenizer.from_pretrained(str(source.folder), trust_remote_code=settings.trust_remote_code)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"no usable tokenizer: {first_line(error)}",
            where=settings.tokenizer or settings.model,
            fix="give one with --tokenizer",
        ) from error
