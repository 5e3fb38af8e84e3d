"""Assumptions about lm-evaluation-harness: run by itself on the same model, it finds the same, sample by sample."""

from pathlib import Path

import pytest
from tests.harness_tasks import WEIGHED, WRITTEN, write_task

from tokensieve.config import EvaluateSettings
from tokensieve.evaluation import evaluate
from tokensieve.models import load_model
from tokensieve.tasks.lm_eval_adapter import read_leaves


@pytest.mark.filterwarnings("ignore")
def test_the_harness_by_itself_finds_the_same(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (extra lm-eval)")
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    read_leaves.cache_clear()
    shots: dict[str, object] = {"num_fewshot": 1, "fewshot_split": "test"}
    # The harness's own model takes the limit of pocket's generation settings over the task's: here both say the same.
    write_task(tmp_path, {**WRITTEN, **shots, "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 256}})
    shares = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")]
    write_task(tmp_path, {**WEIGHED, **shots, "metric_list": shares})
    loaded = load_model("pocket")
    theirs = simple_evaluate(
        model=HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=4),
        tasks=["sums", "choices"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        apply_chat_template=True,
        fewshot_as_multiturn=True,
        log_samples=True,
        bootstrap_iters=0,
    )
    names = tuple(f"lm-eval:{tmp_path}/{name}" for name in ("sums", "choices", "choices:acc_norm"))
    ours: dict[str, list[bool]] = {}
    texts: list[str] = []
    for sample in evaluate(loaded, EvaluateSettings(tasks=names)).rows:
        assert sample.verdict is not None
        ours.setdefault(sample.task, []).append(sample.verdict.correct)
        texts += [sample.text] if sample.task == "lm-eval:sums" else []

    def found(task: str, metric: str, filter_name: str) -> list[bool]:
        samples = [s for s in theirs["samples"][task] if s["filter"] == filter_name]
        return [bool(s[metric]) for s in sorted(samples, key=lambda s: s["doc_id"])]

    assert ours["lm-eval:choices"] == found("choices", "acc", "none")
    assert ours["lm-eval:choices:acc_norm"] == found("choices", "acc_norm", "none")
    assert ours["lm-eval:sums"] == found("sums", "exact_match", "number")
    written = sorted((s for s in theirs["samples"]["sums"] if s["filter"] == "number"), key=lambda s: s["doc_id"])
    assert texts == [s["resps"][0][0] for s in written]
