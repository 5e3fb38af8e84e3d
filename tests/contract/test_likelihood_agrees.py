"""Likelihood tasks against lm-evaluation-harness on the same rows and model: the same verdict on every item."""

from pathlib import Path

import pytest
from tests.harness_tasks import write_task

from tokensieve.config import EvaluateSettings
from tokensieve.evaluation import evaluate
from tokensieve.models import load_model

LIMIT = 60
ROWS = {
    "arc_easy": ("multiple_choice/arc_easy.jsonl", "{{query}}\nAnswer:", "{{choices}}", "gold"),
    "piqa": ("multiple_choice/piqa.jsonl", "{{query}}Answer:", "{{choices}}", "gold"),
    "openbook_qa": ("multiple_choice/openbook_qa.jsonl", "{{query}}", "{{choices}}", "gold"),
    "arc_challenge": (
        "arc_challenge/test.jsonl",
        "Question: {{question}}\nAnswer:",
        "{{choices.text}}",
        "{{choices.label.index(answerKey)}}",
    ),
}
"""File, prompt, choices and answer in the harness's words."""


@pytest.mark.filterwarnings("ignore")
def test_every_item_has_the_harness_s_verdict(tmp_path: Path, shared_data: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (extra lm-eval)")
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    for name, (file, text, choice, target) in ROWS.items():
        write_task(
            tmp_path,
            {
                "task": f"by_harness_{name}",
                "dataset_path": "json",
                "dataset_kwargs": {"data_files": {"test": str(shared_data / file)}},
                "test_split": "test",
                "output_type": "multiple_choice",
                "doc_to_text": text,
                "doc_to_choice": choice,
                "doc_to_target": target,
                "metric_list": [
                    {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")
                ],
            },
        )
    loaded = load_model("pocket")
    theirs = simple_evaluate(
        model=HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=8),
        tasks=[f"by_harness_{name}" for name in ROWS],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
        limit=LIMIT,
    )
    names = tuple(f"{name}{measure}" for name in ROWS for measure in (":nll", ":nll_norm"))
    ours: dict[str, list[bool]] = {}
    for sample in evaluate(loaded, EvaluateSettings(tasks=names, data=shared_data, limit=LIMIT)).rows:
        assert sample.verdict is not None
        ours.setdefault(sample.task, []).append(sample.verdict.correct)
    for name in ROWS:
        items = sorted(theirs["samples"][f"by_harness_{name}"], key=lambda item: item["doc_id"])
        assert len(items) == LIMIT
        assert ours[f"{name}:nll"] == [bool(item["acc"]) for item in items]
        assert ours[f"{name}:nll_norm"] == [bool(item["acc_norm"]) for item in items]


def test_mmlu_subjects_are_named_as_in_the_harness() -> None:
    lm_eval = pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (extra lm-eval)")
    import yaml

    folder = Path(str(lm_eval.__file__)).parent / "tasks" / "mmlu" / "default"
    found = [yaml.safe_load(file.read_text()) for file in folder.glob("mmlu_*.yaml")]
    assert len(found) == 57
    for described in found:
        subject = described["dataset_name"].replace("_", " ")
        expected = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
        assert described["description"] == expected


@pytest.mark.filterwarnings("ignore")
def test_a_text_s_nll_is_the_harness_s_rolling_one(tmp_path: Path, shared_data: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed (extra lm-eval)")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    text = (shared_data / "arc_challenge" / "validation.jsonl").read_text(encoding="utf-8")[:6000]
    (tmp_path / "a.txt").write_text(text, encoding="utf-8")
    loaded = load_model("pocket")
    theirs = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=4, max_length=255)
    request = Instance("loglikelihood_rolling", {}, (text,), 0)
    (expected,) = theirs.loglikelihood_rolling([request], disable_tqdm=True)
    # The harness's windows are disjoint: each is given the one token before it.
    task = f"perplexity:{tmp_path / 'a.txt'},window=256,stride=255"
    figures = evaluate(loaded, EvaluateSettings(tasks=(task,))).figures[task]
    assert figures["nll"] * figures["tokens"] == pytest.approx(-expected, rel=1e-5)
