from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tokensieve.scoring.backend import ScoreRequest, request_for, unique
from tokensieve.scoring.batching import Batch, BatchLayout, batches, find_token_budget, split_by_tokens
from tokensieve.types import Tokens, bools, ints


def _request(ids: list[int], start: int) -> ScoreRequest:
    flags = [place >= start for place in range(len(ids))]
    return request_for(Tokens("r", ints(ids), bools(flags), bools([False] * len(ids))), prompts=False)


requests_drawn = st.lists(
    st.tuples(st.lists(st.integers(0, 3), min_size=2, max_size=60), st.integers(0, 1)), min_size=1, max_size=30
).map(lambda drawn: [_request(ids, 1 + start * (len(ids) - 2)) for ids, start in drawn])


@settings(max_examples=100, deadline=None)
@given(
    requests=requests_drawn,
    budget=st.integers(1, 500),
    share=st.booleans(),
    pack=st.booleans(),
    longest=st.none() | st.integers(1, 60),
)
def test_every_request_is_in_one_batch_and_no_batch_is_over_budget(
    requests: list[ScoreRequest], budget: int, share: bool, pack: bool, longest: int | None
) -> None:
    layout = BatchLayout(shares=share, packs=pack, longest_packed=longest)
    planned = batches(requests, budget, layout)
    held = [id(request) for batch in planned for request in batch.requests]
    assert sorted(held) == sorted(id(request) for request in requests)
    for batch in planned:
        lengths = [len(request.inputs_T) - batch.shared for request in batch.requests]
        assert batch.packed == (pack and not batch.shared and (longest is None or max(lengths) < longest))
        laid_out = sum(lengths) if batch.packed else max(lengths) * len(lengths)
        assert laid_out <= budget or len(lengths) == 1
        prompts, prompt_of_row = batch.prompts()
        for request, prompt in zip(batch.requests, prompt_of_row, strict=True):
            assert request.ids_T[: batch.shared].tolist() == prompts[prompt].tolist()
        assert prompt_of_row == sorted(prompt_of_row)
        assert len({prompt.tobytes() for prompt in prompts}) == len(prompts)
        assert all(request.sources_N[0] >= batch.shared for request in batch.requests)
    again = batches(requests, budget, layout)
    assert [[id(r) for r in b.requests] for b in again] == [[id(r) for r in b.requests] for b in planned]


def test_a_prompt_of_many_responses_is_shared_and_a_short_one_is_not() -> None:
    long = [_request([*range(40), answer, 1], 40) for answer in range(8)]
    short = [_request([1, 2, 3, answer, 1], 3) for answer in range(8)]
    planned = batches([*long, *short], 4096, BatchLayout(shares=True))
    assert sorted((batch.shared, len(batch.requests)) for batch in planned) == [(0, 8), (39, 8)]
    assert [len(request.inputs_T) - 39 for batch in planned if batch.shared for request in batch.requests] == [2] * 8


def test_prompts_of_one_length_share_a_batch_up_to_the_budget() -> None:
    rows = [_request([first, *range(1, 20), answer, 1], 20) for first in range(5) for answer in range(4)]
    other_length = [_request([9, *range(1, 25), answer, 1], 25) for answer in range(4)]
    # A prompt of 19 tokens and four rows of two tokens: 27 tokens a group, so that three fit into 90.
    planned = batches([*rows, *other_length], 90, BatchLayout(shares=True))
    assert [(batch.shared, len(batch.prompts()[0]), len(batch.requests)) for batch in planned] == [
        (19, 3, 12),
        (19, 2, 8),
        (24, 1, 4),
    ]
    (first, second) = planned[0].halves()
    assert [len(half.prompts()[0]) for half in (first, second)] == [2, 2]


def test_padding_is_little_where_lengths_differ() -> None:
    requests = [_request(list(range(length)), 1) for length in (50, 3, 49, 4, 51, 2)]
    planned = batches(requests, 160)
    assert [[len(r.ids_T) for r in batch.requests] for batch in planned] == [[51, 50, 49], [4, 3, 2]]


def test_a_batch_is_halved_whole() -> None:
    batch = Batch(tuple(_request([1, 2, n], 1) for n in range(5)), shared=1, packed=True)
    first, second = batch.halves()
    assert first.requests + second.requests == batch.requests
    assert first.shared == second.shared == 1
    assert first.packed
    assert second.packed


@settings(max_examples=50, deadline=None)
@given(requests=requests_drawn, tokens=st.integers(1, 200))
def test_a_batch_is_read_in_sequences_of_like_size(requests: list[ScoreRequest], tokens: int) -> None:
    sequences = split_by_tokens(requests, tokens)
    assert [id(one) for part in sequences for one in part] == [id(one) for one in requests]
    sizes = [sum(len(one.inputs_T) for one in part) for part in sequences]
    longest = max(len(one.inputs_T) for one in requests)
    assert all(sizes)
    assert max(sizes) < 1.5 * tokens + longest


def test_a_request_is_cut_behind_its_last_place_and_shifted_once() -> None:
    flags = bools([False, False, True, True, False, False])
    request = request_for(Tokens("r", ints([9, 8, 7, 6, 5, 4]), flags, bools([False] * 6)), prompts=False)
    assert request.ids_T.tolist() == [9, 8, 7, 6]
    assert request.inputs_T.tolist() == [9, 8, 7]
    assert request.positions_N.tolist() == [2, 3]
    assert request.sources_N.tolist() == [1, 2]
    assert request.targets_N.tolist() == [7, 6]


def test_equal_requests_have_one_key_and_others_have_others() -> None:
    one, same, longer, other_places = (
        _request([1, 2, 3], 1),
        _request([1, 2, 3], 1),
        _request([1, 2, 3, 4], 1),
        _request([1, 2, 3], 2),
    )
    assert len(unique([one, same, longer, other_places])) == 3
    assert one.key == same.key


@pytest.mark.parametrize(
    ("hidden", "inner", "free_gib", "tokens"),
    [
        (3072, 8192, 70, 8192),
        (576, 1536, 70, 32_768),
        (4096, 14_336, 70, 4096),
        (192, 512, 70, 65_536),
        (3072, 8192, 1, 2048),
    ],
)
def test_a_gpus_batch_takes_about_a_gibibyte_beside_the_weights(
    monkeypatch: pytest.MonkeyPatch, hidden: int, inner: int, free_gib: int, tokens: int
) -> None:
    config = SimpleNamespace(hidden_size=hidden, intermediate_size=inner)
    model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: config), dtype=torch.bfloat16)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free_gib * 2**30, 80 * 2**30))
    assert find_token_budget(model, torch.device("cuda")) == tokens
