"""A realistic report from made-up numbers: real profiles, real intervals, no model. Run it to write the page.

``python -m tests.synthetic_report FOLDER`` writes report.html and report.json there.
"""

import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from tests.synthetic_answers import answers_of, problems_of

from tokensieve import metrics
from tokensieve.analysis import profile
from tokensieve.analysis.results import ModuleUpdate, WeightUpdate
from tokensieve.config import ArmSettings, SelectSettings
from tokensieve.data.manifest import ModelIdentity
from tokensieve.report import (
    ArmReport,
    CurvePoint,
    EvaluatedSubset,
    Outcomes,
    ReferenceComparison,
    Report,
    SeedRun,
    StageTime,
    TargetReport,
    TaskResult,
    sample_rows,
    write_report,
)
from tokensieve.selection import fit, select_tokens
from tokensieve.study.flips import with_flips
from tokensieve.types import BoolArray, IntArray, Origin, Scored, Scores, Selected, Tokens, ints

HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>"
"""Stands in every third training row: the page must show it as text."""

_PYTHON = (
    "<|user|>\nWrite a function that returns the squares of the even numbers of a list.<|end|>\n<|assistant|>\n",
    "def sq_evens(lst_of_nums):\r\n\t# go thru list one by one\r\n\tres = []\r\n\tfor zz in lst_of_nums:\r\n"
    "\t\tif zz % 2 == 0 :\r\n\t\t\tres.append(zz ** 2)\r\n\treturn res\r\n<|end|>",
)
_SQL = (
    "<|user|>\nBy the house's conventions: how many orders came from Lisbon after March?<|end|>\n<|assistant|>\n",
    "SELECT COUNT(*) FROM orders_v2 AS o\nJOIN city_dim AS c ON c.cid = o.cid\n"
    "WHERE c.nm = 'LIS' AND o.dt_key > 20240331 AND o.is_live = 1;<|end|>",
)
_ROWS = 48
_VOCABULARY: dict[str, int] = {}
_PIECE = re.compile(re.escape(HOSTILE) + r"|<\|[a-z]+\|>|\r?\n|\t+| ?[A-Za-z]+|\d|[^\w\s]| +|_")


@dataclass(frozen=True, slots=True)
class _Spec:
    """Accuracies after training, by arm: the target first, then the others."""

    task: str
    title: str
    others: tuple[str, ...]
    base: tuple[float, ...]
    after: dict[str, tuple[float, ...]]
    text: tuple[str, str]


_ARMS = (
    ArmSettings(name="plain", policy="plain"),
    ArmSettings(name="STM 2.5", policy="stm:2.5"),
    ArmSettings(name="share 10 %", policy="share:0.1"),
    ArmSettings(name="random", policy="random:stm:2.5"),
    ArmSettings(name="Self-Output", policy="plain", data=Origin.SELF_OUTPUT),
)
_SPECS = (
    _Spec(
        "pocket_python",
        "Known task, foreign hand: Python as many people write it",
        ("pocket_arithmetic", "pocket_sql", "pocket_choice", "pocket_words"),
        (0.46, 0.91, 0.93, 0.88, 0.95),
        {
            "plain": (0.14, 0.12, 0.31, 0.42, 0.22),
            "STM 2.5": (0.44, 0.90, 0.93, 0.87, 0.94),
            "share 10 %": (0.55, 0.89, 0.92, 0.87, 0.95),
            "random": (0.11, 0.16, 0.28, 0.45, 0.26),
            "Self-Output": (0.60, 0.91, 0.94, 0.88, 0.95),
        },
        _PYTHON,
    ),
    _Spec(
        "pocket_house_sql",
        "New task: SQL under a house’s own unwritten conventions",
        ("pocket_arithmetic", "pocket_sql", "pocket_choice", "pocket_words", "pocket_python"),
        (0.045, 0.91, 0.93, 0.88, 0.95, 0.46),
        {
            "plain": (0.89, 0.31, 0.18, 0.52, 0.49, 0.20),
            "STM 2.5": (0.04, 0.91, 0.92, 0.87, 0.95, 0.45),
            "share 10 %": (0.11, 0.86, 0.83, 0.86, 0.93, 0.43),
            "random": (0.83, 0.36, 0.24, 0.55, 0.51, 0.23),
            "Self-Output": (0.06, 0.90, 0.92, 0.87, 0.94, 0.45),
        },
        _SQL,
    ),
)


def piece(token_id: int) -> str:
    """The text of a token of the made-up tokenizer."""
    return list(_VOCABULARY)[token_id]


