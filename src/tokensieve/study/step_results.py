"""Results in the folders of a study's steps, each read once.

TI and BWT need a value for every problem of which more is better. Of tasks that are measured by likelihood
(``NAME:response_nll``, ``perplexity:PATH``) it is 1 / perplexity, the geometric mean of the probabilities of the text's
tokens, which lies in [0, 1] as an accuracy does. The nats themselves are reported beside it, for the tokens that the
base finds likely and for those that it finds unlikely apart.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from tokensieve import metrics
from tokensieve.analysis.results import WeightUpdate
from tokensieve.data.dataset import open_rows
from tokensieve.drift import Drift
from tokensieve.drift.update import UPDATE_NAME
from tokensieve.errors import InputError
from tokensieve.report.results_schema import DriftSet, Outcomes, TaskResult
from tokensieve.report.schema import EvaluatedSubset, StageTime
from tokensieve.scoring.response_states import preferred_ids
from tokensieve.study.measuring_steps import DRIFT_NAME
from tokensieve.study.plan import ArmPlan, ArmRun
from tokensieve.study.steps import NOT_TRAINED, Runner, Step
from tokensieve.types import BoolArray, IntArray, Outcome, Problem, Sample, Tokens

if TYPE_CHECKING:
    from tokensieve.models import LoadedModel

LIKELY_PERPLEXITY: Final = 2.5
"""Perplexity under the base up to which a token counts as likely: the paper's threshold."""


