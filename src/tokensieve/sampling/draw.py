"""What is drawn, and how: jobs and answers, the choice of the next token, and a plain loop over equal prompts.

The plain loop is for models with a recurrent or other state that cannot be cut at a column; ``decode`` has the loop for
all others. A token is chosen greedily or by one uniform number, so that a draw can be repeated anywhere.
"""

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from peft import PeftModel
from transformers import DynamicCache

from tokensieve.config import SampleSettings
from tokensieve.sampling.request import uniforms
from tokensieve.types import IntArray

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CANDIDATES: Final = 64
"""Tokens looked at before all are sorted; they nearly always hold the nucleus, and sorting a vocabulary is slow."""

_LIKE_LENGTH: Final = 0.75
"""Prompts at least so long, as a share of the longest, run in one pass with it."""

_ATTENDING: Final = frozenset({"full_attention", "sliding_attention"})


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One answer to draw.

    Attributes:
        key: the request's id.
        index: the answer's number.
        prompt_T: token ids of the prompt.
        limit: longest answer in tokens.
    """

    key: str
    index: int
    prompt_T: IntArray
    limit: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """One answer as it was drawn: its job, ids with the stop token, whether it stopped by itself, mean nll in nats."""

    job: Job
    ids: tuple[int, ...]
    finished: bool
    nll: float


def alike(jobs: list[Job]) -> Iterator[list[Job]]:
    """Jobs, longest prompt first, in portions of like length, so that little of a pass over prompts is padding."""
    first = 0
    for place, job in enumerate(jobs):
        if len(job.prompt_T) < _LIKE_LENGTH * len(jobs[first].prompt_T):
            yield jobs[first:place]
            first = place
    yield jobs[first:]


def pick(
    logits_BV: torch.Tensor, uniform_B: torch.Tensor | None, temperature: float, top_p: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The next token of each row and its nll under the model itself.

    Args:
        logits_BV: the model's logits.
        uniform_B: numbers in [0, 1), one a row; None for greedy.
        temperature: divides the logits; 0 is greedy.
        top_p: the most likely tokens that hold this share of the probability are kept, at least one.

    Returns:
        Token ids, and nll in nats at temperature 1 with all tokens allowed.
    """
    logits_BV = logits_BV.float()
    if uniform_B is None or temperature == 0:
        token_B = logits_BV.argmax(-1)
    else:
        token_B = _inverse_cdf(torch.softmax(logits_BV / temperature, -1), uniform_B, top_p)
    chosen_B = logits_BV.gather(-1, token_B[:, None])[:, 0]
    return token_B, logits_BV.logsumexp(-1) - chosen_B


def _inverse_cdf(probability_BV: torch.Tensor, uniform_B: torch.Tensor, top_p: float) -> torch.Tensor:
    if probability_BV.device.type == "mps":  # has no float64
        return _inverse_cdf(probability_BV.cpu(), uniform_B.cpu(), top_p).to(probability_BV.device)
    if top_p >= 1:
        # double: the sum over a vocabulary of 100,000 must not lose its tail
        return _first_beyond(probability_BV.double().cumsum(-1), uniform_B)
    width = min(_CANDIDATES, probability_BV.shape[-1])
    value_BK, token_BK = probability_BV.topk(width, sorted=True)
    token_B = token_BK.gather(-1, _in_nucleus(value_BK, uniform_B, top_p)[:, None])[:, 0]
    open_B = value_BK.sum(-1) < top_p
    if width < probability_BV.shape[-1] and bool(open_B.any()):
        value_BV, order_BV = probability_BV[open_B].sort(-1, descending=True)
        place_B = _in_nucleus(value_BV, uniform_B[open_B], top_p)
        token_B[open_B] = order_BV.gather(-1, place_B[:, None])[:, 0]
    return token_B


def _in_nucleus(value_BK: torch.Tensor, uniform_B: torch.Tensor, top_p: float) -> torch.Tensor:
    """The drawn place among values in descending order; a value belongs while what is before it is below ``top_p``."""
    value_BK = value_BK.double()
    before_BK = value_BK.cumsum(-1) - value_BK
    return _first_beyond(value_BK.masked_fill(before_BK >= top_p, 0).cumsum(-1), uniform_B)


