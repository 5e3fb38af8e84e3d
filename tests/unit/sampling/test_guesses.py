"""Guesses at the next tokens of an answer, and answers that are drawn with them."""

from collections.abc import Callable

import numpy as np
import pytest

from tokensieve.config import SampleSettings
from tokensieve.models import LoadedModel
from tokensieve.sampling import LocalSampler, Request, decode
from tokensieve.sampling.guesses import Guesser, worth


@pytest.mark.parametrize(
    ("prompt", "answer", "room", "expected"),
    [
        ([1, 2, 3, 4, 5, 6], [9, 2, 3], 9, [4, 5]),
        ([1, 2, 3, 4, 5, 6], [9, 2, 3], 1, [4]),
        ([1, 2, 3, 4, 5, 6], [9, 2, 3], 0, []),
        ([2, 3, 7, 2, 3, 8], [2, 3], 9, [8, 2]),
        ([7, 2, 3, 4, 5, 1, 3, 4, 6], [9, 2, 3, 4], 9, [5, 1]),
        ([1, 2], [3, 4], 9, []),
        ([], [5], 9, []),
        ([], [4, 4, 4], 9, [4]),
    ],
)
def test_what_followed_the_last_tokens_before_is_guessed(
    prompt: list[int], answer: list[int], room: int, expected: list[int]
) -> None:
    assert Guesser(np.array(prompt, np.int32)).guess(answer, room) == expected


def test_the_reach_grows_with_what_came_true() -> None:
    guesser = Guesser(np.zeros(0, np.int32))
    reaches = []
    for made, right in ((2, 2), (4, 4), (8, 8), (16, 16), (16, 3), (3, 0), (0, 0), (1, 1)):
        guesser.learn(made, right)
        reaches.append(guesser.reach)
    assert reaches == [4, 8, 16, 16, 3, 1, 1, 2]


@pytest.mark.parametrize(
    ("lengths", "expected"), [([], 0), ([0], 0), ([5], 5), ([5, 0], 5), ([5, 0, 0], 0), ([1, 1, 0, 8], 2)]
)
def test_at_most_half_of_a_pass_is_padding(lengths: list[int], expected: int) -> None:
    assert worth([[0] * length for length in lengths]) == expected


@pytest.mark.parametrize("temperature", [0.0, 0.3])
@pytest.mark.parametrize("few", [2, 100])
def test_answers_are_those_of_single_steps(
    monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[..., LoadedModel], temperature: float, few: int
) -> None:
    loaded = tiny_model("LlamaConfig")
    rng = np.random.default_rng(3)
    prompts = [np.tile(rng.integers(6, 260, 5), 3).astype(np.int32)[: int(rng.integers(4, 15))] for _ in range(4)]
    asked = [Request(f"p/{i}", (), 12 + 11 * i, prompt_T=prompt, n=2) for i, prompt in enumerate(prompts)]
    settings = SampleSettings(temperature=temperature, batch_size=8)
    passes = {}
    for limit in (0, few):
        monkeypatch.setattr(decode, "_FEW", limit)
        counted: list[int] = []
        handle = loaded.model.register_forward_pre_hook(lambda *_, counted=counted: counted.append(1))
        drawn = {(s.problem_id, s.index): (s.ids, s.finished) for s in LocalSampler(loaded).draw(asked, settings)}
        handle.remove()
        passes[limit] = (len(counted), drawn)
    assert passes[few][1] == passes[0][1]
    if temperature == 0 and few > 1:
        assert passes[few][0] < passes[0][0], "greedy answers of a random model go round in circles"