@dataclass(frozen=True)
class StepResults:
    """Reads steps' folders; each evaluation once."""

    runner: Runner
    model: "LoadedModel"
    data: Path | None
    base: Mapping[str, Step]
    _samples: dict[str, tuple[Sample, ...]] = field(default_factory=dict)
    _preferred: dict[bytes, IntArray] = field(default_factory=dict)

    def samples(self, step: Step) -> tuple[Sample, ...]:
        """An evaluation's answers, in the order of the problems' ids."""
        if step.key not in self._samples:
            rows = (row for row in open_rows(self.runner.folder(step)) if isinstance(row, Sample))
            self._samples[step.key] = tuple(sorted(rows, key=lambda sample: (sample.problem_id, sample.index)))
        return self._samples[step.key]

    def flags(
        self, steps: Mapping[str, Step], like: Mapping[str, Step]
    ) -> "dict[str, BoolArray | NDArray[np.float64]]":
        """Task to one value a problem, after checking that both evaluations answered the same problems.

        Correct or not; of a task that is measured by likelihood 1 / perplexity.
        """
        found: dict[str, BoolArray | NDArray[np.float64]] = {}
        for task, step in steps.items():
            mine, theirs = self.samples(step), self.samples(like[task])
            if [s.problem_id for s in mine] != [s.problem_id for s in theirs]:
                raise InputError(
                    "the problems before and after differ", where=step.label, fix="delete the run's folder"
                )
            if self.by_likelihood(task):
                found[task] = np.array([value_of(s) for s in mine])
            else:
                found[task] = np.array([s.verdict is not None and s.verdict.correct for s in mine], dtype=np.bool_)
        return found

    def result(self, task: str, steps: Sequence[Step], start: Sequence[Step] = ()) -> TaskResult:
        """A task's accuracy and outcomes; the answers of several seeds are pooled.

        Args:
            task: name of the task.
            steps: its evaluations, one a seed.
            start: those of the models that the seeds went on from; empty where that is the base.
        """
        samples = [sample for step in steps for sample in self.samples(step)]
        outcomes = Counter(Outcome.NOT_JUDGED if s.verdict is None else s.verdict.outcome for s in samples)
        problems = len({sample.problem_id for sample in samples})  # seeds answer the same ones
        nats: dict[str, metrics.Estimate] = {}
        change: dict[str, metrics.Estimate] = {}
        if self.by_likelihood(task):
            measured = mean_value(samples)
            base = self.base[task]
            nats = nats_of(samples, self.samples(base))
            if base not in steps:
                before = [self.samples(step) for step in start]
                change = nats_change([self.samples(step) for step in steps], self.samples(base), before)
        else:
            measured = metrics.accuracy(outcomes[Outcome.CORRECT], len(samples), problems=problems)
        return TaskResult(
            task=task,
            accuracy=measured,
            nats=nats,
            nats_change=change,
            outcomes=Outcomes(
                **{outcome.value: outcomes[outcome] for outcome in Outcome},
                limited=sum(not s.finished for s in samples),
                limited_correct=sum(not s.finished and s.verdict is not None and s.verdict.correct for s in samples),
            ),
        )

    def after(self, task: str, runs: Sequence[ArmRun]) -> TaskResult:
        """Result of several seeds' runs on a task."""
        return self.result(task, [run.evaluations[task] for run in runs])

    def validation(self, task: str, runs: Sequence[ArmRun]) -> tuple[metrics.Estimate, list[metrics.Values]]:
        """Accuracy of several seeds' runs on the target's validation problems, and each run's value on each of them."""
        steps = [run.validation for run in runs if run.validation is not None]
        values = [self.flags({task: step}, {task: steps[0]})[task] for step in steps]
        return self.result(task, steps).accuracy, values

    def drift(self, run: ArmRun) -> float | None:
        """Mean drift of a run; None where it is not measured."""
        return mean_kl(drift_sets(run, self))

    def update(self, run: ArmRun) -> WeightUpdate | None:
        """Weight update of a run; None where it is not measured."""
        if run.update is None:
            return None
        return WeightUpdate.model_validate_json((self.runner.folder(run.update) / UPDATE_NAME).read_bytes())

    @staticmethod
    def by_likelihood(task: str) -> bool:
        """True where a task has no right or wrong."""
        from tokensieve.tasks import get_task

        return get_task(task).measures_likelihood

    def subset(self, task: str, step: Step, split: str) -> EvaluatedSubset:
        """Number of a task's problems that were answered."""
        available = sum(1 for _ in self.problems(task, split))
        return EvaluatedSubset(task=task, split=split, evaluated=len(self.samples(step)), available=available)

    def problems(self, task: str, split: str) -> Iterable[Problem]:
        """A task's problems."""
        from tokensieve.tasks import get_task

        return get_task(task).problems(split, self.data)

    def text(self, ids: Sequence[int]) -> str:
        """Token ids to text."""
        return str(self.model.tokenizer.decode(list(ids)))

    def time(self, step: Step, cached: bool) -> StageTime:
        """Wall time of a step."""
        record = self.runner.record(step)
        wall_s = record.wall_s if record else 0.0
        return StageTime(stage=f"{step.verb} {step.label}", wall_s=wall_s, cached=cached)

    def not_trained(self, arm: ArmPlan) -> str:
        """Why an arm has no run, in words; empty where it has one."""
        notes = [self.runner.folder(run.train) / NOT_TRAINED for run in arm.runs]
        return next((note.read_text(encoding="utf-8").strip() for note in notes if note.is_file()), "")

    def preferred(self, rows: Sequence[Tokens]) -> list[IntArray]:
        """The base's likeliest token at every response token; the rows that several arms show are read once."""
        new = {row.ids_T.tobytes() + row.in_response_T.tobytes(): row for row in rows}
        new = {key: row for key, row in new.items() if key not in self._preferred}
        self._preferred.update(zip(new, preferred_ids(list(new.values()), self.model), strict=True))
        return [self._preferred[row.ids_T.tobytes() + row.in_response_T.tobytes()] for row in rows]

    @cached_property
    def piece(self) -> Callable[[int], str]:
        """Token id to text."""
        tokenizer = self.model.tokenizer
        return lru_cache(maxsize=None)(lambda token: str(tokenizer.decode([token])))


def drift_sets(run: ArmRun, source: StepResults) -> tuple[DriftSet, ...]:
    """Drift by set of rows; empty where the study does not measure it."""
    if run.drift is None:
        return ()
    text = (source.runner.folder(run.drift) / DRIFT_NAME).read_text(encoding="utf-8")
    probes = Drift.model_validate_json(text).probes
    return tuple(DriftSet.model_validate(probe.model_dump(exclude={"rows", "tokens"})) for probe in probes)


