"""Readers of judged answers, by form: evaluation folders and plain tables; other harnesses' logs in a module beside."""

import csv
import gzip
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tokensieve.comparison import harness_logs, inspect_logs
from tokensieve.comparison.answers import CUT_OFF_RULE, Answer, EvaluationAnswers
from tokensieve.data.dataset import Rows, open_rows_of
from tokensieve.data.manifest import MANIFEST_NAME, Manifest, read_manifest
from tokensieve.errors import InputError
from tokensieve.tasks.benchmark_io import read_rows
from tokensieve.types import JSON, Outcome, Sample

_IDENTITY: Final = ("name", "revision", "weights_digest", "adapter_digest")
"""Fields that say which model it is; all others say how it was run."""
_TABLES: Final = (".csv", ".tsv", ".jsonl", ".parquet", ".csv.gz", ".tsv.gz", ".jsonl.gz")
_COLUMNS: Final = {
    "id": ("id", "problem_id", "doc_id", "task_id"),
    "correct": ("correct", "is_correct"),
    "verdict": ("verdict", "outcome"),
    "task": ("task",),
    "sample": ("sample", "index", "epoch"),
    "group": ("group",),
    "text": ("answer", "text", "response"),
    "gold": ("gold", "target", "reference"),
    "finished": ("finished",),
}
"""Fields of an answer and the columns that they may come from, the preferred name first."""
_ONE_TASK: Final = "answers"
"""Task of a table without that column: a name of its own for each file would leave two of them nothing to compare."""
_TRUE: Final = ("true", "1", "1.0", "yes", "correct")
_FALSE: Final = ("false", "0", "0.0", "no", "wrong", "incorrect")


@dataclass(frozen=True, slots=True)
class Reader:
    """One form of evaluation.

    Attributes:
        form: its name in messages.
        recognises: True for a path that holds it.
        read: the answers; called with the path, the metric to judge by and the field that groups problems, both may be
            empty.
    """

    form: str
    recognises: Callable[[Path], bool]
    read: Callable[[Path, str, str], EvaluationAnswers]


def read_evaluation(path: str | Path, *, metric: str = "", group_by: str = "") -> EvaluationAnswers:
    """The judged answers in a folder or a file, in whichever of the known forms they lie.

    Args:
        path: the folder or file.
        metric: of a log that has several: ``METRIC`` or ``METRIC,FILTER`` of lm-evaluation-harness, a scorer of
            inspect.
        group_by: column, field of the document, or metadata field whose equal values make a group of problems.

    Raises:
        InputError: nothing there, or no form that is known, or a damaged one; a field that the form does not have.
    """
    place = Path(path)
    if not place.exists():
        raise InputError("there is no such file or folder", where=str(path))
    for reader in READERS:
        if reader.recognises(place):
            return reader.read(place, metric, group_by)
    raise InputError(
        "no evaluation is recognised here",
        where=str(path),
        fix=f"one of: {'; '.join(reader.form for reader in READERS)}",
    )


def answers_of_samples(rows: Rows[Sample], source: str) -> EvaluationAnswers:
    """An evaluation of this project in the common form."""
    answers = tuple(
        Answer(
            task=s.task,
            id=s.problem_id,
            outcome=Outcome.NOT_JUDGED if s.verdict is None else s.verdict.outcome,
            sample=s.index,
            text=s.text,
            finished=s.finished,
        )
        for s in rows
    )
    manifest = rows.manifest
    model = manifest.model
    return EvaluationAnswers(
        source=source,
        rows=answers,
        asked=_asked(manifest),
        computed=_computed(manifest),
        model="" if model is None else f"{model.weights_digest} {model.adapter_digest or ''}".strip(),
    )


