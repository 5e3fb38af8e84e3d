"""Multiple choice by likelihood: ARC, PIQA, OpenBookQA, HellaSwag, WinoGrande and MMLU, zero-shot.

``NAME:nll`` takes the choice of smallest summed nll, ``NAME:nll_norm`` that of smallest nll per character: ``acc`` and
``acc_norm`` of lm-evaluation-harness, with its data sets and prompts; plain text, no chat template.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tokensieve.errors import InputError
from tokensieve.tasks.benchmark_io import Row, find_file, from_hub, read_rows, require_split, texts
from tokensieve.tasks.task import Continuation, Likelihood, LikelihoodChoice, Task
from tokensieve.types import JSON, Outcome, Problem, Verdict

_LETTERS: Final = ("A", "B", "C", "D")
_COLLECTION: Final = "multiple_choice"
"""Folder of files ``NAME.jsonl`` with ``query``, ``choices`` and ``gold``, as in llm-foundry's collection."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its choices.

    Attributes:
        contexts: text before each choice; one for all of them, or one for each.
        choices: the choices, or the one continuation of all contexts.
        gold: index of the right one.
        shown: the choices as a person reads them; those of ``choices`` where they differ.
    """

    contexts: tuple[str, ...]
    choices: tuple[str, ...]
    gold: int
    shown: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Benchmark:
    """A multiple-choice benchmark.

    Attributes:
        title: one line for people.
        data_set: name on the Hub.
        subset: configuration of the data set; None where it has one only.
        splits: our name of each split, with the Hub's. ``test`` is the split that the harness evaluates on: the
            published validation split where the labels of the test split are not public.
        read: the question in a row as published.
        prompt: the context of a ``query`` of the collection's format; None where that format has no such rows.
    """

    title: str
    data_set: str
    subset: str | None
    splits: Mapping[str, str]
    read: Callable[[Row], Question]
    prompt: Callable[[str], str] | None = None


def load(name: str, suffix: str, split: str, folder: Path | None) -> Iterator[Problem]:
    """The questions of a split, in the order of the file.

    Args:
        name: key in ``BENCHMARKS``.
        suffix: what the task's name has behind it.
        split: one of the benchmark's.
        folder: local copy: ``SPLIT.jsonl`` with the Hub's fields, or ``NAME.jsonl`` of the collection for ``test``.

    Raises:
        InputError: an unknown split, no such file, or a malformed row.
    """
    benchmark = BENCHMARKS[name]
    require_split(f"{name}{suffix}", split, tuple(benchmark.splits))
    for number, row in enumerate(_rows(name, benchmark, split, folder)):
        question = _from_collection(benchmark, row) if "query" in row.fields else benchmark.read(row)
        shown = question.shown or question.choices
        if not 0 <= question.gold < len(shown):
            raise InputError(f"the answer {question.gold} is none of {len(shown)} choices", where=row.where)
        facts: dict[str, JSON] = {
            "contexts": list(question.contexts),
            "choices": list(question.choices),
            "shown": list(shown),
            "answer": question.gold,
        }
        own = row.fields.get("id")
        problem_id = own if isinstance(own, str) else f"{name}/{split}/{number}"
        prompt = question.contexts[0] if len(question.contexts) == 1 else " / ".join(question.contexts)
        yield Problem(
            problem_id, f"{name}{suffix}", ({"role": "user", "content": prompt},), shown[question.gold], facts
        )


def _rows(name: str, benchmark: Benchmark, split: str, folder: Path | None) -> Iterator[Row]:
    published = benchmark.splits[split]
    if folder is None:
        return from_hub(benchmark.data_set, published, name=benchmark.subset)
    names = dict.fromkeys((f"{published}.jsonl", f"{split}.jsonl"))
    if split == "test":
        try:
            return read_rows(find_file(folder, name, *names))
        except InputError:
            return read_rows(find_file(folder, _COLLECTION, f"{name}.jsonl", *names))
    return read_rows(find_file(folder, name, *names))


def _from_collection(benchmark: Benchmark, row: Row) -> Question:
    if benchmark.prompt is None:
        raise InputError(f"expected the fields of {benchmark.data_set}, not 'query'", where=row.where)
    return Question((benchmark.prompt(row.text("query")),), row.texts("choices"), row.number("gold"))


def _asked(question: str) -> str:
    return f"Question: {question}\nAnswer:"


def _asked_in_collection(query: str) -> str:
    """The harness's prompt of a query, which has the same beginning and sometimes a line end already."""
    return f"{query.removesuffix(chr(10))}\nAnswer:"


