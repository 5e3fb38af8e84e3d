"""Answers that are chosen among given texts: their likelihoods are the model's own, and the likeliest is the answer."""

import json
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest

from tokensieve.config import EvaluateSettings
from tokensieve.errors import InputError
from tokensieve.evaluation import evaluate, open_evaluation
from tokensieve.models import LoadedModel
from tokensieve.sampling import LocalSampler, ScriptedSampler, loglikelihood
from tokensieve.sampling.loglikelihood import choose_by_likelihood
from tokensieve.scoring import score_all
from tokensieve.tasks import TASKS, Continuation, Likelihood, LikelihoodChoice, Task
from tokensieve.types import Message, Outcome, Problem, Scored, Tokens, Verdict

CHOICES = ("red", "blue", "a dark green")


def task_of(choices: Sequence[str], seen: list[Sequence[Likelihood]], *, alone: bool = False) -> Task:
    prompt: tuple[Message, ...] = ({"role": "user", "content": "Which colour?"},)
    problems = [Problem(f"colours/test/{number}", "colours", prompt, choices[0]) for number in range(2)]

    def judge(problem: Problem, likelihoods: Sequence[Likelihood]) -> Verdict:
        seen.append(likelihoods)
        best = min(range(len(choices)), key=lambda place: likelihoods[place].nll)
        return Verdict(Outcome.CORRECT if best == 0 else Outcome.WRONG, choices[best])

    def continuations(problem: Problem) -> list[Continuation]:
        return [Continuation(() if alone else problem.prompt, text) for text in choices]

    return Task(
        "colours",
        "",
        ("test",),
        lambda split, folder: iter(problems),
        lambda problem, answer: Verdict(Outcome.NOT_JUDGED),
        likelihood_choice=LikelihoodChoice(continuations, judge),
    )


@pytest.fixture(scope="module")
def loaded(tiny_model: Callable[..., LoadedModel]) -> LoadedModel:
    return tiny_model()


def weighed(task: Task, loaded: LoadedModel) -> list[object]:
    assert task.likelihood_choice is not None
    return list(choose_by_likelihood(task, task.likelihood_choice, list(task.load("test", None)), LocalSampler(loaded)))


@pytest.mark.parametrize("alone", [False, True])
def test_likelihoods_are_the_model_s_own(
    loaded: LoadedModel,
    plain_scores: Callable[[LoadedModel, list[int]], tuple[list[float], list[float], list[int]]],
    alone: bool,
) -> None:
    seen: list[Sequence[Likelihood]] = []
    task = task_of(CHOICES, seen, alone=alone)
    weighed(task, loaded)
    prompt = next(iter(task.load("test", None))).prompt
    before = [0] if alone else loaded.chat.prompt_ids(prompt).tolist()
    for text, found in zip(CHOICES, seen[0], strict=True):
        ids = loaded.tokenizer(text, add_special_tokens=False)["input_ids"]
        nll, _, rank = plain_scores(loaded, before + ids)
        assert found.nll == pytest.approx(sum(nll[len(before) - 1 :]), abs=1e-3)
        assert found.greedy == (max(rank[len(before) - 1 :]) == 0)


def test_texts_without_a_prompt_need_no_chat_template(loaded: LoadedModel) -> None:
    """A base model has none."""
    tokenizer = deepcopy(loaded.tokenizer)
    tokenizer.chat_template = None
    base = replace(loaded, tokenizer=tokenizer)
    seen: list[Sequence[Likelihood]] = []
    for model in (loaded, base):
        weighed(task_of(CHOICES, seen, alone=True), model)
    assert [one.nll for one in seen[0]] == [one.nll for one in seen[-1]]
    assert base.begin_id == loaded.chat.begin_id
    with pytest.raises(InputError, match="no chat template"):
        weighed(task_of(CHOICES, seen), base)


