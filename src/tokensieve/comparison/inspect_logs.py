"""Logs of inspect as judged answers, plain JSON and ``.eval`` archives; epochs are several answers to a problem."""

import hashlib
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa

from tokensieve.comparison.answers import Answer, EvaluationAnswers
from tokensieve.comparison.harness_logs import as_line, as_object, as_objects, group_of, is_binary, parse_json
from tokensieve.errors import InputError
from tokensieve.types import JSON, Outcome

_ZSTD: Final = 93
"""Number of the compression method in zip archives."""
_LOCAL_HEADER: Final = 30
"""Bytes of a file's header in a zip archive, before its name."""
_MARKS: Final = {"C": Outcome.CORRECT, "I": Outcome.WRONG, "N": Outcome.NO_ANSWER}


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
        about = as_object(header["eval"])
        task = str(about.get("task") or file.stem)
        if task in tasks:
            raise InputError(f"two logs of the task {task!r}", where=str(path), fix="name one of the files")
        if header["status"] != "success":
            raise InputError(f"the run's status is {header['status']!r}, expected 'success'", where=str(file))
        tasks.add(task)
        scorer = _scorer(samples, metric, str(file))
        answers += [_inspect_answer(task, sample, scorer, group_by, str(file)) for sample in samples]
        asked |= {f"scorer of {task}": scorer} | _inspect_asked(task, about)
        computed |= {f"version of {name}": v for name, v in as_object(about.get("packages")).items()}
    return EvaluationAnswers(str(path), tuple(answers), asked, computed)


def _inspect_log(file: Path) -> tuple[Mapping[str, JSON], list[Mapping[str, JSON]]]:
    """A log's header and its samples."""
    if file.suffix != ".eval":
        content = as_object(parse_json(file.read_bytes(), str(file)))
        return content, as_objects(content.get("samples"))
    try:
        with zipfile.ZipFile(file) as packed:
            names = sorted(name for name in packed.namelist() if re.fullmatch(r"samples/.+\.json", name))
            if "header.json" not in packed.namelist():
                raise InputError("no header.json in the log: the run was not finished", where=str(file))
            header = as_object(parse_json(_member(packed, "header.json"), f"{file}, header.json"))
            return header, [as_object(parse_json(_member(packed, name), f"{file}, {name}")) for name in names]
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
        f"arguments of {task}": as_line(about.get("task_args") or None),
        f"epochs of {task}": as_object(about.get("config")).get("epochs"),
        f"generation settings of {task}": as_line(about.get("model_generate_config") or None),
    }


def _scorer(samples: Sequence[Mapping[str, JSON]], wanted: str, where: str) -> str:
    names = list(dict.fromkeys(name for sample in samples for name in as_object(sample.get("scores"))))
    if not names:
        raise InputError("no sample has a score", where=where, fix="inspect score LOG")
    if wanted and wanted not in names:
        raise InputError(f"no scorer {wanted!r}", where=where, fix=f"scorers: {', '.join(names)}")
    return wanted or names[0]


def _inspect_answer(task: str, sample: Mapping[str, JSON], scorer: str, group_by: str, where: str) -> Answer:
    place = f"{where}, sample {sample.get('id')}"
    output = as_object(sample.get("output"))
    choices = as_objects(output.get("choices"))
    text = str(output.get("completion") or _content(as_object(choices[0].get("message")) if choices else {}))
    epoch = sample.get("epoch")
    return Answer(
        task=task,
        id=str(sample.get("id")),
        outcome=_mark(as_object(as_object(sample.get("scores")).get(scorer)).get("value"), place),
        sample=epoch - 1 if isinstance(epoch, int) else 0,
        text=text,
        gold=as_line(sample.get("target")),
        group=group_of(sample.get("metadata"), group_by, place),
        prompt_digest=hashlib.sha256(as_line(sample.get("input")).encode()).hexdigest(),
        finished=not (choices and choices[0].get("stop_reason") == "max_tokens"),
    )


def _mark(value: JSON, where: str) -> Outcome:
    """The outcome of a score: C, I, N, or 1 and 0; none is not judged."""
    if value is None:
        return Outcome.NOT_JUDGED
    if isinstance(value, str) and value in _MARKS:
        return _MARKS[value]
    if is_binary(value):
        return Outcome.CORRECT if value else Outcome.WRONG
    raise InputError(
        f"a score of {value!r} is neither right nor wrong", where=where, fix="--metric NAME takes another scorer"
    )


def _content(message: Mapping[str, JSON]) -> str:
    """The text of a message, also where its content is a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(as_object(part).get("text") or "") for part in content)
    return str(content or "")
