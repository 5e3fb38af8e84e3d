"""Tasks of lm-evaluation-harness as tasks of ours: its prompts, filters and metrics; our samplers and folders.

    lm-eval:truthfulqa_mc1                        a task, or a group of tasks, by the first of its metrics
    lm-eval:hellaswag:acc_norm                    by another one
    lm-eval:gsm8k:exact_match,flexible-extract    behind another of its filters
    lm-eval:FOLDER/mine, lm-eval:mine.yaml        from files in the harness's YAML format

Prompts go through the model's chat template, few-shot examples as turns of their own, as with the harness's
``--apply_chat_template``. A metric must be 0 or 1 for each answer. Needs the extra ``lm-eval``.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, cast

from tokensieve.errors import InputError
from tokensieve.tasks.answer_text import behind_reasoning
from tokensieve.tasks.benchmark_io import require_split, texts
from tokensieve.tasks.lm_eval_adapter import Asked, Doc, Leaf, read_leaves
from tokensieve.tasks.task import Continuation, Likelihood, LikelihoodChoice, Task
from tokensieve.types import JSON, Message, Outcome, Problem, Verdict

PREFIX: Final = "lm-eval:"

_SPLITS: Final = ("test",)


def read_harness_task(spelled: str) -> Task:
    """The task that a name with ``lm-eval:`` before it stands for.

    Its one split, ``test``, is whichever the harness evaluates on; a folder of local copies is not read.

    Raises:
        InputError: no such task, metric or filter, or one whose answers cannot be right or wrong here.
        EnvironmentProblem: the harness is not installed, or the task's data cannot be had.
    """
    place, _, measure = spelled.removeprefix(PREFIX).partition(":")
    folder, slash, name = place.rpartition("/")
    is_file = place.endswith((".yaml", ".yml"))
    leaves = read_leaves(place, None) if is_file or not slash else read_leaves(name, folder)
    title = leaves[0].name if is_file else name
    harness = _Harness(f"{PREFIX}{title}{f':{measure}' if measure else ''}", {leaf.name: leaf for leaf in leaves})
    metric, _, filter_name = measure.partition(",")
    harness.check_names(metric, filter_name)
    return Task(
        name=harness.name,
        title=f"{title} of lm-evaluation-harness, by {metric or leaves[0].metrics[0]}",
        splits=_SPLITS,
        load=harness.load,
        checker=partial(harness.check, metric, filter_name),
        max_new_tokens=max(leaf.max_new_tokens for leaf in leaves),
        ended=harness.ended,
        likelihood_choice=LikelihoodChoice(harness.continuations, partial(harness.judge_likelihoods, metric))
        if harness.by_likelihood
        else None,
    )


@dataclass(frozen=True, slots=True)
class _Harness:
    """A task or group of the harness under our name."""

    name: str
    leaves: Mapping[str, Leaf]

    @property
    def by_likelihood(self) -> bool:
        """True where the likeliest of given texts is the answer."""
        return next(iter(self.leaves.values())).by_likelihood

    def check_names(self, metric: str, filter_name: str) -> None:
        """Refuse a metric or filter that a task does not have, and a group of unlike tasks."""
        if len({leaf.by_likelihood for leaf in self.leaves.values()}) > 1:
            raise InputError(
                "some tasks of this group are answered in writing and some by the likelihood of given texts",
                where=self.name,
            )
        for leaf in self.leaves.values():
            if metric and metric not in leaf.metrics:
                raise InputError(f"no metric {metric!r}", where=self.name, fix=f"metrics: {', '.join(leaf.metrics)}")
            if not leaf.higher_is_better(metric or leaf.metrics[0]):
                raise InputError(f"the lower {metric or leaf.metrics[0]} the better: no share of right answers")
            if filter_name and filter_name not in leaf.filters:
                raise InputError(
                    f"no filter {filter_name!r}", where=self.name, fix=f"filters: {', '.join(leaf.filters)}"
                )

    def load(self, split: str, folder: Path | None) -> Iterator[Problem]:  # noqa: ARG002 - the YAML names its data
        """The problems of all tasks, one task after the other."""
        require_split(self.name, split, _SPLITS)
        for leaf in self.leaves.values():
            for number, doc, asked in leaf.asked():
                yield Problem(
                    f"{PREFIX}{leaf.name}/{split}/{number}",
                    self.name,
                    asked.prompt,
                    leaf.gold(doc),
                    _facts(leaf, number, doc, asked),
                )

    def ended(self, problem: Problem, text: str) -> str | None:
        """The answer up to the first of the task's stop texts behind its reasoning."""
        until = texts(problem.facts.get("until", []), "until", problem.id)
        final = behind_reasoning(text)
        begin = len(text) - len(final) if final is not None and text.endswith(final) else 0
        places = [place for stop in until if stop and (place := text.find(stop, begin)) >= 0]
        return text[: min(places)] if places else None

    def check(self, metric: str, filter_name: str, problem: Problem, answer: str) -> Verdict:
        """Judge a written answer by the metric; one that names a choice, by that choice."""
        leaf, doc = self._row(problem)
        if self.by_likelihood:
            right = answer.strip() == problem.gold.strip()
            return Verdict(Outcome.CORRECT if right else Outcome.WRONG, answer.strip(), f"expected {problem.gold}")
        with leaf.lock:
            try:
                found = leaf.found(doc, answer, filter_name or leaf.filters[0])
                values = leaf.measured(doc, [found])
            except Exception as error:  # noqa: BLE001 - the harness's code on a model's text: reported in the verdict
                return Verdict(Outcome.NOT_JUDGED, reason=f"the harness raised {type(error).__name__}: {error}")
        return self._verdict(values, metric or leaf.metrics[0], found if isinstance(found, str) else None)

    def continuations(self, problem: Problem) -> tuple[Continuation, ...]:
        """The texts whose likelihoods are compared."""
        listed = cast("list[dict[str, JSON]]", problem.facts["choices"])
        return tuple(Continuation(_messages(choice["prompt"]), str(choice["text"])) for choice in listed)

    def judge_likelihoods(self, metric: str, problem: Problem, likelihoods: Sequence[Likelihood]) -> Verdict:
        """Judge a model that finds the texts this likely."""
        leaf, doc = self._row(problem)
        with leaf.lock:
            values = leaf.measured(doc, [(-each.nll, each.greedy) for each in likelihoods])
        likeliest = min(range(len(likelihoods)), key=lambda place: likelihoods[place].nll)
        return self._verdict(values, metric or leaf.metrics[0], self.continuations(problem)[likeliest].text)

    def _row(self, problem: Problem) -> tuple[Leaf, Doc]:
        leaf = self.leaves[str(problem.facts["task"])]
        return leaf, leaf.doc(int(str(problem.facts["row"])))

    def _verdict(self, values: Mapping[str, object], metric: str, extracted: str | None) -> Verdict:
        value = values.get(metric)
        if value not in (0, 1):
            raise InputError(
                f"{metric} = {value} of an answer is neither 0 nor 1, so that it is neither wrong nor right",
                where=self.name,
                fix=f"name another metric: {PREFIX}NAME:METRIC; there are: {', '.join(values)}",
            )
        told = ", ".join(f"{name} {shown}" for name, shown in values.items())
        return Verdict(Outcome.CORRECT if value == 1 else Outcome.WRONG, extracted, told)


def _facts(leaf: Leaf, number: int, doc: Doc, asked: Asked) -> dict[str, JSON]:
    """Facts for the checker; the row itself stays with the harness, since it may hold what JSON cannot."""
    row = json.dumps(dict(doc), sort_keys=True, default=str, ensure_ascii=False)
    facts: dict[str, JSON] = {"task": leaf.name, "row": number, "digest": hashlib.sha256(row.encode()).hexdigest()}
    if asked.choices:
        listed: list[JSON] = [{"prompt": _json(choice.prompt), "text": choice.text} for choice in asked.choices]
        return facts | {"choices": listed}
    return facts | {"until": list(asked.until)}


def _json(messages: Sequence[Message]) -> list[JSON]:
    return [cast("dict[str, JSON]", dict(message)) for message in messages]


def _messages(turns: JSON) -> tuple[Message, ...]:
    return tuple(cast("list[Message]", turns))