def _labelled(row: Row) -> tuple[tuple[str, ...], int]:
    """The choices of a row, and the index of the one whose label is the answer."""
    offered = row.fields.get("choices")
    if not isinstance(offered, dict):
        raise InputError("expected 'choices' with 'text' and 'label'", where=row.where)
    labels = texts(offered.get("label"), "choices.label", row.where)
    choices = texts(offered.get("text"), "choices.text", row.where)
    gold = row.text("answerKey").lstrip()
    if len(labels) != len(choices) or gold not in labels:
        raise InputError(f"the answer {gold!r} is not among the choices {', '.join(labels)}", where=row.where)
    return choices, labels.index(gold)


def _arc(row: Row) -> Question:
    choices, gold = _labelled(row)
    return Question((_asked(row.text("question")),), choices, gold)


def _openbook_qa(row: Row) -> Question:
    choices, gold = _labelled(row)
    return Question((row.text("question_stem"),), choices, gold)


def _piqa(row: Row) -> Question:
    return Question((_asked(row.text("goal")),), (row.text("sol1"), row.text("sol2")), row.number("label"))


def _hellaswag(row: Row) -> Question:
    context = f"{row.text('activity_label')}: {row.text('ctx_a')} {row.text('ctx_b').capitalize()}"
    endings = tuple(_without_artifacts(ending) for ending in row.texts("endings"))
    return Question((_without_artifacts(context),), endings, _number(row, "label"))


def _without_artifacts(text: str) -> str:
    """A text of WikiHow without its bracketed marks, by the rule of lm-evaluation-harness."""
    text = text.strip().replace(" [title]", ". ")
    return re.sub(r"\[.*?\]", "", text).replace("  ", " ")


def _winogrande(row: Row) -> Question:
    """Each option in the sentence's gap; the rest of the sentence is what is scored."""
    before, gap, after = row.text("sentence").partition("_")
    if not gap:
        raise InputError("expected a gap '_' in 'sentence'", where=row.where)
    options = (row.text("option1"), row.text("option2"))
    return Question(tuple(before + option for option in options), (after.strip(),), _number(row, "answer") - 1, options)


def _mmlu(row: Row) -> Question:
    choices = row.texts("choices")
    if len(choices) != len(_LETTERS):
        raise InputError(f"expected {len(_LETTERS)} choices, got {len(choices)}", where=row.where)
    subject = row.text("subject").replace("_", " ")
    lines = "\n".join(f"{letter}. {choice}" for letter, choice in zip(_LETTERS, choices, strict=True))
    context = (
        f"The following are multiple choice questions (with answers) about {subject}.\n\n"
        f"{row.text('question').strip()}\n{lines}\nAnswer:"
    )
    return Question((context,), _LETTERS, row.number("answer"))


def _number(row: Row, name: str) -> int:
    """A whole number that the Hub keeps as text."""
    value = row.text(name)
    if not value.isdecimal():
        raise InputError(f"expected a number as text in {name!r}, got {value!r}", where=row.where)
    return int(value)


