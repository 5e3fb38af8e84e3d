"""What scores rows, ours and others', for the scoring benchmark.

Each contender returns the mean nll of the response tokens, so that a table shows that they did the same.
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
from scoring_subjects import Row


def _ours(loaded, rows: list[Row], options: argparse.Namespace) -> float:
    from tokensieve.config import ScoreSettings
    from tokensieve.data.dataset import in_memory
    from tokensieve.data.manifest import Manifest
    from tokensieve.launch import parse_portion
    from tokensieve.scoring import score

    settings = ScoreSettings(use_store=False, shard_rows=max(1, len(rows) // 8) if options.out else 512)
    portion = parse_portion(options.portion)
    # The warm-up has a folder of its own; two processes share theirs.
    out = options.out and options.out / f"{len(rows)}-rows-{portion.count}"
    tokens = in_memory(_tokens(rows), Manifest(stage="tokens"))
    scored = score(tokens, loaded, settings, out=out, portion=portion)
    nll = np.concatenate([row.nll_T() for row in scored])
    return float(np.nanmean(nll))


def _long_row(loaded, rows: list[Row], options: argparse.Namespace) -> float:
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


def _one_row_loop(loaded, rows: list[Row], options: argparse.Namespace) -> float:  # noqa: ARG001
    """One row at a time, full logits in float32: the plain way."""
    import torch

    nll = []
    with torch.inference_mode():
        for row in rows:
            ids = torch.tensor([row.ids], device=loaded.device)
            logits_TV = loaded.model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            nll_T = torch.nn.functional.cross_entropy(logits_TV, ids[0, 1:], reduction="none")
            nll.append(nll_T[len(row.prompt_ids) - 1 :].cpu().numpy())
    return float(np.concatenate(nll).mean())


def _lm_eval(loaded, rows: list[Row], options: argparse.Namespace) -> float:  # noqa: ARG001
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    harness = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=8, max_length=2048)
    asked = [Instance("loglikelihood", {}, (row.prompt, row.response), index) for index, row in enumerate(rows)]
    sums = harness.loglikelihood(asked, disable_tqdm=True)
    return -sum(total for total, _ in sums) / sum(len(row.response_ids) for row in rows)


def _trl(loaded, rows: list[Row], options: argparse.Namespace) -> float:  # noqa: ARG001
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
    return total / count


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


def _vllm(loaded, rows: list[Row], options: argparse.Namespace) -> float:  # noqa: ARG001
    import vllm  # noqa: F401

    if options.model.startswith("llama-"):
        raise ImportError("a random model has no folder to be loaded from", name="vLLM takes --model FOLDER")
    from tokensieve.config import ModelSettings, ScoreSettings
    from tokensieve.data.dataset import in_memory
    from tokensieve.data.manifest import Manifest
    from tokensieve.scoring import open_vllm, score_with

    if not _VLLM:  # the warm-up starts it
        _VLLM.append(open_vllm(ModelSettings(model=options.model, dtype=options.dtype)))
    tokens = in_memory(_tokens(rows), Manifest(stage="tokens"))
    scored = score_with(tokens, _VLLM[0], ScoreSettings(use_store=False))
    return float(np.nanmean(np.concatenate([row.nll_T() for row in scored])))


_VLLM: list = []

CONTENDERS: dict[str, Callable[..., float]] = {
    "ours": _ours,
    "one-row loop": _one_row_loop,
    "lm-eval HFLM": _lm_eval,
    "TRL fused head": _trl,
    "vLLM": _vllm,
}
"""Those of the table, in its order."""

OTHERS: dict[str, Callable[..., float]] = {"long row": _long_row}
"""Those that other tables run."""