def _asked(manifest: Manifest) -> dict[str, JSON]:
    settings = manifest.settings
    sampling = harness_logs.as_object(settings.get("sampling"))
    # An evaluation from before the rule could be chosen was made under the strict one.
    asked: dict[str, JSON] = {"split": settings.get("split"), CUT_OFF_RULE: settings.get("cut_off", "wrong")}
    for name, value in sampling.items():
        if name not in ("batch_size", "seed"):
            asked[f"sampling.{name}"] = value
    if sampling.get("temperature"):
        asked["sampling.seed"] = sampling.get("seed")
    for task, digest in manifest.inputs.items():
        asked[f"problems of {task}"] = digest[:12]
    return asked


def _computed(manifest: Manifest) -> dict[str, JSON]:
    model = {} if manifest.model is None else manifest.model.model_dump(mode="json")
    computed = {name.replace("_", " "): value for name, value in model.items() if name not in _IDENTITY}
    for name in ("tokenizer digest", "template digest"):
        computed[name] = str(computed.get(name) or "")[:12]
    return computed | {f"version of {name}": version for name, version in manifest.versions.items()}


def open_evaluated(folder: str | Path) -> Rows[Sample]:
    """The answers in a folder that ``evaluate`` has finished, with their verdicts.

    Raises:
        InputError: there is none.
    """
    stage = read_manifest(Path(folder)).stage
    if stage != "evaluated":
        raise InputError(
            f"this is the folder of a stage {stage!r}, expected an evaluation",
            where=str(folder),
            fix="tokensieve evaluate … makes one",
        )
    return open_rows_of(Sample, folder)


def _read_folder(path: Path, metric: str, group_by: str) -> EvaluationAnswers:
    rows = open_evaluated(path)
    for option, value in (("metric", metric), ("group-by", group_by)):
        if value:
            raise InputError(
                f"an evaluation folder has no {value!r} to choose", where=f"--{option}", fix=f"leave --{option} out"
            )
    return answers_of_samples(rows, str(path))


def _read_table(path: Path, metric: str, group_by: str) -> EvaluationAnswers:
    if metric:
        raise InputError("a table has one column of verdicts and no metric", where="--metric")
    columns = {**_COLUMNS, "group": (group_by,)} if group_by else _COLUMNS
    seen: dict[tuple[str, str, int], str] = {}
    answers: list[Answer] = []
    unread: dict[str, None] = {}
    for record, where in _records(path):
        names = {name: next((c for c in listed if c in record), "") for name, listed in columns.items()}
        if group_by and not names["group"]:
            raise InputError(f"no column {group_by!r}; there are: {', '.join(record)}", where=where)
        unread |= dict.fromkeys(column for column in record if column not in names.values())
        answer = _answer(record, names, where)
        key = (answer.task, answer.id, answer.sample)
        if key in seen:
            raise InputError(
                f"problem {answer.id!r} was answered in {seen[key]} already",
                where=where,
                fix="number several answers to a problem from 0 in a column 'sample'",
            )
        seen[key] = where
        answers.append(answer)
    note = f"columns that are not read: {', '.join(unread)}"
    return EvaluationAnswers(str(path), tuple(answers), notes=(note,) if unread else ())


def _answer(record: Mapping[str, object], names: Mapping[str, str], where: str) -> Answer:
    def text(name: str, default: str = "") -> str:
        value = record.get(names[name])
        return default if value is None or not names[name] else str(value)

    if not names["id"] or not (names["correct"] or names["verdict"]):
        raise InputError(
            f"expected the columns 'id' and 'correct' (or 'verdict'), got: {', '.join(record) or 'none'}", where=where
        )
    sample = text("sample", "0")
    if not sample.isdecimal():
        raise InputError(f"expected the answer's number in {names['sample']!r}, got {sample!r}", where=where)
    finished = text("finished", "true").lower()
    if finished not in (*_TRUE, *_FALSE):
        raise InputError(f"expected true or false in {names['finished']!r}, got {finished!r}", where=where)
    return Answer(
        task=text("task") or _ONE_TASK,
        id=text("id"),
        outcome=_outcome(text("verdict"), text("correct"), names, where),
        sample=int(sample),
        text=text("text"),
        gold=text("gold"),
        group=text("group"),
        finished=finished in _TRUE,
    )


