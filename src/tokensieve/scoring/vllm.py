"""Scores by vLLM: a running server's ``prompt_logprobs`` over HTTP, or its offline ``LLM``.

vLLM's values differ from those of transformers by up to 0.3 nats, so they are kept under a backend of their own;
``compare_backends`` says how far they are apart before a threshold is trusted. It knows no entropy.
"""

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

import numpy as np
from pydantic import BaseModel

from tokensieve.config import ModelSettings, TemplateArgument
from tokensieve.data.hashing import template_digest, tokenizer_digest
from tokensieve.data.manifest import ModelIdentity, digest_of
from tokensieve.errors import EnvironmentProblem, InputError
from tokensieve.models import load_tokenizer
from tokensieve.models.vllm_engine import VllmEngine, start_vllm
from tokensieve.scoring.backend import Measures, ScoreRecord, ScoreRequest
from tokensieve.server import NoAnswer, Refused, ask, open_client, read_answer, sound_address
from tokensieve.types import JSON

if TYPE_CHECKING:
    from openai import OpenAI

_AT_ONCE: Final = 16
"""Requests under way at the same time; the server batches them."""

_TIMEOUT_S: Final = 600.0
_MINUS_INFINITY: Final = -9999.0
"""Log-probability that the server writes for an impossible token, since JSON has no infinity."""

TokenLogprob: TypeAlias = tuple[float, int | None]
"""Log-probability in nats, and rank from 1, of one prompt token."""


class _Logprob(BaseModel):
    """One token's entry in a server's answer."""

    logprob: float
    rank: int | None = None


class _Choice(BaseModel):
    """One answer to a prompt; entries by token ids as text, None for the first token."""

    prompt_logprobs: list[dict[str, _Logprob] | None] | None = None


class _Completion(BaseModel):
    """The answer to a request for a completion."""

    choices: list[_Choice] = []


class _Served(BaseModel):
    """One model in a server's list."""

    id: str
    root: str | None = None
    max_model_len: int | None = None


class _Models(BaseModel):
    """A server's list of models."""

    data: list[_Served] = []


@dataclass(frozen=True, slots=True)
class VllmServer:
    """A vLLM server that speaks its OpenAI-compatible protocol.

    Attributes:
        url: address up to and with ``/v1``.
        model: name under which it serves the model.
        identity: as far as a server tells; its weights are known by name and address only.
        facts: for the manifest.
        max_length: most tokens in a row; None where the server did not say.
    """

    url: str
    model: str
    identity: ModelIdentity
    facts: Mapping[str, JSON] = field(default_factory=dict)
    max_length: int | None = None
    vocab_size: int | None = None
    has_entropy: bool = False
    has_rank: bool = True

    def resumed(self, facts: Mapping[str, object]) -> "VllmServer":  # noqa: ARG002 - the server batches by itself
        """Itself."""
        return self

    def close(self) -> None:
        """Nothing: the server runs on."""

    def score(self, requests: Sequence[ScoreRequest], measures: Measures) -> list[ScoreRecord]:
        """Score requests.

        Raises:
            EnvironmentProblem: the server cannot be reached or fails.
            InputError: the server answers without ``prompt_logprobs``, or for other tokens.
        """
        with open_client(self.url, timeout_s=_TIMEOUT_S) as client, ThreadPoolExecutor(_AT_ONCE) as pool:
            return list(pool.map(lambda request: self._one(client, request, rank=measures.rank), requests))

    def _one(self, client: "OpenAI", request: ScoreRequest, *, rank: bool) -> ScoreRecord:
        content = {
            "model": self.model,
            "prompt": request.ids_T.tolist(),
            "max_tokens": 1,
            "temperature": 0.0,
            "prompt_logprobs": 0,
        }
        answer = read_answer(_Completion, _ask(client, self.url, "/completions", content), self.url)
        logprobs = answer.choices[0].prompt_logprobs if answer.choices else None
        if logprobs is None or len(logprobs) != len(request.ids_T):
            raise InputError(
                f"expected prompt_logprobs of {len(request.ids_T)} tokens, got "
                f"{'none' if logprobs is None else len(logprobs)}",
                where=self.url,
                fix="use a vLLM server; other OpenAI-compatible servers do not score prompts",
            )
        logprobs_N = [_token_logprob(logprobs[t], int(request.ids_T[t]), self.url) for t in request.positions_N]
        return _record(logprobs_N, rank=rank)


def open_vllm(settings: ModelSettings, url: str | None = None) -> "VllmServer | VllmOffline":
    """Open a vLLM backend: a running server where there is a url, else vLLM in this process. Close it after use.

    Raises:
        EnvironmentProblem: the server cannot be reached, or vLLM is not installed.
        InputError: as in ``open_server`` and ``open_offline``.
    """
    if url is None:
        return open_offline(settings)
    return open_server(url, settings.model, settings.tokenizer or settings.model, settings.template_kwargs)