def test_the_likeliest_text_is_the_answer_and_lies_in_an_evaluation(
    loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Sequence[Likelihood]] = []
    monkeypatch.setitem(TASKS, "colours", task_of(CHOICES, seen))
    evaluate(loaded, EvaluateSettings(tasks=("colours",)), tmp_path / "out")
    samples = list(open_evaluation(tmp_path / "out").rows)
    assert len(samples) == 2
    best = min(range(3), key=lambda place: seen[0][place].nll)
    for sample in samples:
        assert sample.text == CHOICES[best]
        assert loaded.tokenizer.decode(list(sample.ids)) == CHOICES[best]
        assert sample.nll == pytest.approx(seen[0][best].nll / len(sample.ids))
        assert sample.verdict == Verdict(Outcome.CORRECT if best == 0 else Outcome.WRONG, CHOICES[best])


def test_two_measures_of_one_benchmark_score_its_texts_once(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = [
        {"query": f"Question: {word}?", "choices": ["yes", "no", "perhaps not"], "gold": 2} for word in ("red", "blue")
    ]
    (tmp_path / "arc_easy.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    scored: list[int] = []
    original = score_all

    def counted(listed: Sequence[Tokens], *rest: object) -> list[Scored]:
        scored.append(len(listed))
        return original(listed, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(loglikelihood, "score_all", counted)
    result = evaluate(loaded, EvaluateSettings(tasks=("arc_easy:nll", "arc_easy:nll_norm"), data=tmp_path))
    assert scored == [6]
    summed, per_character = ([s for s in result.rows if s.task == f"arc_easy:{name}"] for name in ("nll", "nll_norm"))
    for one, other in zip(summed, per_character, strict=True):
        assert one.verdict is not None
        assert other.verdict is not None
        nlls, per = (
            [float(value) for value in verdict.reason.split(" nats")[0].split(", ")]
            for verdict in (one.verdict, other.verdict)
        )
        assert per == pytest.approx([nll / length for nll, length in zip(nlls, (3, 2, 11), strict=True)], rel=1e-3)
        assert one.verdict.extracted == ("yes", "no", "perhaps not")[nlls.index(min(nlls))]
        assert other.verdict.extracted == ("yes", "no", "perhaps not")[per.index(min(per))]
        assert (one.text.strip(), other.text.strip()) == (one.verdict.extracted, other.verdict.extracted)


def test_behind_a_plain_context_the_tokens_are_those_of_the_whole_text(
    loaded: LoadedModel,
    plain_scores: Callable[[LoadedModel, list[int]], tuple[list[float], list[float], list[int]]],
) -> None:
    seen: list[Sequence[Likelihood]] = []
    task = task_of(CHOICES, seen)
    assert task.likelihood_choice is not None
    choice = replace(
        task.likelihood_choice,
        continuations=lambda problem: [Continuation((), f"{text}.", "The colour is ") for text in CHOICES],
    )
    choose_by_likelihood(task, choice, list(task.load("test", None))[:1], LocalSampler(loaded))
    before = loaded.tokenizer("The colour is")["input_ids"]
    for text, found in zip(CHOICES, seen[0], strict=True):
        ids = loaded.tokenizer(f"The colour is {text}.")["input_ids"]
        nll = plain_scores(loaded, ids)[0]
        assert found.nll == pytest.approx(sum(nll[len(before) - 1 :]), abs=1e-3)


def test_a_text_beyond_the_context_is_not_judged(loaded: LoadedModel) -> None:
    seen: list[Sequence[Likelihood]] = []
    task = task_of(("red", "x" * 300), seen)
    assert task.likelihood_choice is not None
    for sample in choose_by_likelihood(
        task, task.likelihood_choice, list(task.load("test", None)), LocalSampler(loaded)
    ):
        assert sample.verdict is not None
        assert sample.verdict.outcome is Outcome.NOT_JUDGED
        assert "context" in sample.verdict.reason
    assert seen == []


def test_a_sampler_that_tells_no_likelihoods_is_refused() -> None:
    task = task_of(CHOICES, [])
    assert task.likelihood_choice is not None
    with pytest.raises(InputError, match="a model in this process"):
        choose_by_likelihood(task, task.likelihood_choice, [], ScriptedSampler({}))
