"""An answer depends on model, seed, problem and number alone: not on batch, order, company, or how rows are seated."""

from collections.abc import Callable

import numpy as np
import pytest

from tokensieve.config import SampleSettings
from tokensieve.models import LoadedModel
from tokensieve.sampling import LocalSampler, Request
from tokensieve.types import Sample

RULES = {
    "greedy": {"temperature": 0.0},
    "sampled": {"temperature": 1.0},
    "nucleus": {"temperature": 0.7, "top_p": 0.8},
}
FAMILIES: dict[str, dict[str, object]] = {
    "LlamaConfig": {},
    "Gemma2Config": {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 9},
}

Drawn = dict[tuple[str, int], tuple[int, ...]]


def requests(n: int = 2, *, reverse: bool = False) -> list[Request]:
    rng = np.random.default_rng(11)
    prompts = [rng.integers(6, 260, int(rng.integers(3, 40))).astype(np.int32) for _ in range(7)]
    made = [Request(f"p/{i}", (), int(rng.integers(4, 28)), n=n, prompt_T=prompt) for i, prompt in enumerate(prompts)]
    return made[::-1] if reverse else made


def samples(loaded: LoadedModel, asked: list[Request], rule: str, batch_size: int, seed: int = 0) -> list[Sample]:
    settings = SampleSettings(**RULES[rule], batch_size=batch_size, seed=seed)
    return list(LocalSampler(loaded).draw(asked, settings))


def drawn(loaded: LoadedModel, asked: list[Request], rule: str, batch_size: int, seed: int = 0) -> Drawn:
    found = {(s.problem_id, s.index): s.ids for s in samples(loaded, asked, rule, batch_size, seed)}
    assert len(found) == sum(request.n for request in asked)
    return found


@pytest.fixture(scope="module", params=FAMILIES)
def loaded(request: pytest.FixtureRequest, tiny_model: Callable[..., LoadedModel]) -> LoadedModel:
    return tiny_model(request.param, **FAMILIES[request.param])


@pytest.mark.parametrize("rule", RULES)
def test_answers_do_not_depend_on_batch_size_or_order(loaded: LoadedModel, rule: str) -> None:
    alone = drawn(loaded, requests(), rule, 1)
    assert len({len(ids) for ids in alone.values()}) > 3, "rows must end at different times for this to test anything"
    for batch_size in (3, 64):
        assert drawn(loaded, requests(), rule, batch_size) == alone
    assert drawn(loaded, requests(reverse=True), rule, 5) == alone


def test_more_answers_to_a_prompt_do_not_change_the_first_ones(loaded: LoadedModel) -> None:
    few, many = drawn(loaded, requests(1), "sampled", 8), drawn(loaded, requests(4), "sampled", 8)
    assert {key: many[key] for key in few} == few
    later = [Request(r.id, (), r.max_new_tokens, n=2, first=2, prompt_T=r.prompt_T) for r in requests()]
    assert drawn(loaded, later, "sampled", 8) == {key: ids for key, ids in many.items() if key[1] >= 2}


def test_another_seed_draws_other_answers(loaded: LoadedModel) -> None:
    one, other = (drawn(loaded, requests(), "sampled", 8, seed) for seed in (0, 1))
    assert sum(one[key] == other[key] for key in one) <= 2
    assert len(set(one.values())) > 11


def test_nll_is_the_models_own_at_temperature_1(loaded: LoadedModel) -> None:
    import torch

    by_id = {request.id: request for request in requests()}
    for sample in samples(loaded, requests(1), "nucleus", 4):
        prompt_T = by_id[sample.problem_id].prompt_T
        assert prompt_T is not None
        ids = torch.tensor([*prompt_T.tolist(), *sample.ids])
        with torch.inference_mode():
            log_probs_TV = loaded.model(ids[None]).logits[0].double().log_softmax(-1)
        places = torch.arange(len(prompt_T) - 1, len(ids) - 1)
        expected = -log_probs_TV[places, ids[len(prompt_T) :]].mean().item()
        assert sample.nll == pytest.approx(expected, abs=1e-5)


def test_samples_say_whether_they_ended_by_themselves(loaded: LoadedModel) -> None:
    found = samples(loaded, requests(), "sampled", 8)
    limits = {request.id: request.max_new_tokens for request in requests()}
    assert {sample.finished for sample in found} == {True, False}
    for sample in found:
        assert sample.finished == (sample.ids[-1] == 2)
        assert 2 not in sample.ids[:-1]
        assert sample.finished or len(sample.ids) == limits[sample.problem_id]
        text = loaded.tokenizer.decode([i for i in sample.ids if i != 2], skip_special_tokens=True)
        assert sample.text == text


def test_a_prompt_that_fills_the_context_gives_an_unfinished_empty_answer(loaded: LoadedModel) -> None:
    room = loaded.model.config.max_position_embeddings
    full = Request("full", (), 8, prompt_T=np.full(room, 9, np.int32))
    near = Request("near", (), 8, prompt_T=np.full(room - 3, 9, np.int32))
    found = {sample.problem_id: sample for sample in samples(loaded, [full, near], "sampled", 4)}
    assert (found["full"].ids, found["full"].finished) == ((), False)
    assert 1 <= len(found["near"].ids) <= 3
