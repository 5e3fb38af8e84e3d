"""Draw answers from a model: here through transformers or vLLM, by Ray, from a server, or from a script in tests."""

from tokensieve.sampling.local import LocalSampler, RaySampler
from tokensieve.sampling.request import Request, Sampler, ScriptedSampler
from tokensieve.sampling.server import ServerSampler
from tokensieve.sampling.vllm import VllmSampler

__all__ = ["LocalSampler", "RaySampler", "Request", "Sampler", "ScriptedSampler", "ServerSampler", "VllmSampler"]
