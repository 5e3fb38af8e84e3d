"""Answers that are chosen, not written: the likeliest of the texts that a problem gives, scored as training data is."""

from collections.abc import Sequence
from typing import Final

import numpy as np

from tokensieve.config import ScoreSettings
from tokensieve.data.chat import ChatTemplate
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel
from tokensieve.sampling.local import LocalSampler
from tokensieve.sampling.request import Sampler
from tokensieve.scoring import score_all
from tokensieve.tasks import Continuation, Likelihood, Task, Weighing
from tokensieve.types import Outcome, Problem, Sample, Scored, Tokens, Verdict

_TOO_LONG: Final = Verdict(Outcome.NOT_JUDGED, reason="longer than the model's context")


def weigh(task: Task, weighing: Weighing, problems: Sequence[Problem], sampler: Sampler) -> list[Sample]:
    """One sample a problem: the text that the model finds likeliest, with the verdict on how it weighed all of them.

    A text's tokens are those that it has by itself behind the prompt's, as those of a response in training. A problem
    with a text that does not fit into the model's context is not judged.

    Args:
        task: whose problems they are.
        weighing: the texts, and the judge.
        problems: the problems.
        sampler: of a model in this process.

    Raises:
        InputError: the sampler is another one: those do not tell how likely a text is.
    """
    if not isinstance(sampler, LocalSampler):
        raise InputError("it is answered by likelihoods, which takes a model in this process", where=task.name)
    loaded = sampler.loaded
    continuations = [weighing.continuations(problem) for problem in problems]
    rows = [
        [_tokens(f"{number}/{place}", choice, loaded.chat) for place, choice in enumerate(choices)]
        for number, choices in enumerate(continuations)
    ]
    room = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    fits = [room is None or max(map(len, group)) <= room for group in rows]
    listed = [row for group, fit in zip(rows, fits, strict=True) if fit for row in group]
    scored = {row.tokens.id: row for row in _scored(listed, loaded)}
    samples = []
    for problem, choices, group, fit in zip(problems, continuations, rows, fits, strict=True):
        if not fit:
            samples.append(Sample(problem.id, task.name, 0, "", verdict=_TOO_LONG))
            continue
        likelihoods = [_likelihood(scored[row.id]) for row in group]
        best = min(range(len(group)), key=lambda place: likelihoods[place].nll)
        ids = tuple(int(token) for token in group[best].ids_T[group[best].in_response_T])
        samples.append(
            Sample(
                problem_id=problem.id,
                task=task.name,
                index=0,
                text=choices[best].text,
                ids=ids,
                verdict=weighing.judge(problem, likelihoods),
                nll=likelihoods[best].nll / len(ids) if ids else float("nan"),
            )
        )
    return samples


def _tokens(name: str, continuation: Continuation, chat: ChatTemplate) -> Tokens:
    if continuation.prompt:
        before_T = chat.prompt_ids(continuation.prompt)
    else:
        before_T = np.array([chat.begin_id], dtype=np.int32)
    ids_T = np.concatenate([before_T, chat.text_ids(continuation.text)])
    return Tokens(name, ids_T, np.arange(len(ids_T)) >= len(before_T), np.zeros(len(ids_T), dtype=np.bool_))


def _scored(rows: Sequence[Tokens], loaded: LoadedModel) -> list[Scored]:
    if not rows:
        return []
    settings = ScoreSettings(entropy=False, use_store=False)
    return score_all(rows, loaded, settings)


def _likelihood(row: Scored) -> Likelihood:
    (scores,) = row.scores.values()
    response_T = row.tokens.in_response_T
    rank_T = scores.rank_T
    if rank_T is None:  # unreachable: the settings ask for ranks
        raise RuntimeError("scores without ranks")
    return Likelihood(float(scores.nll_T[response_T].sum(dtype=np.float64)), bool((rank_T[response_T] == 0).all()))
