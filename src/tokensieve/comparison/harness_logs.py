"""Logs of lm-evaluation-harness and evalplus as judged answers, and the reading of JSON that all logs share.

An answer counts as right where its metric is 1. A metric with values between 0 and 1 is refused: it has no right and
wrong. Where a log tells that no answer was found in a text, the outcome is ``NO_ANSWER``: wrong format, not wrong
answer.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from tokensieve.comparison.answers import Answer, EvaluationAnswers
from tokensieve.errors import InputError
from tokensieve.tasks.benchmark_io import Row, read_rows
from tokensieve.types import JSON, Outcome

_LM_EVAL_NAME: Final = re.compile(r"samples_(?P<task>.+?)(?:_(?P<stamp>\d{4}-\d{2}-\d{2}T[\d.:-]+))?\.jsonl(?:\.gz)?")
_LM_EVAL_FIELDS: Final = frozenset(
    (
        "doc_id",
        "doc",
        "target",
        "arguments",
        "resps",
        "filtered_resps",
        "doc_hash",
        "prompt_hash",
        "target_hash",
        "filter",
    )
)
_NOT_FOUND: Final = ("[invalid]", "[no_answer]")
"""Results of lm-evaluation-harness' filters that stand for no answer."""
_PASSED: Final = ("pass", "success")


def is_lm_eval(path: Path) -> bool:
    """True for a folder with samples files of lm-evaluation-harness, or for one of them."""
    if path.is_dir():
        return any(path.rglob("samples_*.jsonl*"))
    return _LM_EVAL_NAME.fullmatch(path.name) is not None


def read_lm_eval(path: Path, metric: str, group_by: str) -> EvaluationAnswers:
    """A folder that ``lm_eval --log_samples --output_path`` has written; documents are paired by their hash.

    Raises:
        InputError: two runs of a task in one folder, a metric that is not there or is not 0 or 1, a damaged file.
    """
    files = _lm_eval_files(path)
    summary = _lm_eval_summary(path)
    answers: list[Answer] = []
    asked: dict[str, JSON] = {}
    notes: list[str] = []
    for task, file in files.items():
        rows = list(read_rows(file))
        name, filter_name = _measure(task, rows, metric)
        answers += _lm_eval_answers(task, rows, name, filter_name, group_by)
        asked[f"metric of {task}"] = f"{name},{filter_name}"
        asked |= _lm_eval_asked(task, summary)
        others = dict.fromkeys(str(row.fields.get("filter", "none")) for row in rows)
        if len(others) > 1:
            notes.append(f"{task} is judged behind the filter {filter_name}; there are: {', '.join(others)} (--metric)")
    versions: dict[str, JSON] = {
        f"version of {name}": summary.get(f"{name}_version") for name in ("lm_eval", "transformers")
    }
    dtype = as_object(summary.get("config")).get("model_dtype")
    return EvaluationAnswers(str(path), tuple(answers), asked, versions | {"dtype": dtype}, notes=tuple(notes))


