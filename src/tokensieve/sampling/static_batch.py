"""Models with recurrent or other state that cannot be cut at a column: batches of equal prompts, one after another."""

import inspect
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final

import numpy as np
import torch
from peft import PeftModel
from transformers import DynamicCache

from tokensieve.config import SampleSettings
from tokensieve.sampling.decode import Drawn, Job
from tokensieve.sampling.request import uniforms
from tokensieve.sampling.top_p import pick

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ATTENDING: Final = frozenset({"full_attention", "sliding_attention"})


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
        alike = list(group)
        for first in range(0, len(alike), slots):
            yield from _draw_batch(model, alike[first : first + slots], stops, settings)


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