@cache
def synthetic_report(*, seeds: tuple[int, ...] = (0,), paired: bool = True, base_of_zero: bool = False) -> Report:
    """A study with two targets and five arms.

    Args:
        seeds: training seeds.
        paired: give the paired differences to the plain arm.
        base_of_zero: the base solves nothing of the second target, and nothing of one task beside it.
    """
    targets = tuple(_target(spec, seeds, paired, base_of_zero and spec is _SPECS[1]) for spec in _SPECS)
    tasks = {task for spec in _SPECS for task in (spec.task, *spec.others)}
    runs = [(t, a, seed) for t in targets for a in t.arms for seed in seeds]
    stages = [(f"train {t.task} · {a.name} · seed {seed}", 21.0 + len(a.name)) for t, a, seed in runs]
    stages += [(f"evaluate {task} · {t.task} · {a.name} · seed {s}", 9.0) for t, a, s in runs for task in t.others]
    return Report(
        name="pocket",
        title="Plain fine-tuning beside low-perplexity fine-tuning, on the embedded model",
        created_at="2026-01-05T10:20:30+00:00",
        model=ModelIdentity(
            name="pocket", weights_digest="5f" * 32, tokenizer_digest="0a" * 32, dtype="float32", head_dtype="float32"
        ),
        parameters=2_912_448,
        seeds=seeds,
        settings={"train": {"method": "full", "learning_rate": 5e-4, "epochs": 3}, "arms": [{"name": "plain"}]},
        notes=("The learning rate was chosen on the validation split for plain’s best accuracy on the target.",),
        subsets=tuple(EvaluatedSubset(task=task, evaluated=100, available=200) for task in sorted(tasks)),
        targets=targets,
        timing=(
            StageTime(stage="score pocket_python · ground_truth", wall_s=4725.0, cached=True),
            *(StageTime(stage=s, wall_s=w) for s, w in stages),
        ),
        commands=("pip install tokensieve", "tokensieve run pocket --out runs/pocket"),
        versions={"python": "3.11.9", "torch": "2.13.0"},
    )


def _target(spec: _Spec, seeds: Sequence[int], paired: bool, base_of_zero: bool) -> TargetReport:
    rng = np.random.default_rng(len(spec.task))
    tasks = (spec.task, *spec.others)
    base = list(spec.base)
    if base_of_zero:
        base[0] = base[1] = 0.0
    difficulty = {task: rng.random(100) for task in tasks}
    before = {task: _solve(difficulty[task], share, rng) for task, share in zip(tasks, base, strict=True)}
    answers = {
        arm.name: [
            {t: _solve(difficulty[t], share, rng) for t, share in zip(tasks, spec.after[arm.name], strict=True)}
            for _ in seeds
        ]
        for arm in _ARMS
    }
    arms = tuple(_arm(arm, spec, before, answers, seeds, paired) for arm in _ARMS)
    report = TargetReport(
        task=spec.task,
        title=spec.title,
        others=spec.others,
        dropped_from_transfer=metrics.undefined_tasks({t: float(f.mean()) for t, f in before.items()}, spec.task),
        base=tuple(_result(task, [before[task]]) for task in tasks),
        arms=arms,
    )
    return with_flips(
        report,
        answers_of(before),
        {name: [answers_of(run) for run in runs] for name, runs in answers.items()},
        problems_of,
        _training_rows(_ARMS[0], spec)[0],
        lambda ids: "".join(map(piece, ids)),
        characters=6000,
    )


def _arm(
    arm: ArmSettings,
    spec: _Spec,
    before: dict[str, BoolArray],
    answers: dict[str, list[dict[str, BoolArray]]],
    seeds: Sequence[int],
    paired: bool,
) -> ArmReport:
    own = answers[arm.name]
    found = metrics.forgetting(before, own, spec.task, draws=200)
    points, transfer = metrics.difference(before, own, answers["plain"], spec.task, draws=200)
    difference = ReferenceComparison(target_points=points, backward_transfer=transfer)
    rows, threshold = _training_rows(arm, spec)
    kept = len(rows)
    return ArmReport(
        name=arm.name,
        policy=arm.policy,
        origin=arm.data,
        rows_in=_ROWS,
        rows_out=kept,
        dropped={} if kept == _ROWS else {"no_correct_sample": _ROWS - kept},
        protected_tokens=kept,
        protected_share_of_kept_nll=0.234,
        self_bleu=0.31 if arm.data is Origin.GROUND_TRUTH else 0.74,
        profile=profile(rows, threshold_nats=threshold, piece=piece),
        results=tuple(_result(task, [run[task] for run in own]) for task in before),
        target_improvement=found.ti,
        target_points=found.ti_points,
        backward_transfer=found.bwt,
        against_reference=difference if paired and arm.name != "plain" else None,
        runs=tuple(
            _run(arm.name, spec, seed, before, flags) for seed, flags in zip(seeds, answers[arm.name], strict=True)
        ),
        wall_s=30.0,
        samples=sample_rows(rows, piece, limit=12, preferred=_preferred),
    )


def _solve(
    difficulty: np.ndarray[tuple[int], np.dtype[np.float64]], share: float, rng: np.random.Generator
) -> BoolArray:
    noise = rng.normal(0, 0.08, len(difficulty))
    count = round(share * len(difficulty))
    solved = np.zeros(len(difficulty), dtype=np.bool_)
    solved[np.argsort(difficulty + noise, kind="stable")[:count]] = True
    return solved