def _outcome(verdict: str, correct: str, names: Mapping[str, str], where: str) -> Outcome:
    if names["verdict"] and verdict:
        if verdict not in {outcome.value for outcome in Outcome}:
            known = ", ".join(outcome.value for outcome in Outcome)
            raise InputError(f"no verdict {verdict!r}", where=where, fix=f"one of: {known}")
        if correct and (correct.lower() in _TRUE) != (verdict == Outcome.CORRECT.value):
            raise InputError(f"the verdict is {verdict!r}, but {names['correct']!r} is {correct!r}", where=where)
        return Outcome(verdict)
    if correct.lower() in _TRUE:
        return Outcome.CORRECT
    if correct.lower() in _FALSE:
        return Outcome.WRONG
    raise InputError(
        f"expected true or false (1 or 0) in {names['correct']!r}, got {correct!r}",
        where=where,
        fix="a score between 0 and 1 must be cut at a threshold first",
    )


def _records(path: Path) -> Iterator[tuple[Mapping[str, object], str]]:
    """The rows of a table with the place of each."""
    kind = path.name.removesuffix(".gz").rpartition(".")[2]
    if kind == "jsonl":
        yield from ((row.fields, row.where) for row in read_rows(path))
        return
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            listed = pq.read_table(path).to_pylist()
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"no Parquet file: {error}", where=str(path)) from None
        yield from ((row, f"{path}, row {number}") for number, row in enumerate(listed))
        return
    try:
        with (
            gzip.open(path, "rt", encoding="utf-8-sig", newline="")
            if path.suffix == ".gz"
            else path.open(encoding="utf-8-sig", newline="") as lines
        ):
            table = csv.DictReader(lines, delimiter="\t" if kind == "tsv" else ",")
            for row in table:
                where = f"{path}:{table.line_num}"
                if None in row or None in row.values():
                    raise InputError(f"expected {len(table.fieldnames or ())} values as in the first line", where=where)
                yield row, where
    except (UnicodeDecodeError, csv.Error, gzip.BadGzipFile, EOFError) as error:
        raise InputError(f"no table of comma-separated text: {error}", where=str(path)) from None


def _is_json_of(path: Path, fits: Callable[[Mapping[str, JSON]], bool]) -> bool:
    """True for a JSON file whose top-level object fits."""
    if not path.is_file() or path.suffix != ".json":
        return False
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError):
        return False
    return isinstance(content, dict) and fits(content)


def _is_evalplus(path: Path) -> bool:
    return _any_file(path, lambda f: _is_json_of(f, harness_logs.looks_like_evalplus))


def _is_inspect(path: Path) -> bool:
    return _any_file(path, lambda f: f.suffix == ".eval" or _is_json_of(f, inspect_logs.looks_like_inspect))


def _any_file(path: Path, fits: Callable[[Path], bool]) -> bool:
    files: Iterable[Path] = sorted(path.iterdir()) if path.is_dir() else [path]
    return any(fits(file) for file in files)


def _is_table(path: Path) -> bool:
    return path.is_file() and path.name.endswith(_TABLES)


READERS: Final = (
    Reader("a folder of tokensieve evaluate", lambda p: (p / MANIFEST_NAME).is_file(), _read_folder),
    Reader(
        "a --log_samples folder of lm-evaluation-harness, or one samples_*.jsonl of it",
        harness_logs.is_lm_eval,
        harness_logs.read_lm_eval,
    ),
    Reader("an eval_results.json of evalplus", _is_evalplus, harness_logs.read_evalplus),
    Reader("a log of inspect (.eval or .json)", _is_inspect, inspect_logs.read_inspect),
    Reader("a table with the columns id and correct (.csv, .tsv, .jsonl, .parquet)", _is_table, _read_table),
)
"""The forms, in the order in which they are tried."""
