"""Tasks in lm-evaluation-harness's YAML format on a few rows of their own, for tests that need no hub."""

import json
from pathlib import Path

import yaml

ROWS = [
    {"question": "What is 1 + 1?", "answer": "2", "choices": ["1", "2", "3"], "label": 1},
    {"question": "What is 2 + 3?", "answer": "5", "choices": ["5", "6", "7"], "label": 0},
    {"question": "What is 4 + 4?", "answer": "8", "choices": ["9", "7", "8"], "label": 2},
    {"question": "What is 9 - 2?", "answer": "7", "choices": ["7", "9", "11"], "label": 0},
]

WRITTEN: dict[str, object] = {
    "task": "sums",
    "output_type": "generate_until",
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 24},
    "filter_list": [
        {
            "name": "number",
            "filter": [{"function": "regex", "regex_pattern": "(-?[0-9]+)"}, {"function": "take_first"}],
        },
        {"name": "whole", "filter": [{"function": "take_first"}]},
    ],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}

WEIGHED: dict[str, object] = {
    "task": "choices",
    "output_type": "multiple_choice",
    "doc_to_text": "{{question}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "label",
    "metric_list": [
        {"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm", "brier_score")
    ],
}


def write_task(folder: Path, task: dict[str, object], rows: list[dict[str, object]] | None = None) -> Path:
    """Write a task and its rows; the data set's cache lies beside them."""
    data = folder / f"{task['task']}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows or ROWS), encoding="utf-8")
    source = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
    }
    path = folder / f"{task['task']}.yaml"
    path.write_text(yaml.safe_dump(source | task), encoding="utf-8")
    return path
