"""vLLM's offline engine for a model (extra ``vllm``), with the identity under which its results are kept."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tokensieve.config import ModelSettings
from tokensieve.data.hashing import template_digest, tokenizer_digest
from tokensieve.data.manifest import ModelIdentity
from tokensieve.errors import EnvironmentProblem, InputError, first_line
from tokensieve.models.fetch import fetch
from tokensieve.models.load import fetch_model, fingerprint, load_tokenizer

if TYPE_CHECKING:
    from vllm import LLM

_OWN_CHOICES: Final = {
    "device": "leave --device out; CUDA_VISIBLE_DEVICES names the cards that vLLM may use",
    "attention": "leave --attention out; vLLM has kernels of its own",
    "tp_plan": "leave --tp-plan out",
}
"""Settings that vLLM decides itself, and what to do in their place."""
_MOST_OF_THE_CARD: Final = 0.9
"""vLLM's own default share of the card's memory."""
_OF_WHAT_IS_FREE: Final = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class VllmEngine:
    """A started engine: processes that hold the card's memory until they are told to end.

    Attributes:
        llm: the engine itself.
        identity: of the model, with vLLM as backend.
        context_length: most tokens in a row, drawn ones included.
    """

    llm: "LLM"
    identity: ModelIdentity
    context_length: int

    def close(self) -> None:
        """End its processes. vLLM's own references keep them alive behind the last use otherwise."""
        self.llm.llm_engine.engine_core.shutdown()


def start_vllm(settings: ModelSettings, where: str) -> VllmEngine:
    """Start vLLM in this process for a model; it is given token ids, and returns them.

    Args:
        settings: the model.
        where: the setting that asks for vLLM, for messages.

    Raises:
        EnvironmentProblem: vLLM is not installed, or does not start.
        InputError: as in ``load_tokenizer``; or what vLLM would not do as asked: an adapter, a quantisation, a GGUF
            file, a device, attention kernel or plan of several cards.
    """
    _refuse_what_it_leaves_out(settings)
    try:
        from vllm import LLM
    except ImportError as error:
        fix = "pip install 'tokensieve[vllm]', or leave it out"
        raise EnvironmentProblem(f"vLLM cannot be imported: {first_line(error)}", where=where, fix=fix) from error
    source = fetch_model(settings, weights=True)
    if source.gguf is not None:
        raise InputError(
            "GGUF files are read by the transformers backend only", where=settings.model, fix="a folder of safetensors"
        )
    tokenizer = load_tokenizer(settings)
    own_tokenizer = None if settings.tokenizer is None else str(fetch(settings.tokenizer, weights=False).folder)
    try:
        llm = LLM(
            str(source.folder),
            tokenizer=own_tokenizer,
            dtype=settings.dtype,
            trust_remote_code=settings.trust_remote_code,
            enable_prefix_caching=True,
            seed=0,
            **_memory(),
        )
    except (RuntimeError, ValueError, OSError, ImportError) as error:
        raise EnvironmentProblem(
            f"vLLM does not start: {first_line(error)}",
            where=settings.model,
            fix="the cause stands in vLLM's own lines above",
        ) from error
    config = llm.llm_engine.model_config
    identity = ModelIdentity(
        name=settings.model,
        revision=source.revision,
        weights_digest=fingerprint(settings),
        tokenizer_digest=tokenizer_digest(tokenizer),
        template_digest=template_digest(tokenizer, settings.template_kwargs),
        template_kwargs=dict(settings.template_kwargs),
        dtype=str(config.dtype).removeprefix("torch."),
        quantisation=settings.quantisation,
        backend="vllm",
    )
    return VllmEngine(llm, identity, int(config.max_model_len))


def _refuse_what_it_leaves_out(settings: ModelSettings) -> None:
    """See ``start_vllm``."""
    if settings.adapter is not None:
        raise InputError("adapters are read by the transformers backend only", where="--adapter")
    if settings.quantisation != "none":
        raise InputError("weights are quantised by the transformers backend only", where="--quantisation")
    for name, fix in _OWN_CHOICES.items():
        if (given := getattr(settings, name)) != ModelSettings.model_fields[name].default:
            raise InputError(f"vLLM does not take {given!r}", where=f"--{name.replace('_', '-')}", fix=fix)


def _memory() -> dict[str, float]:
    """The share of the card's memory that vLLM may take, where a model of ours lies on the card already.

    vLLM does not start where less is free than its default share.
    """
    import torch

    # mem_get_info would start CUDA in this process too, where nothing of ours lies on the card.
    if not (torch.cuda.is_available() and torch.cuda.memory_allocated()):
        return {}
    free, whole = torch.cuda.mem_get_info()
    return {"gpu_memory_utilization": share_of_card(free, whole)}


def share_of_card(free: int, whole: int) -> float:
    """Share of a card's memory for vLLM: its default, or most of what is free where that is less.

    Args:
        free: bytes that are free.
        whole: bytes of the card.
    """
    return round(min(_MOST_OF_THE_CARD, _OF_WHAT_IS_FREE * free / whole), 3)