def _first_beyond(cumulated_BV: torch.Tensor, uniform_B: torch.Tensor) -> torch.Tensor:
    """First place whose cumulated probability exceeds the uniform share of the whole."""
    target_B1 = uniform_B.double()[:, None] * cumulated_BV[:, -1:]
    return torch.searchsorted(cumulated_BV, target_B1, right=True)[:, 0].clamp(max=cumulated_BV.shape[-1] - 1)


def attends_only(model: "PreTrainedModel") -> bool:
    """True where rows may begin at different columns of one cache.

    That takes layers that are all attention, over all tokens or over a window, each with keys and values of its own,
    and a model that is told its positions.
    """
    inner = model.get_base_model() if isinstance(model, PeftModel) else model
    config = inner.config.get_text_config()
    if "position_ids" not in inspect.signature(inner.forward).parameters:
        return False
    if getattr(config, "num_kv_shared_layers", 0):
        return False
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return set(kinds) <= _ATTENDING
    return not getattr(inner, "_is_stateful", False) and hasattr(config, "num_attention_heads")


def takes_plain_mask(model: "PreTrainedModel") -> bool:
    """True where one boolean mask serves all layers; building it here saves the model's own, slower way every step."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ["full_attention"])
    return model.config._attn_implementation == "sdpa" and kinds == {"full_attention"} and not has_window(model)


def has_window(model: "PreTrainedModel") -> bool:
    """True where a layer attends to a window only, by an older configuration without ``layer_types``."""
    return getattr(model.config.get_text_config(), "sliding_window", None) is not None


def draw_in_step(
    model: "PreTrainedModel", jobs: Sequence[Job], stops: frozenset[int], settings: SampleSettings, slots: int
) -> Iterator[Drawn]:
    """Draw jobs in batches whose prompts are equally long, since padding would enter a recurrent state.

    Args:
        model: a causal language model with a cache of its own kind.
        jobs: what to draw.
        stops: ids that end an answer.
        settings: temperature, top_p and seed.
        slots: rows in a batch.
    """
    ordered = sorted(jobs, key=lambda job: -len(job.prompt_T))
    for _, group in groupby(ordered, key=lambda job: len(job.prompt_T)):
        equal = list(group)
        for first in range(0, len(equal), slots):
            yield from _draw_batch(model, equal[first : first + slots], stops, settings)


@torch.inference_mode()
def _draw_batch(
    model: "PreTrainedModel", jobs: Sequence[Job], stops: frozenset[int], settings: SampleSettings
) -> list[Drawn]:
    longest = max(job.limit for job in jobs)
    uniform_TB = np.zeros((longest, len(jobs)), dtype=np.float32)
    for place, job in enumerate(jobs):
        uniform_TB[: job.limit, place] = uniforms(settings.seed, job.key, job.index, job.limit)
    ids: list[list[int]] = [[] for _ in jobs]
    nlls = [0.0] * len(jobs)
    done = [False] * len(jobs)
    cache = DynamicCache(config=model.config)
    entering = torch.from_numpy(np.stack([job.prompt_T for job in jobs]).astype(np.int64)).to(model.device)
    for step in range(longest):
        output = model(input_ids=entering, past_key_values=cache, use_cache=True, logits_to_keep=1)
        uniform_B = torch.from_numpy(uniform_TB[step]).to(model.device)
        token_B, nll_B = pick(output.logits[:, -1], uniform_B, settings.temperature, settings.top_p)
        for place, (token, nll) in enumerate(zip(token_B.tolist(), nll_B.tolist(), strict=True)):
            if not done[place]:
                ids[place].append(token)
                nlls[place] += nll
                done[place] = token in stops or len(ids[place]) >= jobs[place].limit
        if all(done):
            break
        entering = token_B[:, None]
    return [
        Drawn(job, tuple(row), row[-1] in stops, nll / len(row)) for job, row, nll in zip(jobs, ids, nlls, strict=True)
    ]