def mean_kl(sets: Sequence[DriftSet]) -> float | None:
    """Mean over the sets of rows of KL(base || model), nats per token."""
    values = [one.kl.value for one in sets if one.kl.value is not None]
    return float(np.mean(values)) if values else None


def value_of(sample: Sample) -> float:
    """1 / perplexity of a text, in [0, 1]; 0 for one that could not be scored."""
    return math.exp(-sample.nll) if sample.ids else 0.0


def mean_value(samples: Sequence[Sample]) -> metrics.Estimate:
    """Mean of 1 / perplexity over texts, with a bootstrap over texts; what several seeds say of a text is one value."""
    values: dict[str, list[float]] = {}
    for sample in samples:
        values.setdefault(sample.problem_id, []).append(value_of(sample))
    means_R = np.array([np.mean(listed) for listed in values.values()])
    return metrics.mean_per_token(means_R, np.ones(len(means_R)))


def nats_of(samples: Sequence[Sample], base: Sequence[Sample]) -> dict[str, metrics.Estimate]:
    """Nll in nats per token: of ``all`` tokens, and of those ``likely`` and ``unlikely`` under the base.

    Args:
        samples: of one model, or of several seeds of one arm.
        base: the base's, of the same texts.

    Returns:
        The means over pooled tokens with a bootstrap over texts; ``all`` alone where the tokens' own values were not
        kept, as those of plain text are not.
    """
    return {name: _mean(found) for name, found in _sums(samples, base).items() if found}


def nats_change(
    runs: Sequence[Sequence[Sample]], base: Sequence[Sample], start: Sequence[Sequence[Sample]] = ()
) -> dict[str, metrics.Estimate]:
    """Change of these in nats per token, with a bootstrap over texts, the same for both sides, and over seeds.

    Args:
        runs: the texts under the trained models, one entry a training seed.
        base: the same texts under the base.
        start: the same texts under the models that the runs went on from, against which the change then is: against
            the mean of their nll; empty is the base.

    Returns:
        As ``nats_of``; texts that some model could not score are left out.
    """
    before, after = ([_sums(samples, base) for samples in side] for side in (start or [base], runs))
    found = {}
    for name in before[0]:
        starts, sides = ([side.get(name, {}) for side in listed] for listed in (before, after))
        texts = [text for text in starts[0] if all(text in side for side in (*starts, *sides))]
        if texts:
            totals_R, tokens_R = np.array([np.mean([own[text] for own in starts], axis=0) for text in texts]).T
            after_RS = np.array([[side[text][0] for side in sides] for text in texts])
            found[name] = metrics.mean_change_per_token(totals_R, after_RS, tokens_R)
    return found


def _sums(samples: Sequence[Sample], base: Sequence[Sample]) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Kind of token and text to summed nll and number of tokens."""
    likely = {s.problem_id: np.array(s.token_nll) <= math.log(LIKELY_PERPLEXITY) for s in base if s.token_nll}
    sums: dict[str, dict[str, NDArray[np.float64]]] = {"all": {}}
    for sample in samples:
        if not sample.ids:
            continue
        _add(sums["all"], sample.problem_id, sample.nll * len(sample.ids), len(sample.ids))
        flags_N = likely.get(sample.problem_id)
        if flags_N is None or len(flags_N) != len(sample.token_nll):
            continue
        nll_N = np.array(sample.token_nll)
        for name, chosen_N in (("likely", flags_N), ("unlikely", ~flags_N)):
            _add(sums.setdefault(name, {}), sample.problem_id, float(nll_N[chosen_N].sum()), int(chosen_N.sum()))
    return sums


def _add(sums: dict[str, NDArray[np.float64]], text: str, total: float, tokens: int) -> None:
    sums[text] = sums.get(text, np.zeros(2)) + np.array([total, tokens])


def _mean(sums: Mapping[str, NDArray[np.float64]]) -> metrics.Estimate:
    totals_R, tokens_R = np.array(list(sums.values())).T
    return metrics.mean_per_token(totals_R, tokens_R)