def open_server(
    url: str, model: str, tokenizer: str, template_kwargs: Mapping[str, TemplateArgument] | None = None
) -> VllmServer:
    """A server ready to score.

    Args:
        url: address up to and with ``/v1``.
        model: name under which it serves the model.
        tokenizer: the model's Hub name or folder, for the digest of its tokenizer.
        template_kwargs: the chat template's arguments, for the digest of the template.

    Raises:
        EnvironmentProblem: the server cannot be reached.
        InputError: it does not serve that model, or the address is none.
    """
    url = sound_address(url, "--url")
    with open_client(url, timeout_s=_TIMEOUT_S) as client:
        listed = read_answer(_Models, _ask(client, url, "/models"), url)
    served = {entry.id: entry for entry in listed.data}
    if model not in served:
        raise InputError(f"the server has no model {model!r}; it has: {', '.join(sorted(served)) or 'none'}", where=url)
    made_of = {"server": url, "model": model, "root": served[model].root, "created_by": "vllm"}
    words = load_tokenizer(tokenizer)
    identity = ModelIdentity(
        name=model,
        weights_digest=digest_of(made_of),
        tokenizer_digest=tokenizer_digest(words),
        template_digest=template_digest(words, template_kwargs),
        template_kwargs=dict(template_kwargs or {}),
        backend="vllm",
    )
    limit = served[model].max_model_len
    longest = None if limit is None else limit - 1  # one place is for the token that must be sampled
    return VllmServer(url, model, identity, {"server": url}, longest)


@dataclass(frozen=True, slots=True, eq=False)
class VllmOffline:
    """vLLM in this process.

    Attributes:
        engine: what was started.
        identity: the model's, with vLLM as backend.
        facts: for the manifest.
        max_length: most tokens in a row.
    """

    engine: VllmEngine
    identity: ModelIdentity
    facts: Mapping[str, JSON]
    max_length: int | None
    vocab_size: int | None = None
    has_entropy: bool = False
    has_rank: bool = True

    def resumed(self, facts: Mapping[str, object]) -> "VllmOffline":  # noqa: ARG002 - vLLM batches by itself
        """Itself."""
        return self

    def close(self) -> None:
        """End the engine's processes; no further call scores."""
        self.engine.close()

    def score(self, requests: Sequence[ScoreRequest], measures: Measures) -> list[ScoreRecord]:
        """Score requests."""
        from vllm import SamplingParams, TokensPrompt

        asking = SamplingParams(prompt_logprobs=0, max_tokens=1, temperature=0.0, detokenize=False)
        prompts = [TokensPrompt(prompt_token_ids=request.ids_T.tolist()) for request in requests]
        outputs = self.engine.llm.generate(prompts, asking, use_tqdm=False)
        records = []
        for request, output in zip(requests, outputs, strict=True):
            logprobs = output.prompt_logprobs
            found = [logprobs[t][int(request.ids_T[t])] for t in request.positions_N]
            records.append(_record([(one.logprob, one.rank) for one in found], rank=measures.rank))
        return records


def open_offline(settings: ModelSettings) -> VllmOffline:
    """Start vLLM in this process, for a model.

    Raises:
        EnvironmentProblem: as in ``start_vllm``.
        InputError: as in ``start_vllm``.
    """
    engine = start_vllm(settings, "--backend vllm")
    longest = engine.context_length - 1  # one place is for the token that must be sampled
    return VllmOffline(engine, engine.identity, {}, longest)


def _ask(client: "OpenAI", url: str, path: str, content: JSON = None) -> JSON:
    """The JSON answer of a server; POST where there is content."""
    where = url + path
    try:
        return ask(client, path, content)
    except Refused as error:
        raise EnvironmentProblem(f"the server answered {error.status}: {error.text[:300]}", where=where) from None
    except NoAnswer as error:
        fix = "check the address and that the server is up; the same command goes on where it stopped"
        raise EnvironmentProblem(f"the server cannot be reached or broke off: {error}", where=where, fix=fix) from None


def _token_logprob(entry: dict[str, _Logprob] | None, token_id: int, url: str) -> TokenLogprob:
    """Log-probability and rank of one token in a server's answer, whose keys are token ids as text."""
    found = (entry or {}).get(str(token_id))
    if found is None:
        raise InputError(f"the answer holds no log-probability of token {token_id}", where=url)
    return -math.inf if found.logprob <= _MINUS_INFINITY else found.logprob, found.rank


def _record(logprobs: Sequence[TokenLogprob], *, rank: bool) -> ScoreRecord:
    nll_N = np.array([-logprob for logprob, _ in logprobs], dtype=np.float32)
    ranks = [number for _, number in logprobs]
    rank_N = None
    if rank:
        rank_N = np.array([np.nan if number is None else number - 1 for number in ranks], dtype=np.float32)
    return ScoreRecord(nll_N, None, rank_N)
