"""Log-likelihoods of given texts: multiple choice, plain text, reference answers, by the scoring forward pass."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from tokensieve.config import ScoreSettings
from tokensieve.data.chat import RefusedRow
from tokensieve.errors import InputError
from tokensieve.models import LoadedModel
from tokensieve.sampling.local import LocalSampler
from tokensieve.sampling.request import Sampler
from tokensieve.scoring import score_all
from tokensieve.tasks import Continuation, Likelihood, LikelihoodChoice, Task, TextWindows
from tokensieve.types import Example, IntArray, Message, Outcome, Problem, Sample, Scored, Tokens, Verdict

_TOO_LONG: Final = Verdict(Outcome.NOT_JUDGED, reason="longer than the model's context")
_MEASURED: Final = Verdict(Outcome.NOT_JUDGED, reason="the nll of a reference answer is neither right nor wrong")
_NO_TOKENS: Final = Verdict(Outcome.NOT_JUDGED, reason="a text has no tokens of its own behind its context")


def choose_by_likelihood(
    task: Task,
    likelihood_choice: LikelihoodChoice,
    problems: Sequence[Problem],
    sampler: Sampler,
    known: dict[bytes, Likelihood] | None = None,
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
        known: likelihoods under this very model, by digest of ids and border; read, and filled with the new ones. Two
            measures of one benchmark (``:nll``, ``:nll_norm``) then need one pass.

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
    keys = {row.id: _key(row) for row in listed}
    known = {} if known is None else known
    missing = {keys[row.id]: row for row in listed if keys[row.id] not in known}
    known.update((keys[row.tokens.id], _likelihood(row)) for row in _scored([*missing.values()], loaded))
    samples = []
    for problem, choices, group, refusal in zip(problems, continuations, rows, refused, strict=True):
        if refusal is not None:
            samples.append(Sample(problem.id, task.name, 0, "", verdict=refusal))
            continue
        likelihoods = [known[keys[row.id]] for row in group]
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


def score_texts(task: Task, windows: TextWindows, problems: Sequence[Problem], sampler: Sampler) -> list[Sample]:
    """One sample a text: its token ids and their mean nll (nats), each token scored once.

    Args:
        task: whose problems they are; each has its text in ``facts["text"]``.
        windows: how a text is cut.
        problems: the texts.
        sampler: of a model in this process.

    Raises:
        InputError: another sampler, or windows longer than the model's context.
    """
    if not isinstance(sampler, LocalSampler):
        raise InputError("perplexity takes a model in this process", where=task.name)
    loaded = sampler.loaded
    room = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    if room is not None and windows.length > room:
        raise InputError(
            f"windows of {windows.length} tokens, the model takes {room}",
            where=task.name,
            fix=f"perplexity:PATH,window={room}",
        )
    texts = [loaded.text_ids(str(problem.facts["text"])) for problem in problems]
    rows = [
        _windows_of(f"{number}", np.concatenate([[loaded.begin_id], ids_T]).astype(np.int32), windows)
        for number, ids_T in enumerate(texts)
    ]
    scored = {row.tokens.id: row for row in _scored([row for listed in rows for row in listed], loaded, rank=False)}
    samples = []
    for problem, ids_T, listed in zip(problems, texts, rows, strict=True):
        total = sum(_nll(scored[row.id]) for row in listed)
        count = len(ids_T)
        reason = f"{count:,} tokens in {len(listed):,} windows of {windows.length}, stride {windows.stride}"
        samples.append(
            Sample(
                problem_id=problem.id,
                task=task.name,
                index=0,
                text="",
                ids=tuple(ids_T.tolist()),
                verdict=Verdict(Outcome.NOT_JUDGED, reason=reason),
                nll=total / count if count else float("nan"),
            )
        )
    return samples


def score_references(task: Task, problems: Sequence[Problem], sampler: Sampler) -> list[Sample]:
    """One sample a problem: its reference answer, with the nll (nats) of each of its tokens.

    The tokens are those that training has: the model's chat template around prompt and answer, end of turn included. A
    problem that the template refuses, or that does not fit into the model's context, is not judged.

    Args:
        task: whose problems they are.
        problems: the problems.
        sampler: of a model in this process.

    Raises:
        InputError: another sampler, or a problem without a reference answer.
    """
    if not isinstance(sampler, LocalSampler):
        raise InputError("the nll of reference answers takes a model in this process", where=task.name)
    loaded = sampler.loaded
    for problem in problems:
        if not problem.gold:
            raise InputError("the problem has no reference answer", where=problem.id)
    answers = [Message(role="assistant", content=problem.gold) for problem in problems]
    asked = [Example(p.id, (*p.prompt, answer), p.task) for p, answer in zip(problems, answers, strict=True)]
    room = getattr(loaded.model.config.get_text_config(), "max_position_embeddings", None)
    refusals: dict[int, Verdict] = {}
    rows: list[Tokens] = []
    for number, row in enumerate(loaded.chat.tokenise_many(asked)):
        if isinstance(row, RefusedRow):
            refusals[number] = Verdict(Outcome.NOT_JUDGED, reason=row.problem)
        elif (refusal := _refusal([row], room)) is not None:
            refusals[number] = refusal
        else:
            rows.append(replace(row, id=f"{number}"))
    scored = {row.tokens.id: row for row in _scored(rows, loaded, rank=False)}
    return [
        Sample(problem.id, task.name, 0, problem.gold, verdict=refusals[number])
        if number in refusals
        else _reference(problem, task.name, scored[f"{number}"])
        for number, problem in enumerate(problems)
    ]


def _reference(problem: Problem, task: str, row: Scored) -> Sample:
    (scores,) = row.scores.values()
    response_T = row.tokens.in_response_T
    nll_N = scores.nll_T[response_T]
    return Sample(
        problem_id=problem.id,
        task=task,
        index=0,
        text=problem.gold,
        ids=tuple(row.tokens.ids_T[response_T].tolist()),
        verdict=_MEASURED,
        nll=float(nll_N.mean(dtype=np.float64)),
        token_nll=tuple(nll_N.tolist()),
    )


def _windows_of(name: str, ids_T: IntArray, windows: TextWindows) -> list[Tokens]:
    """The windows of a text that begins with one token of context; what each scores is its response."""
    bounds = [(0, 1, min(windows.length, len(ids_T)))] if len(ids_T) > 1 else []
    while bounds and bounds[-1][2] < len(ids_T):
        done = bounds[-1][2]
        end = min(done + windows.stride, len(ids_T))
        bounds.append((end - windows.length, done, end))
    return [
        Tokens(
            f"{name}/{start}",
            ids_T[start:end],
            np.arange(start, end) >= first,
            np.zeros(end - start, dtype=np.bool_),
        )
        for start, first, end in bounds
    ]


def _rows(groups: Sequence[Sequence[Continuation]], loaded: LoadedModel) -> list[list[Tokens]]:
    """The tokens of each problem's continuations; those behind a plain context are tokenized all at once."""
    listed = [choice for group in groups for choice in group]
    plain = _plain_ids([choice for choice in listed if choice.context], loaded)
    rows = iter(
        _tokens(f"{number}", *(next(plain) if choice.context else _chat_ids(choice, loaded)))
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


def _chat_ids(continuation: Continuation, loaded: LoadedModel) -> tuple[Sequence[int], Sequence[int]]:
    """Ids of the chat prompt, or of the one token that begins every text, and the text's own."""
    before = loaded.chat.prompt_ids(continuation.prompt).tolist() if continuation.prompt else [loaded.begin_id]
    return before, loaded.text_ids(continuation.text).tolist()


def _tokens(name: str, before: Sequence[int], text: Sequence[int]) -> Tokens:
    ids_T = np.array([*before, *text], dtype=np.int32)
    return Tokens(name, ids_T, np.arange(len(ids_T)) >= len(before), np.zeros(len(ids_T), dtype=np.bool_))


def _key(row: Tokens) -> bytes:
    """Digest of a row's ids and of where its response begins."""
    return hashlib.sha256(row.ids_T.tobytes() + row.in_response_T.tobytes()).digest()


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


def _scored(rows: Sequence[Tokens], loaded: LoadedModel, *, rank: bool = True) -> list[Scored]:
    if not rows:
        return []
    settings = ScoreSettings(entropy=False, rank=rank, use_store=False)
    return score_all(rows, loaded, settings)


def _nll(row: Scored) -> float:
    """Summed nll of the response, in nats."""
    (scores,) = row.scores.values()
    return float(scores.nll_T[row.tokens.in_response_T].sum(dtype=np.float64))


def _likelihood(row: Scored) -> Likelihood:
    (scores,) = row.scores.values()
    response_T = row.tokens.in_response_T
    rank_T = scores.rank_T
    if rank_T is None:  # unreachable: the settings ask for ranks
        raise RuntimeError("scores without ranks")
    return Likelihood(_nll(row), bool((rank_T[response_T] == 0).all()))
