"""Who answers: the model under study, another one, here or on Ray's workers, or a server."""

from tokensieve.config import GenerateSettings
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel, load_model
from tokensieve.sampling import LocalSampler, RaySampler, Sampler, ServerSampler, VllmSampler


def answerer_of(settings: GenerateSettings, base: LoadedModel) -> Sampler:
    """The sampler that the settings ask for.

    Raises:
        InputError: a larger model's answers are wanted but none is named, another model's where the arm is of the model
            itself, or a server without an address.
        EnvironmentProblem: vLLM or Ray is not installed, or as in ``load_model``.
    """
    answerer = settings.answerer
    if settings.arm == "larger-model" and answerer.model is None:
        raise InputError(
            "the arm larger-model needs another model", where="generate.answerer.model", fix="--answerer.model NAME"
        )
    if settings.arm != "larger-model" and answerer.model is not None and answerer.backend != "server":
        raise InputError(
            f"the arm {settings.arm} is of the model itself, not of another one",
            where="generate.answerer.model",
            fix=f"--arm larger-model, or --model {answerer.model}",
        )
    if answerer.backend == "server":
        return ServerSampler(answerer, base.tokenizer, base.settings.template_kwargs)
    other = base.settings
    if answerer.model is not None:
        other = other.model_copy(update={"model": answerer.model, "revision": None, "adapter": None, "tokenizer": None})
    if answerer.backend == "vllm":
        return VllmSampler(other)
    if answerer.backend == "ray":
        return RaySampler(other, workers=answerer.workers)
    return LocalSampler(base if answerer.model is None else load_model(other))
