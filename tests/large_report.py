"""The largest report that a page must hold: ten arms of two targets and five seeds, long rows and long answers."""

from functools import cache

import numpy as np
from tests.synthetic_answers import answers_of, problems_of
from tests.synthetic_report import synthetic_report

from tokensieve.report import Report, SampleRow
from tokensieve.study.flips import PAGE_CHARACTERS, with_flips
from tokensieve.types import Sample


@cache
def large_report() -> Report:
    """Ten arms of two targets and five seeds, each with data of its own in long rows, and with long answers."""
    report = synthetic_report(seeds=(0, 1, 2, 3, 4))
    targets = []
    for place, target in enumerate(report.targets):
        arms = [arm.model_copy(update={"name": f"{arm.name} {copy}"}) for copy in (1, 2) for arm in target.arms]
        arms = [
            arm.model_copy(update={"samples": tuple(long_row(f"{place}/{number}/{n}") for n in range(24)), "flips": ()})
            for number, arm in enumerate(arms)
        ]
        bare = target.model_copy(update={"arms": tuple(arms), "flip_problems": (), "near_rows": ()})
        tasks = (target.task, *target.others)
        before = answers_of({task: np.ones(100, dtype=np.bool_) for task in tasks})
        after = answers_of({task: np.arange(100) % 3 == 0 for task in tasks})
        runs = [{task: [lengthened(one) for one in own] for task, own in after.items()}] * 5
        cells = 10 * sum(len((t.task, *t.others)) for t in report.targets)
        every = {arm.name: runs for arm in arms}
        targets.append(with_flips(bare, before, every, problems_of, [], lambda _: "", PAGE_CHARACTERS // cells))
    return report.model_copy(update={"targets": tuple(targets)})


def long_row(name: str) -> SampleRow:
    """A row of 1,200 tokens with all measures."""
    rng = np.random.default_rng(list(name.encode()))
    size = 1200
    nll = tuple(round(float(value), 4) for value in rng.gamma(0.4, 2.0, size))
    return SampleRow(
        id=name,
        pieces=tuple(" token" if n % 2 else f"{name[-1]}<" for n in range(size)),
        nll=nll,
        in_response=(True,) * size,
        train=tuple(value < 1 for value in nll),
        protected=(False,) * size,
        entropy=nll,
        rank=tuple(int(value * 1000) for value in nll),
        preferred=(" other",) * size,
    )


def lengthened(answer: Sample) -> Sample:
    return Sample(answer.problem_id, answer.task, 0, answer.text * 60, verdict=answer.verdict)
