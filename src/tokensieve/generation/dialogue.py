"""Self-dialogue: prompt and answer both drawn from the model itself, rehearsal data that needs no data.

The user's turn is drawn from the chat template's user header on, as in Magpie; see paper.md section 7.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from tokensieve.config import DialogueSettings, GenerateSettings
from tokensieve.data.dataset import Rows, ShardRun, in_shards
from tokensieve.data.manifest import Counts
from tokensieve.data.row_counts import Tally
from tokensieve.errors import InputError
from tokensieve.generation.arms import sampling_of
from tokensieve.generation.perplexity import conditional_nll
from tokensieve.generation.sample_and_check import by_problem, draft_of, phase_run
from tokensieve.models import LoadedModel
from tokensieve.sampling import Request, Sampler
from tokensieve.tasks.execution import PromptCheck, prompt_check
from tokensieve.types import Example, Message, Origin, Outcome, Progress, Sample, Verdict

_SHARD_DIALOGUES: Final = 128
_SHARD_ROWS: Final = 512

_GRAM: Final = 4
_LONG_ENOUGH: Final = 24
_LEAST_VARIETY: Final = 0.3
"""A text of 24 tokens or more is degenerate where fewer than three in ten of its four-token runs are different ones."""


def generate_dialogues(
    base: LoadedModel,
    sampler: Sampler,
    settings: GenerateSettings,
    out: Path,
    *,
    limit: int | None = None,
    progress: Progress | None = None,
) -> Rows[Example]:
    """Draw dialogues and keep those that are whole, varied, new and not found wrong; others are counted by reason.

    Every turn is kept in ``out/samples``: even numbers are the user's, odd ones the answers.

    Args:
        base: the model whose template and tokenizer are used, and under which perplexities are taken.
        sampler: draws both roles' turns; it must take prompts as token ids, which a server does not.
        settings: of generation.
        out: folder of the result.
        limit: at most this many dialogues.
        progress: called with the turns drawn and the turns in all.

    Raises:
        InputError: a template without a user header, a server as the answerer, a check that is not there, or a folder
            of another run.
        EnvironmentProblem: no sandbox for the tests that prompts show; or as in drawing.
    """
    count = min(settings.dialogue.count, limit) if limit is not None else settings.dialogue.count
    if settings.answerer.backend == "server":
        raise InputError(
            "a dialogue begins in the header of the user's turn, which a chat server cannot continue",
            where="generate.answerer.backend",
            fix="transformers, ray or vllm",
        )
    check, code = (None, "") if settings.dialogue.verify is None else prompt_check(settings.dialogue.verify)
    inputs = {"dialogues": str(count), **({"verify": code} if code else {})}
    draft = draft_of(settings, sampling_of(settings), inputs, sampler)
    with ShardRun[Example](out, draft) as run:
        if run.finished is not None:
            return run.finished
        samples = _draw(base, sampler, settings, count, phase_run(out, "samples", draft, "samples"), progress)
        tally = Tally()
        run.make(in_shards(_kept(samples, base, settings.dialogue, check, tally), _SHARD_ROWS), list)
        return run.finish(tally.counts, {"noted": dict(tally.noted)})


def is_degenerate(ids: Sequence[int]) -> bool:
    """True for a repetitive text: few of its 4-grams of tokens are distinct. Texts below 24 tokens never are."""
    if len(ids) < _LONG_ENOUGH:
        return False
    grams = [tuple(ids[place : place + _GRAM]) for place in range(len(ids) - _GRAM + 1)]
    return len(set(grams)) < _LEAST_VARIETY * len(grams)


def _draw(
    base: LoadedModel,
    sampler: Sampler,
    settings: GenerateSettings,
    count: int,
    run: ShardRun[Sample],
    progress: Progress | None,
) -> Rows[Sample]:
    total = 2 * settings.dialogue.turns * count

    def passed(numbers: range) -> None:
        if progress is not None:
            progress(2 * settings.dialogue.turns * numbers.stop, total)

    with run:
        if run.finished is not None:
            return run.finished
        run.make(
            (range(first, min(first + _SHARD_DIALOGUES, count)) for first in range(0, count, _SHARD_DIALOGUES)),
            lambda numbers: _draw_shard(base, sampler, settings, [f"dialogue/{number}" for number in numbers]),
            passed=passed,
            write_behind=False,
        )
        return run.finish(Counts(rows_in=total))


def _draw_shard(base: LoadedModel, sampler: Sampler, settings: GenerateSettings, names: Sequence[str]) -> list[Sample]:
    """All turns of some dialogues; one that was cut off or came out empty is not gone on with."""
    rules = settings.dialogue
    spoken: dict[str, list[Sample]] = {name: [] for name in names}
    answering = sampling_of(settings)
    asking = answering.model_copy(update={"temperature": rules.prompt_temperature})
    limit = settings.sampling.max_new_tokens or rules.answer_tokens
    for turn in range(rules.turns):
        going = [name for name in names if all(s.finished and s.text.strip() for s in spoken[name])]
        questions = [
            Request(
                f"{name}/user/{turn}",
                (),
                rules.prompt_tokens,
                prompt_T=base.chat.user_header_ids(_turns(spoken[name])),
            )
            for name in going
        ]
        _note(spoken, sampler.draw(questions, asking), 2 * turn)
        going = [name for name in going if spoken[name][-1].finished and spoken[name][-1].text.strip()]
        answers = [Request(f"{name}/assistant/{turn}", _turns(spoken[name]), limit) for name in going]
        _note(spoken, sampler.draw(answers, answering), 2 * turn + 1)
    return [sample for name in names for sample in spoken[name]]


def _note(spoken: Mapping[str, list[Sample]], samples: Iterator[Sample], number: int) -> None:
    for sample in samples:
        name = "/".join(sample.problem_id.split("/")[:2])
        spoken[name].append(
            Sample(
                name, "", number, sample.text.strip(), sample.ids, sample.finished, None, sample.nll, sample.retokenised
            )
        )


def _turns(spoken: Sequence[Sample]) -> tuple[Message, ...]:
    return tuple({"role": "assistant" if s.index % 2 else "user", "content": s.text} for s in spoken)


def _kept(
    samples: Rows[Sample], base: LoadedModel, rules: DialogueSettings, check: PromptCheck | None, tally: Tally
) -> Iterator[Example]:
    seen: set[str] = set()
    for name, turns in by_problem(samples):
        tally.take()
        question = " ".join(turns[0].text.casefold().split())
        reason = _fault(turns, 2 * rules.turns) or ("asked before" if question in seen else None)
        seen.add(question)
        reason = reason or _too_unlikely(turns, base, rules)
        if reason is None and check is not None:
            verdict = check(_turns(turns[:-1]), turns[-1].text)
            tally.note(f"answers {verdict.outcome.value}")
            reason = _refused(verdict, rules)
        if reason is not None:
            tally.drop(reason, name)
        else:
            yield _example(name, turns)


def _fault(turns: Sequence[Sample], expected: int) -> str | None:
    """Why a dialogue cannot be used; None where it can."""
    if any(not turn.finished for turn in turns):
        return "cut off"
    if len(turns) < expected or any(not turn.text for turn in turns):
        return "empty"
    if any(is_degenerate(turn.ids) for turn in turns):
        return "degenerate"
    return None


def _too_unlikely(turns: Sequence[Sample], base: LoadedModel, rules: DialogueSettings) -> str | None:
    """Reason to drop a dialogue whose user's turn or last answer has a perplexity above its limit; None for none."""
    limit = rules.max_prompt_perplexity
    # A user's turn was drawn as token ids, which only samplers that tell the nll can do.
    if limit is not None and any(turn.nll > math.log(limit) for turn in turns[::2]):
        return "prompt above the perplexity limit"
    if rules.max_perplexity is not None:
        last = turns[-1].nll
        nll = last if not math.isnan(last) else conditional_nll([_example(turns[-1].problem_id, turns)], base)[0]
        if nll > math.log(rules.max_perplexity):
            return "answer above the perplexity limit"
    return None


def _refused(verdict: Verdict, rules: DialogueSettings) -> str | None:
    """Why a check's finding counts a dialogue out; None where it does not."""
    if verdict.outcome is Outcome.NOT_JUDGED:
        return "not verified" if rules.unverified == "drop" else None
    return None if verdict.correct else "answer found wrong"


def _example(name: str, turns: Sequence[Sample]) -> Example:
    last = turns[-1]
    keeps_ids = not last.retokenised and len(last.ids) > 0
    return Example(
        id=name,
        messages=_turns(turns),
        origin=Origin.SELF_DIALOGUE,
        sampled_ids=np.array(last.ids, dtype=np.int32) if keeps_ids else None,
    )
