"""Logs of other harnesses as judged answers: lm-evaluation-harness, evalplus, inspect.

An answer counts as right where its metric is 1. A metric with values between 0 and 1 is refused: it has no right and
wrong. Where a log tells that no answer was found in a text, the outcome is ``NO_ANSWER``: wrong format, not wrong
answer.
"""

import hashlib
import json
import os
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, cast

import pyarrow as pa

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
_ZSTD: Final = 93
"""Number of the compression method in zip archives."""
_LOCAL_HEADER: Final = 30
"""Bytes of a file's header in a zip archive, before its name."""
_PASSED: Final = ("pass", "success")
_MARKS: Final = {"C": Outcome.CORRECT, "I": Outcome.WRONG, "N": Outcome.NO_ANSWER}


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
    dtype = _object(summary.get("config")).get("model_dtype")
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
    return _object(_json(files[0].read_bytes(), str(files[0]))) if len(files) == 1 else {}


def _lm_eval_asked(task: str, summary: Mapping[str, JSON]) -> dict[str, JSON]:
    config = _object(_object(summary.get("configs")).get(task))
    return {
        f"few-shot examples of {task}": _object(summary.get("n-shot")).get(task),
        f"version of {task}": _object(summary.get("versions")).get(task),
        f"task hash of {task}": _object(summary.get("task_hashes")).get(task),
        f"generation settings of {task}": _line(config.get("generation_kwargs")),
        "gen_kwargs": _line(_object(summary.get("config")).get("gen_kwargs")),
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
    metrics = cast(
        "list[str]", first.get("metrics") or [name for name in first if name not in (*_LM_EVAL_FIELDS, "metrics")]
    )
    binary = [name for name in metrics if all(_is_binary(row.fields.get(name)) for row in rows)]
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
            gold=_line(fields.get("target")),
            group=_group(fields.get("doc"), group_by, row.where),
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
        content = _object(_json(file.read_bytes(), str(file)))
        if not looks_like_evalplus(content):
            continue
        listed = _object(content["eval"])
        name = next(iter(listed), "evalplus").partition("/")[0].lower()
        if name in answers:
            raise InputError(f"two result files of {name}", where=str(path), fix="name one of the files")
        asked[f"problems of {name}"] = content.get("hash")
        for problem, runs in listed.items():
            for number, run in enumerate(_evalplus_runs(runs)):
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


def _evalplus_runs(runs: JSON) -> list[Mapping[str, JSON]]:
    return cast("list[Mapping[str, JSON]]", runs)


def looks_like_inspect(content: Mapping[str, JSON]) -> bool:
    """True for the top level of a log of inspect."""
    return isinstance(content.get("eval"), dict) and "version" in content and "status" in content


def read_inspect(path: Path, metric: str, group_by: str) -> EvaluationAnswers:
    """Logs of inspect: a file, or a folder with one log a task; epochs are several answers to a problem.

    Raises:
        InputError: a run that did not end well, two logs of one task, a scorer that is not there, a score that is
            neither right nor wrong, a damaged file.
    """
    files = [f for f in sorted(path.iterdir()) if f.suffix in (".eval", ".json")] if path.is_dir() else [path]
    answers: list[Answer] = []
    asked: dict[str, JSON] = {}
    computed: dict[str, JSON] = {}
    tasks: set[str] = set()
    for file in files:
        header, samples = _inspect_log(file)
        if not looks_like_inspect(header):
            continue
        about = _object(header["eval"])
        task = str(about.get("task") or file.stem)
        if task in tasks:
            raise InputError(f"two logs of the task {task!r}", where=str(path), fix="name one of the files")
        if header["status"] != "success":
            raise InputError(f"the run's status is {header['status']!r}, expected 'success'", where=str(file))
        tasks.add(task)
        scorer = _scorer(samples, metric, str(file))
        answers += [_inspect_answer(task, sample, scorer, group_by, str(file)) for sample in samples]
        asked |= {f"scorer of {task}": scorer} | _inspect_asked(task, about)
        computed |= {f"version of {name}": v for name, v in _object(about.get("packages")).items()}
    return EvaluationAnswers(str(path), tuple(answers), asked, computed)


def _inspect_log(file: Path) -> tuple[Mapping[str, JSON], list[Mapping[str, JSON]]]:
    """A log's header and its samples."""
    if file.suffix != ".eval":
        content = _object(_json(file.read_bytes(), str(file)))
        return content, cast("list[Mapping[str, JSON]]", content.get("samples") or [])
    try:
        with zipfile.ZipFile(file) as packed:
            names = sorted(name for name in packed.namelist() if re.fullmatch(r"samples/.+\.json", name))
            if "header.json" not in packed.namelist():
                raise InputError("no header.json in the log: the run was not finished", where=str(file))
            header = _object(_json(_member(packed, "header.json"), f"{file}, header.json"))
            return header, [_object(_json(_member(packed, name), f"{file}, {name}")) for name in names]
    except (zipfile.BadZipFile, EOFError, OSError, pa.ArrowException) as error:
        raise InputError(f"the log is damaged: {error}", where=str(file)) from None
    except NotImplementedError:
        raise InputError(
            "packed in a way that this Python cannot unpack",
            where=str(file),
            fix=f"inspect log convert --to json --output-dir DIR {file}",
        ) from None


def _member(packed: zipfile.ZipFile, name: str) -> bytes:
    """A file of a zip archive, also where it is packed by zstd, which ``zipfile`` reads from Python 3.14 on."""
    found = packed.getinfo(name)
    if found.compress_type != _ZSTD:
        return packed.read(name)
    archive = packed.fp
    if archive is None:
        raise zipfile.BadZipFile("the archive is closed")
    archive.seek(found.header_offset)
    header = archive.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER:
        raise zipfile.BadZipFile(f"{name} is cut short")
    archive.seek(sum(struct.unpack("<HH", header[-4:])), os.SEEK_CUR)  # its name and extra field
    content = archive.read(found.compress_size)
    unpacked = bytes(pa.decompress(content, decompressed_size=found.file_size, codec="zstd"))
    if zlib.crc32(unpacked) != found.CRC:
        raise zipfile.BadZipFile(f"the checksum of {name} is another one")
    return unpacked


def _inspect_asked(task: str, about: Mapping[str, JSON]) -> dict[str, JSON]:
    return {
        f"version of {task}": about.get("task_version"),
        f"arguments of {task}": _line(about.get("task_args") or None),
        f"epochs of {task}": _object(about.get("config")).get("epochs"),
        f"generation settings of {task}": _line(about.get("model_generate_config") or None),
    }


def _scorer(samples: Sequence[Mapping[str, JSON]], wanted: str, where: str) -> str:
    names = list(dict.fromkeys(name for sample in samples for name in _object(sample.get("scores"))))
    if not names:
        raise InputError("no sample has a score", where=where, fix="inspect score LOG")
    if wanted and wanted not in names:
        raise InputError(f"no scorer {wanted!r}", where=where, fix=f"scorers: {', '.join(names)}")
    return wanted or names[0]


def _inspect_answer(task: str, sample: Mapping[str, JSON], scorer: str, group_by: str, where: str) -> Answer:
    place = f"{where}, sample {sample.get('id')}"
    output = _object(sample.get("output"))
    choices = cast("list[Mapping[str, JSON]]", output.get("choices") or [])
    text = str(output.get("completion") or _content(_object(choices[0].get("message")) if choices else {}))
    epoch = sample.get("epoch")
    return Answer(
        task=task,
        id=str(sample.get("id")),
        outcome=_mark(_object(_object(sample.get("scores")).get(scorer)).get("value"), place),
        sample=epoch - 1 if isinstance(epoch, int) else 0,
        text=text,
        gold=_line(sample.get("target")),
        group=_group(sample.get("metadata"), group_by, place),
        prompt_digest=hashlib.sha256(_line(sample.get("input")).encode()).hexdigest(),
        finished=not (choices and choices[0].get("stop_reason") == "max_tokens"),
    )


def _mark(value: JSON, where: str) -> Outcome:
    """The outcome of a score: C, I, N, or 1 and 0; none is not judged."""
    if value is None:
        return Outcome.NOT_JUDGED
    if isinstance(value, str) and value in _MARKS:
        return _MARKS[value]
    if _is_binary(value):
        return Outcome.CORRECT if value else Outcome.WRONG
    raise InputError(
        f"a score of {value!r} is neither right nor wrong", where=where, fix="--metric NAME takes another scorer"
    )


def _content(message: Mapping[str, JSON]) -> str:
    """The text of a message, also where its content is a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(_object(part).get("text") or "") for part in content)
    return str(content or "")


def _refuse_options(path: Path, metric: str, group_by: str) -> None:
    for option, value in (("--metric", metric), ("--group-by", group_by)):
        if value:
            raise InputError(f"this file has no {value!r}", where=str(path), fix=f"leave {option} out")


def _group(holder: JSON, field: str, where: str) -> str:
    """The value of a field, ``a.b`` for one inside another; empty where no field is asked for."""
    if not field:
        return ""
    value: JSON = holder
    for part in field.split("."):
        if not isinstance(value, dict) or part not in value:
            known = ", ".join(value) if isinstance(value, dict) else "none"
            raise InputError(f"no field {field!r} to group by; there are: {known}", where=where)
        value = value[part]
    return _line(value)


def _is_binary(value: JSON) -> bool:
    return isinstance(value, bool | int | float) and value in (0, 1)


def _first(value: JSON) -> str:
    """The first text in nested lists, as the answers of a request lie; of likelihoods the values."""
    while isinstance(value, list) and value and not (len(value) > 1 and isinstance(value[0], list)):
        value = value[0]
    return _line(value)


def _line(value: JSON) -> str:
    """Text as it is, None as nothing, anything else as JSON in one line."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _object(value: JSON) -> Mapping[str, JSON]:
    return value if isinstance(value, dict) else {}


def _json(content: bytes, where: str) -> JSON:
    try:
        return cast("JSON", json.loads(content.decode("utf-8")))
    except (ValueError, RecursionError) as error:
        raise InputError(f"broken JSON: {error}", where=where) from None
