"""What generation came to, prompt by prompt."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tokensieve.data.manifest import write_atomically
from tokensieve.errors import InputError
from tokensieve.types import Outcome, Sample

YIELD_NAME: Final = "yield.jsonl"


@dataclass(frozen=True, slots=True)
class PromptYield:
    """One prompt's answers.

    Attributes:
        id: the problem's id.
        drawn: answers drawn.
        correct: finished ones found correct.
        wrong: finished ones found wrong.
        no_answer: finished ones in which the checker found no answer.
        cut_off: those that the length limit ended, whatever the checker found in them.
        not_judged: finished ones without a finding.
        cut_off_correct: those of the cut-off ones whose text is found correct; they never become training data.
        leftovers: correct ones that still talk about the request to rephrase.
        retokenised: answers of which the server gave text only, so that their ids were made from it.
        chosen: number of the answer that became training data; None where none did.
        nll: its mean nll in nats a token, where the choice went by it; else None.
    """

    id: str
    drawn: int
    correct: int
    wrong: int
    no_answer: int
    cut_off: int
    not_judged: int
    cut_off_correct: int = 0
    leftovers: int = 0
    retokenised: int = 0
    chosen: int | None = None
    nll: float | None = None


def yield_of(
    problem_id: str, samples: Iterable[Sample], *, leftovers: int = 0, chosen: Sample | None, nll: float
) -> PromptYield:
    """One prompt's account; an nll of NaN becomes None."""
    listed = list(samples)
    found = [Outcome.NOT_JUDGED if s.verdict is None else s.verdict.outcome for s in listed]
    outcomes = [o if s.finished else Outcome.CUT_OFF for s, o in zip(listed, found, strict=True)]
    return PromptYield(
        id=problem_id,
        drawn=len(outcomes),
        **{outcome.value: outcomes.count(outcome) for outcome in Outcome},
        cut_off_correct=found.count(Outcome.CORRECT) - outcomes.count(Outcome.CORRECT),
        leftovers=leftovers,
        retokenised=sum(sample.retokenised for sample in listed),
        chosen=None if chosen is None else chosen.index,
        nll=None if chosen is None or nll != nll else nll,
    )


def write_yields(folder: Path, yields: Iterable[PromptYield]) -> None:
    """Write the report by prompt, one JSON object a line, beside the rows."""
    lines = "".join(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in yields)
    write_atomically(folder / YIELD_NAME, lines.encode())


def read_yields(folder: str | Path) -> tuple[PromptYield, ...]:
    """The report by prompt of a folder that ``generate`` has made.

    Raises:
        InputError: there is none.
    """
    path = Path(folder) / YIELD_NAME
    if not path.is_file():
        raise InputError(f"no {YIELD_NAME}", where=str(folder), fix="tokensieve generate … makes one")
    return tuple(PromptYield(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines())