def continuations(problem: Problem) -> list[Continuation]:
    """The continuations that are scored, one a choice; each begins with the space behind its context."""
    contexts, choices = (texts(problem.facts[name], name, problem.id) for name in ("contexts", "choices"))
    count = max(len(contexts), len(choices))
    # One context for all choices, or (WinoGrande) one continuation of all contexts.
    contexts, choices = (part * count if len(part) == 1 else part for part in (contexts, choices))
    return [Continuation((), f" {choice}", context) for context, choice in zip(contexts, choices, strict=True)]


def judge(problem: Problem, likelihoods: Sequence[Likelihood], *, per_character: bool) -> Verdict:
    """The choice of smallest nll, summed or per character; the first of equal ones."""
    # The continuation's leading space does not count, as in the harness.
    lengths = [max(1, len(one.text) - 1) for one in continuations(problem)]
    values = [one.nll / length if per_character else one.nll for one, length in zip(likelihoods, lengths, strict=True)]
    best = min(range(len(values)), key=lambda place: values[place])
    shown = texts(problem.facts["shown"], "shown", problem.id)
    unit = "nats per character" if per_character else "nats"
    reason = (
        f"{', '.join(f'{value:.4g}' for value in values)} {unit}; the right one is number {problem.facts['answer']}"
    )
    return Verdict(Outcome.CORRECT if best == problem.facts["answer"] else Outcome.WRONG, shown[best], reason)


def check(problem: Problem, answer: str) -> Verdict:
    """Compare an answer in words with the right choice, white space at both ends set aside."""
    found = answer.strip()
    if not found:
        return Verdict(Outcome.NO_ANSWER, reason="the answer is empty")
    if found == problem.gold.strip():
        return Verdict(Outcome.CORRECT, found)
    return Verdict(Outcome.WRONG, found, f"expected {problem.gold.strip()}")


_ALL: Final = {"train": "train", "validation": "validation", "test": "test"}
_WITHOUT_TEST_LABELS: Final = {"train": "train", "test": "validation"}

BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    "arc_easy": Benchmark(
        "ARC-Easy: science questions", "allenai/ai2_arc", "ARC-Easy", _ALL, _arc, _asked_in_collection
    ),
    "arc_challenge": Benchmark(
        "ARC-Challenge: harder science questions", "allenai/ai2_arc", "ARC-Challenge", _ALL, _arc, _asked_in_collection
    ),
    "piqa": Benchmark("PIQA: everyday physics", "baber/piqa", None, _WITHOUT_TEST_LABELS, _piqa, _asked_in_collection),
    "openbook_qa": Benchmark(
        "OpenBookQA: elementary science", "allenai/openbookqa", "main", _ALL, _openbook_qa, lambda query: query
    ),
    "hellaswag": Benchmark(
        "HellaSwag: how a scene goes on",
        "Rowan/hellaswag",
        None,
        _WITHOUT_TEST_LABELS,
        _hellaswag,
        lambda query: query,
    ),
    "winogrande": Benchmark(
        "WinoGrande: whom a pronoun means", "allenai/winogrande", "winogrande_xl", _WITHOUT_TEST_LABELS, _winogrande
    ),
    "mmlu": Benchmark("MMLU: 57 subjects", "cais/mmlu", "all", {"validation": "validation", "test": "test"}, _mmlu),
}
"""The benchmarks by the first part of their tasks' names."""

_MEASURES: Final = {":nll": ("summed nll", False), ":nll_norm": ("nll per character", True)}


def _task(name: str, benchmark: Benchmark, suffix: str) -> Task:
    words, per_character = _MEASURES[suffix]
    return Task(
        name=f"{name}{suffix}",
        title=f"{benchmark.title}; the choice of smallest {words}",
        splits=tuple(benchmark.splits),
        load=partial(load, name, suffix),
        checker=check,
        likelihood_choice=LikelihoodChoice(continuations, partial(judge, per_character=per_character)),
    )


MULTIPLE_CHOICE_TASKS: Final[dict[str, Task]] = {
    f"{name}{suffix}": _task(name, benchmark, suffix) for name, benchmark in BENCHMARKS.items() for suffix in _MEASURES
}
