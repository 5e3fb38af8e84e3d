"""Answers that are chosen, not written: the likeliest of the texts that a problem gives, scored as training data is."""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np

from tokensieve.config import ScoreSettings
from tokensieve.data.chat import ChatTemplate
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel
from tokensieve.sampling.local import LocalSampler
from tokensieve.sampling.request import Sampler
from tokensieve.scoring import score_all
from tokensieve.tasks import Continuation, Likelihood, LikelihoodChoice, Task
from tokensieve.types import Outcome, Problem, Sample, Scored, Tokens, Verdict

_TOO_LONG: Final = Verdict(Outcome.NOT_JUDGED, reason="longer than the model's context")
_NO_TOKENS: Final = Verdict(Outcome.NOT_JUDGED, reason="a text has no tokens of its own behind its context")


def choose_by_likelihood(
    task: Task, likelihood_choice: LikelihoodChoice, problems: Sequence[Problem], sampler: Sampler
) -> list[Sample]:
    """One sample a problem: the text that the model finds likeliest, judged by the likelihoods of all.

    Behind a chat prompt a text's tokens are those that it has by itself, as those of a response in training. Behind a
    plain context they are what the context's tokens leave of the whole's, as in lm-evaluation-harness. A problem with a
    text that does not fit into the model's context, or that has no tokens, is not judged.

    Args:
        task: whose problems they are.
        likelihood_choice: the texts, and the judge.
        problems: the problems.
        sampler: of a model in this process.

    Raises:
        InputError: the sampler is another one: those do not tell how likely a text is.
    """
    if not isinstance(sampler, LocalSampler):
        raise InputError("it is answered by likelihoods, which takes a model in this process", where=task.name)
    loaded = sampler.loaded
    continuations = [likelihood_choice.continuations(problem) for problem in problems]
    rows = _rows(continuations, loaded)
    room = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    refused = [_refusal(group, room) for group in rows]
    listed = [row for group, verdict in zip(rows, refused, strict=True) if verdict is None for row in group]
    scored = {row.tokens.id: row for row in _scored(listed, loaded)}
    samples = []
    for problem, choices, group, refusal in zip(problems, continuations, rows, refused, strict=True):
        if refusal is not None:
            samples.append(Sample(problem.id, task.name, 0, "", verdict=refusal))
            continue
        likelihoods = [_likelihood(scored[row.id]) for row in group]
        verdict = likelihood_choice.judge(problem, likelihoods)
        chosen = _chosen(choices, likelihoods, verdict)
        ids = tuple(int(token) for token in group[chosen].ids_T[group[chosen].in_response_T])
        samples.append(
            Sample(
                problem_id=problem.id,
                task=task.name,
                index=0,
                text=choices[chosen].text,
                ids=ids,
                verdict=verdict,
                nll=likelihoods[chosen].nll / len(ids),
            )
        )
    return samples


def _rows(groups: Sequence[Sequence[Continuation]], loaded: LoadedModel) -> list[list[Tokens]]:
    """The tokens of each problem's continuations; those behind a plain context are tokenized all at once."""
    listed = [choice for group in groups for choice in group]
    plain = _plain_ids([choice for choice in listed if choice.context], loaded)
    rows = iter(
        _tokens(f"{number}", *(next(plain) if choice.context else _chat_ids(choice, loaded.chat)))
        for number, choice in enumerate(listed)
    )
    return [[next(rows) for _ in group] for group in groups]


def _plain_ids(choices: Sequence[Continuation], loaded: LoadedModel) -> Iterator[tuple[Sequence[int], Sequence[int]]]:
    """Ids of each context, special tokens included, and those that the whole text has beyond them.

    White space at a context's end counts as the continuation's, as most tokenizers join it to the word behind it.
    """
    if not choices:
        return
    contexts = [choice.context.rstrip() for choice in choices]
    distinct = list(dict.fromkeys(contexts))
    before = dict(zip(distinct, loaded.tokenizer(distinct)["input_ids"], strict=True))
    wholes = loaded.tokenizer([choice.context + choice.text for choice in choices])["input_ids"]
    for context, whole in zip(contexts, wholes, strict=True):
        yield before[context], whole[len(before[context]) :]


def _chat_ids(continuation: Continuation, chat: ChatTemplate) -> tuple[Sequence[int], Sequence[int]]:
    """Ids of the chat prompt, or of the one token that begins every text, and the text's own."""
    before = chat.prompt_ids(continuation.prompt).tolist() if continuation.prompt else [chat.begin_id]
    return before, chat.text_ids(continuation.text).tolist()


def _tokens(name: str, before: Sequence[int], text: Sequence[int]) -> Tokens:
    ids_T = np.array([*before, *text], dtype=np.int32)
    return Tokens(name, ids_T, np.arange(len(ids_T)) >= len(before), np.zeros(len(ids_T), dtype=np.bool_))


def _refusal(group: Sequence[Tokens], room: int | None) -> Verdict | None:
    """The verdict on a problem whose texts cannot all be scored; None where they can."""
    if room is not None and max(map(len, group)) > room:
        return _TOO_LONG
    return None if all(row.in_response_T[1:].any() for row in group) else _NO_TOKENS


def _chosen(choices: Sequence[Continuation], likelihoods: Sequence[Likelihood], verdict: Verdict) -> int:
    """Index of the text that the verdict is on; the likeliest one where it names none."""
    for place, choice in enumerate(choices):
        if verdict.extracted is not None and choice.text.strip() == verdict.extracted.strip():
            return place
    return min(range(len(choices)), key=lambda place: likelihoods[place].nll)


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
