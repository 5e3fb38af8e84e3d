"""Perplexity as a task: of plain text (``perplexity:PATH``), and of another task's reference answers.

``perplexity:PATH`` is a file or a folder of .txt, .md and .jsonl (field ``text``). Windows are stated in the name:
``perplexity:PATH,window=1024,stride=512``. A window holds so many tokens; the first one scores all of its tokens but
the first, every later one its last ``stride`` tokens, given all tokens before them in it.

``NAME:response_nll`` has the splits, prompts, checker and rephrase requests of the task NAME. It can be a study's
target where a model solves too few of the problems: what is learnt is read off the answers that it was to learn.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

from tokensieve.errors import InputError
from tokensieve.tasks.benchmark_io import read_rows, require_split
from tokensieve.tasks.task import Task, TextWindows
from tokensieve.types import Outcome, Problem, Sample, Verdict

PREFIX: Final = "perplexity:"
SUFFIX: Final = ":response_nll"
_SPLITS: Final = ("test",)
_SUFFIXES: Final = (".txt", ".md", ".jsonl", ".gz")
_WINDOW: Final = 1024


def read_perplexity_task(spelled: str) -> Task:
    """The task that ``perplexity:PATH`` stands for; every file, or row of a .jsonl file, is a text of its own.

    Raises:
        InputError: no such path, a file of another kind, or window and stride that do not fit each other.
    """
    place, *options = spelled.removeprefix(PREFIX).split(",")
    windows = _windows(options, spelled)
    name = f"{PREFIX}{place},window={windows.length},stride={windows.stride}"
    return Task(
        name=name,
        title=f"Perplexity of {place} in windows of {windows.length} tokens, stride {windows.stride}",
        splits=_SPLITS,
        load=partial(_load, name, Path(place)),
        checker=_not_judged,
        figures=_figures,
        windows=windows,
    )


def _windows(options: Sequence[str], where: str) -> TextWindows:
    given: dict[str, int] = {}
    for option in options:
        key, _, value = option.partition("=")
        if key not in ("window", "stride") or not value.isdecimal() or key in given:
            raise InputError(f"cannot read {option!r}", where=where, fix="perplexity:PATH,window=1024,stride=512")
        given[key] = int(value)
    length = given.get("window", _WINDOW)
    stride = given.get("stride", length // 2)
    if not 1 <= stride < length:
        raise InputError(
            f"a stride of {stride} does not fit a window of {length}: expected 1 to {length - 1}", where=where
        )
    return TextWindows(length, stride)


def _load(name: str, place: Path, split: str, folder: Path | None) -> Iterator[Problem]:  # noqa: ARG001 - the name says it
    require_split(name, split, _SPLITS)
    for label, text in _texts(place, name):
        yield Problem(f"{PREFIX}{label}", name, ({"role": "user", "content": label},), "", {"text": text})


def _texts(place: Path, where: str) -> Iterator[tuple[str, str]]:
    """Each text with its label: the file's path in the folder, and the line of a .jsonl file."""
    if place.is_dir():
        files = sorted(path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))
        if not files:
            raise InputError("no files in this folder", where=str(place))
    elif place.is_file():
        files = [place]
    else:
        raise InputError("no such file or folder", where=where)
    for path in files:
        label = str(path.relative_to(place)) if place.is_dir() else path.name
        if path.suffix not in _SUFFIXES or (path.suffix == ".gz" and not path.name.endswith(".jsonl.gz")):
            raise InputError(
                f"expected {', '.join(_SUFFIXES[:-1])} or .jsonl.gz", where=str(path), fix="name the text files alone"
            )
        if path.suffix in (".txt", ".md"):
            yield label, _read(path)
        else:
            for number, row in enumerate(read_rows(path)):
                yield f"{label}/{number}", row.text("text")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"no UTF-8 text: {error.reason} at byte {error.start}", where=str(path)) from None


def _not_judged(_problem: Problem, _answer: str) -> Verdict:
    return Verdict(Outcome.NOT_JUDGED, reason="a text's perplexity is neither right nor wrong")


def _figures(problems: Mapping[str, Problem], samples: Sequence[Sample]) -> dict[str, float]:
    """Nll in nats per token, its exponential, bits per UTF-8 byte, and what they are taken over."""
    scored = [sample for sample in samples if sample.ids]
    tokens = sum(len(sample.ids) for sample in scored)
    size = sum(len(str(problems[sample.problem_id].facts["text"]).encode()) for sample in scored)
    total = math.fsum(sample.nll * len(sample.ids) for sample in scored)
    if not tokens:
        return {"tokens": 0}
    return {
        "nll": total / tokens,
        "perplexity": math.exp(total / tokens),
        "bits_per_byte": total / math.log(2) / size,
        "tokens": tokens,
        "bytes": size,
    }


def response_nll_task(task: Task) -> Task:
    """The task that measures the reference answers of another one, token by token, and lets nothing be answered.

    Raises:
        InputError: the other one is measured by likelihoods itself.
    """
    if task.likelihood_choice is not None or task.measures_likelihood:
        raise InputError("it is measured by likelihoods already", where=task.name, fix=task.name)
    return replace(
        task,
        name=f"{task.name}{SUFFIX}",
        title=f"{task.title}; nll of the reference answers",
        figures=_response_figures,
        scores_gold=True,
    )


def _response_figures(problems: Mapping[str, Problem], samples: Sequence[Sample]) -> dict[str, float]:  # noqa: ARG001 - of every task
    """Nll in nats per response token, its exponential, and the number of tokens; all tokens pooled."""
    scored = [sample for sample in samples if sample.ids]
    tokens = sum(len(sample.ids) for sample in scored)
    if not tokens:
        return {"tokens": 0}
    nll = math.fsum(sample.nll * len(sample.ids) for sample in scored) / tokens
    return {"nll": nll, "perplexity": math.exp(nll), "tokens": tokens}