def _lm_eval_files(path: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in sorted(path.rglob("samples_*.jsonl*")) if path.is_dir() else [path]:
        match = _LM_EVAL_NAME.fullmatch(file.name)
        if match is None:
            continue
        if match["task"] in found:
            raise InputError(
                f"two runs of the task {match['task']!r}: {found[match['task']].name} and {file.name}",
                where=str(path),
                fix="name one samples file, or a folder of one run",
            )
        found[match["task"]] = file
    return found


def _lm_eval_summary(path: Path) -> Mapping[str, JSON]:
    """The results file beside the samples; empty where there is none or there are several."""
    files = list(path.rglob("results_*.json")) if path.is_dir() else []
    return as_object(parse_json(files[0].read_bytes(), str(files[0]))) if len(files) == 1 else {}


def _lm_eval_asked(task: str, summary: Mapping[str, JSON]) -> dict[str, JSON]:
    config = as_object(as_object(summary.get("configs")).get(task))
    return {
        f"few-shot examples of {task}": as_object(summary.get("n-shot")).get(task),
        f"version of {task}": as_object(summary.get("versions")).get(task),
        f"task hash of {task}": as_object(summary.get("task_hashes")).get(task),
        f"generation settings of {task}": as_line(config.get("generation_kwargs")),
        "gen_kwargs": as_line(as_object(summary.get("config")).get("gen_kwargs")),
        "few-shot examples as turns": summary.get("fewshot_as_multiturn"),
        "system prompt": summary.get("system_instruction_sha"),
        "chat template": summary.get("chat_template_sha"),
    }


def _measure(task: str, rows: Sequence[Row], wanted: str) -> tuple[str, str]:
    """The metric and the filter that judge a task: those that are wanted, else the first."""
    if not rows:
        raise InputError("no samples", where=task)
    metric, _, filter_name = wanted.partition(",")
    filters = list(dict.fromkeys(str(row.fields.get("filter", "none")) for row in rows))
    if filter_name and filter_name not in filters:
        raise InputError(f"no filter {filter_name!r}", where=task, fix=f"filters: {', '.join(filters)}")
    first = rows[0].fields
    listed = first.get("metrics") or [name for name in first if name not in (*_LM_EVAL_FIELDS, "metrics")]
    metrics = [str(name) for name in listed] if isinstance(listed, list) else []
    binary = [name for name in metrics if all(is_binary(row.fields.get(name)) for row in rows)]
    if metric and metric not in metrics:
        raise InputError(f"no metric {metric!r}", where=task, fix=f"metrics: {', '.join(metrics)}")
    if not binary or (metric and metric not in binary):
        raise InputError(
            f"{metric or ', '.join(metrics)} is not 0 or 1 for each answer, so there is no right and wrong",
            where=task,
            fix=f"--metric {'|'.join(binary)}" if binary else "leave this task's file out",
        )
    return metric or binary[0], filter_name or filters[0]


def _lm_eval_answers(task: str, rows: Sequence[Row], metric: str, filter_name: str, group_by: str) -> Iterator[Answer]:
    seen: Counter[str] = Counter()
    for row in rows:
        fields = row.fields
        if str(fields.get("filter", "none")) != filter_name:
            continue
        name = str(fields.get("doc_hash") or fields.get("doc_id"))
        filtered = fields.get("filtered_resps")
        found = bool(fields[metric])
        lost = not found and _first(filtered) in _NOT_FOUND
        yield Answer(
            task=task,
            id=name if not seen[name] else f"{name}#{seen[name]}",
            outcome=Outcome.CORRECT if found else Outcome.NO_ANSWER if lost else Outcome.WRONG,
            text=_first(fields.get("resps")),
            gold=as_line(fields.get("target")),
            group=group_of(fields.get("doc"), group_by, row.where),
            prompt_digest=str(fields.get("prompt_hash") or ""),
        )
        seen[name] += 1


def looks_like_evalplus(content: Mapping[str, JSON]) -> bool:
    """True for the top level of an evalplus result file."""
    listed = content.get("eval")
    return isinstance(listed, dict) and "samples" not in content and all(_is_runs(v) for v in listed.values())


def read_evalplus(path: Path, metric: str, group_by: str) -> EvaluationAnswers:
    """Result files of evalplus: the base tests as one task, base and extra tests together as ``NAME_plus``.

    Raises:
        InputError: a damaged file, two files of one data set, or a metric or group, which these files do not have.
    """
    _refuse_options(path, metric, group_by)
    answers: dict[str, list[Answer]] = {}
    asked: dict[str, JSON] = {}
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        content = as_object(parse_json(file.read_bytes(), str(file)))
        if not looks_like_evalplus(content):
            continue
        listed = as_object(content["eval"])
        name = next(iter(listed), "evalplus").partition("/")[0].lower()
        if name in answers:
            raise InputError(f"two result files of {name}", where=str(path), fix="name one of the files")
        asked[f"problems of {name}"] = content.get("hash")
        for problem, runs in listed.items():
            for number, run in enumerate(as_objects(runs)):
                for task, passed in (
                    (name, run.get("base_status") in _PASSED),
                    (f"{name}_plus", run.get("base_status") in _PASSED and run.get("plus_status") in _PASSED),
                ):
                    if task.endswith("_plus") and run.get("plus_status") is None:
                        continue
                    text = str(run.get("solution") or "")
                    outcome = Outcome.CORRECT if passed else Outcome.WRONG if text.strip() else Outcome.NO_ANSWER
                    answers.setdefault(task, []).append(Answer(task, problem, outcome, number, text))
    return EvaluationAnswers(str(path), tuple(a for listed in answers.values() for a in listed), asked)


def _is_runs(value: JSON) -> bool:
    return isinstance(value, list) and all(isinstance(run, dict) and "base_status" in run for run in value)


def _refuse_options(path: Path, metric: str, group_by: str) -> None:
    for option, value in (("--metric", metric), ("--group-by", group_by)):
        if value:
            raise InputError(f"this file has no {value!r}", where=str(path), fix=f"leave {option} out")


def group_of(holder: JSON, field: str, where: str) -> str:
    """The value of a field, ``a.b`` for one inside another; empty where no field is asked for."""
    if not field:
        return ""
    value: JSON = holder
    for part in field.split("."):
        if not isinstance(value, dict) or part not in value:
            known = ", ".join(value) if isinstance(value, dict) else "none"
            raise InputError(f"no field {field!r} to group by; there are: {known}", where=where)
        value = value[part]
    return as_line(value)


def is_binary(value: JSON) -> bool:
    """True for 0, 1, and their floats and booleans."""
    return isinstance(value, bool | int | float) and value in (0, 1)


def _first(value: JSON) -> str:
    """The first text in nested lists, as the answers of a request lie; of likelihoods the values."""
    while isinstance(value, list) and value and not (len(value) > 1 and isinstance(value[0], list)):
        value = value[0]
    return as_line(value)


def as_line(value: JSON) -> str:
    """Text as it is, None as nothing, anything else as JSON in one line."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def as_object(value: JSON) -> Mapping[str, JSON]:
    """A JSON object as it is, anything else as an empty one."""
    return value if isinstance(value, dict) else {}


def as_objects(value: JSON) -> list[Mapping[str, JSON]]:
    """A JSON list as its objects, anything else as an empty list."""
    return [as_object(item) for item in value] if isinstance(value, list) else []


def parse_json(content: bytes, where: str) -> JSON:
    """The value in a JSON file.

    Raises:
        InputError: it is broken, or no UTF-8.
    """
    try:
        value: JSON = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"broken JSON: {error}", where=where) from None
    return value