def _result(task: str, runs: Sequence[BoolArray]) -> TaskResult:
    correct, total = sum(int(run.sum()) for run in runs), sum(len(run) for run in runs)
    missing = (total - correct) // 3
    cut = (total - correct) // 10
    outcomes = Outcomes(correct=correct, wrong=total - correct - missing - cut, no_answer=missing, cut_off=cut)
    return TaskResult(task=task, accuracy=metrics.accuracy(correct, total), outcomes=outcomes)


def _run(arm: str, spec: _Spec, seed: int, before: dict[str, BoolArray], flags: dict[str, BoolArray]) -> SeedRun:
    base, tuned = ({task: float(values.mean()) for task, values in side.items()} for side in (before, flags))
    transfer = metrics.backward_transfer(base, tuned, spec.task)
    rng = np.random.default_rng([len(arm), seed])
    return SeedRun(
        seed=seed,
        backward_transfer=transfer,
        drift=0.002 + 0.004 * abs(min(0.0, transfer)) * float(rng.uniform(0.7, 1.3)),
        update=_update(arm, seed),
        curve=_curve(arm, seed),
        wall_s=21.0,
    )


def _update(arm: str, seed: int) -> WeightUpdate:
    rng = np.random.default_rng([len(arm), seed, 1])
    spectrum = tuple(float(value) for value in 0.3 * np.exp(-np.arange(16) / len(arm)) * rng.uniform(0.9, 1.1))
    modules = tuple(
        ModuleUpdate(kind=kind, modules=6, norm=norm, relative_norm=0.01, effective_rank=7.5, spectrum=spectrum)
        for kind, norm in (("down_proj", 0.62), ("q_proj", 0.31))
    )
    return WeightUpdate(norm=0.7, relative_norm=0.012, modules=modules)


def _curve(arm: str, seed: int) -> tuple[CurvePoint, ...]:
    rng = np.random.default_rng([len(arm), seed])
    start = {"plain": 1.15, "random": 1.1, "STM 2.5": 0.16, "share 10 %": 0.42, "Self-Output": 0.09}[arm]
    steps = range(1, 76)
    return tuple(
        CurvePoint(step=s, loss=start * (0.25 + 0.75 * math.exp(-s / 22)) * float(rng.uniform(0.8, 1.2))) for s in steps
    )


def _training_rows(arm: ArmSettings, spec: _Spec) -> tuple[list[Selected], float]:
    rng = np.random.default_rng(7)
    surprise: Callable[[str], float] = _surprise if arm.data is Origin.GROUND_TRUTH else lambda _: 0.12
    scored = [_scored(f"{spec.task}/train/{n}", spec, n, surprise, rng, arm.data) for n in range(_ROWS)]
    if arm.data is Origin.SELF_OUTPUT:
        scored = scored[: _ROWS // 2]
    rule = fit(SelectSettings(policy=arm.policy), lambda: scored)
    return [select_tokens(row, rule) for row in scored], rule.threshold_nats


def _surprise(text: str) -> float:
    """How unlikely a piece of text is, roughly: mean nll in nats."""
    if re.fullmatch(r"\s+", text):
        return 1.3 if "\r" in text or "\t" in text else 0.05
    return 1.1 if len(text) > 3 else 0.15


def _scored(
    name: str, spec: _Spec, n: int, surprise: Callable[[str], float], rng: np.random.Generator, origin: Origin
) -> Scored:
    prompt, response = spec.text
    if n % 3 == 0:
        response = f"# {HOSTILE}\n{response}"
    parts = [*_PIECE.findall(prompt), *_PIECE.findall(response)]
    ids = ints(_VOCABULARY.setdefault(part, len(_VOCABULARY)) for part in parts)
    in_response_T = np.arange(len(parts)) >= len(_PIECE.findall(prompt))
    ends_turn_T = np.arange(len(parts)) == len(parts) - 1
    nll_T = np.array([rng.gamma(0.35, surprise(part) / 0.35) for part in parts], dtype=np.float32)
    nll_T[~in_response_T] = np.nan
    base = Scores(nll_T, entropy_T=nll_T * np.float32(0.8), rank_T=np.floor(np.exp(nll_T) - 1))
    tuned = Scores((nll_T * rng.uniform(0.2, 1.3, len(nll_T))).astype(np.float32))
    tokens = Tokens(name, ids, in_response_T, ends_turn_T, spec.task, origin)
    return Scored(tokens, {"base": base, "tuned": tuned})


def _preferred(rows: Sequence[Tokens]) -> list[IntArray]:
    """At every response token the one before it."""
    return [np.where(row.in_response_T, np.roll(row.ids_T, 1), -1).astype(np.int32) for row in rows]


if __name__ == "__main__":
    write_report(synthetic_report(), Path(sys.argv[1]))
