"""Choice of the answer to each prompt that becomes training data, and the account of all that were drawn."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np

from tokensieve.config import GenerateSettings
from tokensieve.data.hashing import seeded_hash
from tokensieve.data.manifest import write_atomically
from tokensieve.data.row_counts import Tally
from tokensieve.errors import InputError
from tokensieve.generation.arms import Arm
from tokensieve.generation.perplexity import conditional_nll, unconditional_nll
from tokensieve.models import LoadedModel
from tokensieve.types import JSON, Example, Outcome, Problem, Sample

Rule: TypeAlias = Literal["lowest-perplexity", "random", "shortest", "first"]

YIELD_NAME: Final = "yield.jsonl"
_FALSE = (Outcome.WRONG, Outcome.NO_ANSWER)


def usable(sample: Sample) -> bool:
    """True for a sample that may become training data: not empty, and ended by the model.

    One that the length limit ended has no end-of-turn token, so it would teach not to stop, and the rest of it is not
    known; a correct one is left out too.
    """
    return sample.finished and bool(sample.text.strip())


def correct_ones(samples: Sequence[Sample]) -> list[Sample]:
    """The usable samples that their checker found correct."""
    return [s for s in samples if usable(s) and s.verdict is not None and s.verdict.correct]


def wrong_ones(samples: Sequence[Sample]) -> list[Sample]:
    """The usable samples that were judged and not found correct."""
    return [s for s in samples if usable(s) and s.verdict is not None and s.verdict.outcome in _FALSE]


def choose(candidates: Sequence[Sample], rule: Rule, seed: int, nll: Mapping[int, float]) -> Sample | None:
    """One of a prompt's candidates; None where there is none. Equal ones are decided by number.

    Args:
        candidates: samples of one prompt.
        rule: lowest mean nll, at random, fewest tokens, or the first drawn.
        seed: of the random rule.
        nll: sample number to mean nll in nats; read by the rule lowest-perplexity only, NaN comes last.
    """
    if not candidates:
        return None
    if rule == "lowest-perplexity":
        return min(candidates, key=lambda s: (nll[s.index] != nll[s.index], nll[s.index], s.index))
    if rule == "random":
        return min(candidates, key=lambda s: _lot(seed, s.problem_id, s.index))
    if rule == "shortest":
        return min(candidates, key=lambda s: (len(s.ids) or len(s.text), s.index))
    return min(candidates, key=lambda s: s.index)


def want_correct(available: Mapping[str, tuple[bool, bool]], share: float, seed: int) -> dict[str, bool]:
    """For each prompt whether its answer is to be a correct one, so that ``share`` of them are.

    A prompt that has answers of one kind only gives that kind, except at a share of 0 or 1, which takes nothing else
    and so leaves it without an answer. Those that have both kinds fill up the share, drawn by lot.

    Args:
        available: prompt id to whether it has correct answers and whether it has wrong ones.
        share: fraction of prompts.
        seed: of the lots.
    """
    if share in (0, 1):
        return dict.fromkeys(available, share == 1)
    answered = [key for key, kinds in available.items() if any(kinds)]
    wanted = {key: kinds == (True, False) for key, kinds in available.items()}
    both = sorted((key for key in answered if all(available[key])), key=lambda key: _lot(seed, key, 0))
    missing = round(share * len(answered)) - sum(wanted.values())
    return wanted | {key: place < missing for place, key in enumerate(both)}


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


class CandidateChoice:
    """Choice of one answer a prompt, with the account of all of them.

    Args:
        problems: the prompts.
        settings: rule of the choice.
        arm: origin of the rows.
        base: the model that is to be trained; perplexities are taken under it.
        same_tokens: the answers' token ids are those that the base's tokenizer would be trained on.
    """

    def __init__(
        self, problems: Sequence[Problem], settings: GenerateSettings, arm: Arm, base: LoadedModel, *, same_tokens: bool
    ) -> None:
        self._problems = problems
        self._settings = settings
        self._base = base
        self._same_tokens = same_tokens
        self._arm = arm
        self.tally = Tally()
        self.yields: list[PromptYield] = []
        self._retokenised = self._fallbacks = self._wrong = self._other_ids = self._other_text = 0

    def examples(self, samples: Mapping[str, Sequence[Sample]]) -> list[Example]:
        """The training rows, in the problems' order."""
        correct = {p.id: self._arm.fit(correct_ones(samples.get(p.id, ()))) for p in self._problems}
        wrong = {p.id: self._arm.fit(wrong_ones(samples.get(p.id, ()))) for p in self._problems}
        kinds = {p.id: (bool(correct[p.id]), bool(wrong[p.id])) for p in self._problems}
        wanted = want_correct(kinds, self._settings.correct_share, self._settings.sampling.seed)
        candidates = {p.id: (correct if wanted[p.id] else wrong)[p.id] for p in self._problems}
        nll = self._nlls(candidates)
        rows = []
        for problem in self._problems:
            self.tally.take()
            drawn = samples.get(problem.id, ())
            seed = self._settings.sampling.seed
            chosen = choose(candidates[problem.id], self._settings.choose, seed, nll.get(problem.id, {}))
            self._wrong += chosen is not None and not wanted[problem.id]
            leftovers = len(correct_ones(drawn)) - len(correct[problem.id])
            mean = float("nan") if chosen is None else nll.get(problem.id, {}).get(chosen.index, float("nan"))
            self.yields.append(yield_of(problem.id, drawn, leftovers=leftovers, chosen=chosen, nll=mean))
            row = self._row(problem, chosen, self.yields[-1], wanted=wanted[problem.id])
            if row is not None:
                rows.append(row)
        return rows

    def facts(self) -> dict[str, JSON]:
        """Counts over all prompts, for the manifest."""
        drawn = sum(entry.drawn for entry in self.yields)
        return {
            "answers": drawn,
            "correct_answers": sum(entry.correct for entry in self.yields),
            "cut_off_answers": sum(entry.cut_off for entry in self.yields),
            "correct_cut_off_answers": sum(entry.cut_off_correct for entry in self.yields),
            "prompts_with_a_correct_answer": sum(entry.correct > 0 for entry in self.yields),
            "ground_truth_rows": self._fallbacks,
            "wrong_rows": self._wrong,
            "retokenised_rows": self._retokenised,
            "retokenised_rows_with_another_text": self._other_text,
            "sampled_rows_that_text_would_tokenise_otherwise": self._other_ids,
        }

    def _nlls(self, candidates: Mapping[str, Sequence[Sample]]) -> dict[str, dict[int, float]]:
        """Prompt id and sample number to mean nll under the model that is to be trained, where the choice needs it."""
        if self._settings.choose != "lowest-perplexity":
            return {}
        listed = [(problem, sample) for problem in self._problems for sample in candidates[problem.id]]
        if self._settings.perplexity == "unconditional":
            values = unconditional_nll([sample.text for _, sample in listed], self._base)
        elif self._sampled_as_trained and all(s.nll == s.nll for _, s in listed):
            values = [sample.nll for _, sample in listed]
        else:
            values = conditional_nll([self._example(problem, sample) for problem, sample in listed], self._base)
        found: dict[str, dict[int, float]] = {}
        for (problem, sample), value in zip(listed, values, strict=True):
            found.setdefault(problem.id, {})[sample.index] = value
        return found

    @property
    def _sampled_as_trained(self) -> bool:
        """True where an answer's nll while it was sampled is that under the base given the problem's own prompt."""
        return self._same_tokens and self._arm.prompt is None and not self._arm.another_model

    def _row(self, problem: Problem, chosen: Sample | None, found: PromptYield, *, wanted: bool) -> Example | None:
        if chosen is not None:
            row = self._example(problem, chosen)
            self._note_round_trip(row, chosen)
            return row
        if wanted and self._settings.none_correct == "ground-truth":
            self._fallbacks += 1
            return Example(problem.id, (*problem.prompt, {"role": "assistant", "content": problem.gold}), problem.task)
        reason = "no correct answer" if wanted else "no wrong answer"
        if found.leftovers:
            reason = "every correct answer talks about the request"
        elif wanted and found.cut_off_correct:
            reason = "every correct answer was cut off by the length limit"
        self.tally.drop(reason, problem.id)
        return None

    def _note_round_trip(self, row: Example, sample: Sample) -> None:
        """Count what is lost where ids are made from text, and what would be where they are not."""
        tokenizer = self._base.tokenizer
        ids = tokenizer(sample.text, add_special_tokens=False)["input_ids"]
        if row.sampled_ids is None:
            self._retokenised += 1
            self._other_text += tokenizer.decode(ids) != sample.text
        else:
            self._other_ids += row.sampled_ids[:-1].tolist() != ids

    def _example(self, problem: Problem, sample: Sample) -> Example:
        keeps_ids = self._same_tokens and not sample.retokenised and len(sample.ids) > 0
        return Example(
            id=problem.id,
            messages=(*problem.prompt, {"role": "assistant", "content": sample.text}),
            task=problem.task,
            origin=self._arm.origin,
            sampled_ids=np.array(sample.ids, dtype=np.int32) if keeps_ids else None,
        )


def _lot(seed: int, problem_id: str, index: int) -> bytes:
    return seeded_hash(seed, problem_id, index)
