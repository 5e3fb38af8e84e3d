"""What scores rows, ours and others', for the scoring benchmark.

Each contender returns the nll [N] of the response tokens in nats, row after row, so that a table shows that they did
the same; those that know sums only return their mean as one number.
"""

import argparse
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np
from scoring_subjects import Row


class Skipped(RuntimeError):
    """A contender that has nothing to say here, and why."""


def _ours(
    loaded, rows: list[Row], options: argparse.Namespace, compiles: str = "auto", **changes: object
) -> np.ndarray:
    from tokensieve.config import LaunchSettings, ScoreSettings
    from tokensieve.data.dataset import in_memory
    from tokensieve.data.manifest import Manifest
    from tokensieve.scoring import score

    shard_rows = max(1, len(rows) // 8) if options.out else 512
    settings = ScoreSettings(use_store=False, shard_rows=shard_rows, token_budget=options.budget, **changes)
    # The warm-up has a folder of its own; two processes share theirs.
    out = options.out and options.out / f"{len(rows)}-rows-{options.portion.partition('/')[2]}"
    tokens = in_memory(_tokens(rows), Manifest(stage="tokens"))
    loaded = replace(loaded, settings=loaded.settings.model_copy(update={"compile": compiles}))
    scored = score(tokens, loaded, settings, out=out, launch=LaunchSettings(shard=options.portion if out else None))
    nll_N = np.concatenate([row.nll_T() for row in scored])
    return nll_N[~np.isnan(nll_N)]


def _patched(loaded, rows: list[Row], options: argparse.Namespace, by: Callable[..., None]) -> np.ndarray:
    """Ours on a model whose layers a library has patched, by transformers' own switch and without torch.compile."""
    if not getattr(loaded.model, "_patched_for_benchmark", False):
        by(loaded.model)
        loaded.model._patched_for_benchmark = True
    return _ours(loaded, rows, options, compiles="off")


def _with_liger(model) -> None:
    import liger_kernel  # noqa: F401
    from transformers.integrations.liger import apply_liger_kernel

    apply_liger_kernel(model, {"cross_entropy": False, "fused_linear_cross_entropy": False})


def _with_hub_kernels(model) -> None:
    import kernels  # noqa: F401

    try:
        model.set_use_kernels(True)
    except Exception as error:  # a Hub that cannot be reached, no build for this card
        raise Skipped(" ".join(f"{type(error).__name__}: {error}".split())[:120]) from error


def _long_row(loaded, rows: list[Row], options: argparse.Namespace) -> np.ndarray:
    """One row of 8,192 tokens, made of the given ones."""
    if len(rows) == 2:  # the warm-up
        return _ours(loaded, rows, options)
    ids = [token for row in rows for token in row.ids]
    ids = (ids * (1 + 8192 // len(ids)))[:8192]
    loaded.model.config.max_position_embeddings = 8192
    return _ours(loaded, [Row("", "", ids[:4096], ids[4096:])], options)


def _tokens(rows: list[Row]):
    from tokensieve.types import Tokens, ints

    made = []
    for index, row in enumerate(rows):
        ids_T = ints(row.ids)
        in_response_T = np.arange(len(ids_T)) >= len(row.prompt_ids)
        made.append(Tokens(f"row-{index}", ids_T, in_response_T, np.zeros(len(ids_T), dtype=np.bool_)))
    return made


def _one_row_loop(loaded, rows: list[Row], options: argparse.Namespace) -> np.ndarray:  # noqa: ARG001
    """One row at a time, full logits in float32: the plain way."""
    import torch

    nll = []
    with torch.inference_mode():
        for row in rows:
            ids = torch.tensor([row.ids], device=loaded.device)
            logits_TV = loaded.model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            nll_T = torch.nn.functional.cross_entropy(logits_TV, ids[0, 1:], reduction="none")
            nll.append(nll_T[len(row.prompt_ids) - 1 :].cpu().numpy())
    return np.concatenate(nll)


def _lm_eval(loaded, rows: list[Row], options: argparse.Namespace) -> np.ndarray:  # noqa: ARG001
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=8, max_length=2048)
    asked = [Instance("loglikelihood", {}, (row.prompt, row.response), index) for index, row in enumerate(rows)]
    sums = harness.loglikelihood(asked, disable_tqdm=True)
    return np.array([-sum(total for total, _ in sums) / sum(len(row.response_ids) for row in rows)])


def _trl(loaded, rows: list[Row], options: argparse.Namespace) -> np.ndarray:  # noqa: ARG001
    """TRL's fused head with rows sorted by length, padded, under our own token budget."""
    import torch
    from trl.trainer.utils import add_fused_lm_head

    if not getattr(loaded.model, "_fused_for_benchmark", False):
        add_fused_lm_head(loaded.model, cast_lm_head_to_fp32=True, outputs=("log_probs", "entropy", "is_top1"))
        loaded.model._fused_for_benchmark = True
    total, count = 0.0, 0
    order = sorted(rows, key=lambda row: -len(row.ids))
    with torch.inference_mode():
        for batch in _batches(order, 4096):
            longest = len(batch[0].ids)
            ids_BT = torch.zeros((len(batch), longest), dtype=torch.long)
            labels_BT = torch.full_like(ids_BT, -100)
            for index, row in enumerate(batch):
                length = len(row.ids)
                ids_BT[index, :length] = torch.tensor(row.ids)
                labels_BT[index, len(row.prompt_ids) : length] = torch.tensor(row.response_ids)
            ids_BT, labels_BT = ids_BT.to(loaded.device), labels_BT.to(loaded.device)
            found = loaded.model(input_ids=ids_BT, labels=labels_BT, fused_lm_head=True)
            total -= float(found.log_probs.double().sum())  # 0 at ignored places
            count += int((labels_BT[:, 1:] != -100).sum())
    return np.array([total / count])


def _batches(rows: list[Row], budget: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        longest = len(batch[0].ids) if batch else 0
        if batch and (len(batch) + 1) * longest > budget:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _vllm(loaded, rows: list[Row], options: argparse.Namespace) -> np.ndarray:  # noqa: ARG001
    import vllm  # noqa: F401

    from tokensieve.config import ModelSettings, ScoreSettings
    from tokensieve.data.dataset import in_memory
    from tokensieve.data.manifest import Manifest
    from tokensieve.scoring import open_vllm, score_with

    if not _VLLM:  # the warm-up starts it
        _VLLM.append(open_vllm(ModelSettings(model=options.model, dtype=options.dtype)))
    tokens = in_memory(_tokens(rows), Manifest(stage="tokens"))
    scored = score_with(tokens, _VLLM[0], ScoreSettings(use_store=False))
    nll_N = np.concatenate([row.nll_T() for row in scored])
    return nll_N[~np.isnan(nll_N)]


_VLLM: list = []

EAGER: Final = "ours, eager"
"""The contender that flips are counted against; where it is the default, ours."""

CONTENDERS: dict[str, Callable[..., np.ndarray]] = {
    "ours": _ours,
    EAGER: partial(_ours, compiles="off"),
    "ours, compiled": partial(_ours, compiles="on"),
    "ours, padded": partial(_ours, packing=False),
    "ours, nll only": partial(_ours, entropy=False, rank=False),
    "ours, head in model's dtype": partial(_ours, head_dtype="model"),
    "one-row loop": _one_row_loop,
    "TRL fused head": _trl,
    "lm-eval HFLM": _lm_eval,
    "ours, Liger's kernels": partial(_patched, by=_with_liger),
    "ours, Hub's kernels": partial(_patched, by=_with_hub_kernels),
    "vLLM prompt_logprobs": _vllm,
}
"""Those of the table, in its order."""

PACKAGES: Final = {
    "TRL fused head": "trl",
    "lm-eval HFLM": "lm_eval",
    "ours, Liger's kernels": "liger_kernel",
    "ours, Hub's kernels": "kernels",
    "vLLM prompt_logprobs": "vllm",
}
"""Libraries that contenders need; they change the model or take the card, and run in processes of their own."""

REPEATED: Final = ("limit", "one-row loop", "ours")
"""Those that run every round; the others run once."""

OTHERS: dict[str, Callable[..., np.ndarray]] = {"long row": _long_row}
"""Those that other tables run."""


def reason_not_to_run(name: str, options: argparse.Namespace, *, on_gpu: bool) -> str | None:
    """Why a contender has nothing to say here; None where it runs."""
    package = PACKAGES.get(name)
    if package is not None and importlib.util.find_spec(package) is None:
        return f"{package} is not installed"
    if name == (EAGER if not on_gpu else "ours, compiled"):
        return "the default on this device, as ours"
    if name == "ours, head in model's dtype" and options.dtype == "float32":
        return "the model's dtype is float32, as ours"
    if package in ("liger_kernel", "kernels") and not on_gpu:
        return "its kernels are for GPUs"
    if package == "vllm" and options.model.startswith("llama-"):
        return "a random model has no folder that vLLM could load: --model FOLDER"
    return None
